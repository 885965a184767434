/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: ends one flow beside the running programs, by the rules that they themselves follow. */
#define endN F(end)

#ifndef DETOUR_END_H
#define DETOUR_END_H

/* What became of it: the program's return value. */
enum ended {
	ENDED_GONE = 0, /* it was not there any more */
	ENDED_NOW = 1,
	ENDED_MOVING = 2, /* it is being confirmed, longer than we wait */
};

/* Looks at a flow that another CPU is moving to its confirmed slot: that takes a microsecond. */
#define END_LOOKS 64

#endif

/* One CPU wins the slot, under its lock. A half-open one is free at once: its ring may come round, and takes no notice
 * of others. A confirmed one is free when its keys are out of the index, like that of a flow that is reopened. */
static __always_inline int endN(const struct keyN *key)
{
	for (int look = 0; look < END_LOOKS; look++) {
		__u32 *at = bpf_map_lookup_elem(&idxN, key), slot, generation;
		struct flowN *f;
		struct keyN rev;
		int won, half;
		__u8 state;

		if (!at)
			return ENDED_GONE;
		slot = *at;
		f = slotN(slot);
		if (!f)
			return ENDED_GONE;
		generation = READ_ONCE(f->generation);
		barrier();
		if (!key_equalN(&f->fwd, key))
			return ENDED_GONE;
		rev = index_keyN(&f->rev, f->marks);
		half = slot < cfg.cpus * cfg.half_slotsN;
		bpf_spin_lock(&f->lock);
		state = f->state;
		won = f->generation == generation && state != FLOW_FREE && state != FLOW_TAKEN && state != FLOW_MOVED;
		if (won) {
			f->state = half ? FLOW_FREE : FLOW_TAKEN;
			f->generation++;
		}
		bpf_spin_unlock(&f->lock);
		if (!won && state == FLOW_MOVED)
			continue;
		if (!won)
			return ENDED_GONE;
		forgetN(key, slot);
		forgetN(&rev, slot);
		if (state == FLOW_CONFIRMED)
			client_countN(key->src, -1);
		if (!half)
			f->state = FLOW_FREE;
		return ENDED_NOW;
	}
	return ENDED_MOVING;
}
