/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: ends one flow beside the running programs, by the rules that they themselves follow. */
#define endN F(end)

#ifndef DETOUR_END_H
#define DETOUR_END_H

/* What became of it: the program's return value. */
enum ended {
	ENDED_GONE = 0, /* it was not there any more */
	ENDED_NOW = 1,
	ENDED_MOVING = 2, /* it is being confirmed or reopened, longer than we wait */
};

/* Looks at a flow that another CPU is moving to its confirmed slot, or ends: that takes a microsecond. */
#define END_LOOKS 64

#endif

/* One CPU wins the slot, under its lock. While its keys leave the index the flow is still found, in state FLOW_ENDING:
 * were it not, its client's next packet would open another one, whose entries we could take away. The forward key goes
 * last, so that nobody asks the rules before the reverse key can be claimed anew. */
static __always_inline int endN(const struct keyN *key)
{
	for (int look = 0; look < END_LOOKS; look++) {
		__u32 *at = bpf_map_lookup_elem(&idxN, key), slot, generation;
		struct flowN *f;
		struct keyN rev;
		__u8 state;
		int won;

		if (!at)
			return ENDED_GONE;
		slot = READ_ONCE(*at);
		f = slotN(slot);
		if (!f)
			return ENDED_GONE;
		generation = READ_ONCE(f->generation);
		barrier();
		if (!key_equalN(&f->fwd, key))
			return ENDED_GONE;
		rev = index_keyN(&f->rev, f->marks);
		bpf_spin_lock(&f->lock);
		state = f->state;
		won = f->generation == generation && state != FLOW_FREE && state != FLOW_TAKEN && state != FLOW_MOVED &&
		      state != FLOW_ENDING;
		if (won)
			f->state = FLOW_ENDING;
		bpf_spin_unlock(&f->lock);
		if (!won && (state == FLOW_MOVED || state == FLOW_ENDING))
			continue;
		if (!won)
			return ENDED_GONE;
		forgetN(&rev, slot);
		forgetN(key, slot);
		if (state == FLOW_CONFIRMED)
			client_countN(key->src, -1);
		bpf_spin_lock(&f->lock);
		if (f->generation == generation && f->state == FLOW_ENDING) {
			f->state = FLOW_FREE;
			f->generation++;
		}
		bpf_spin_unlock(&f->lock);
		return ENDED_NOW;
	}
	return ENDED_MOVING;
}
