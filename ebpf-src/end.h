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

#endif

/* One look at the flow whose forward key is the frame's payload. One CPU wins the slot, under its lock. A flow that
 * lost its forward entry is gone: user space finds none without, and its client's next packet asks the rules. A
 * function that the verifier follows once, and not for each look. */
__noinline int endN(struct __sk_buff *skb)
{
	__u32 *at, slot, generation;
	struct keyN key;
	indexN room;
	struct flowN *f;
	__u8 state;
	int won;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &key, sizeof(key)))
		return ENDED_GONE;
	at = bpf_map_lookup_elem(&idxN, index_atN(&key, &room));
	if (!at)
		return ENDED_GONE;
	slot = READ_ONCE(*at);
	f = slotN(slot);
	if (!f)
		return ENDED_GONE;
	generation = READ_ONCE(f->generation);
	barrier();
	if (vacant(READ_ONCE(f->state)))
		return ENDED_GONE;
	barrier();
	if (!key_equalN(&f->fwd, &key))
		return ENDED_GONE;
	bpf_spin_lock(&f->lock);
	state = f->state;
	won = f->generation == generation && state != FLOW_FREE && state != FLOW_TAKEN && state != FLOW_MOVED &&
	      state != FLOW_ENDING;
	if (won)
		f->state = FLOW_ENDING;
	bpf_spin_unlock(&f->lock);
	if (won)
		return leaveN(slot, FLOW_FREE, state == FLOW_CONFIRMED) ? ENDED_NOW : ENDED_GONE;
	return state == FLOW_MOVED || state == FLOW_ENDING ? ENDED_MOVING : ENDED_GONE;
}
