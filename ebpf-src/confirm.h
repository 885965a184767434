/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: moves a flow whose client has heard the server from its half-open slot, which a flood overwrites, to
 * a confirmed slot, which only idle time frees. This is also all the expiry there is: nobody sweeps, the one who needs
 * a slot takes one that is free or whose flow has been idle too long.
 */
#define flow_takableN   F(flow_takable)
#define confirmed_takeN F(confirmed_take)
#define confirmed_slotN F(confirmed_slot)
#define repointN        F(repoint)
#define flow_confirmN   F(flow_confirm)
#define flow_reopenedN  F(flow_reopened)

/* Slots looked at before giving up: at 90 % live flows eight looks fail in 43 of 100 cases, and each further packet of
 * the client looks again. */
#define CONFIRM_LOOKS 8

static __always_inline int flow_takableN(const struct flowN *f, __u32 now)
{
	return f->state == FLOW_FREE || (f->state != FLOW_TAKEN && flow_expiredN(f, now));
}

/* Makes the slot ours if it may be taken; the index entries of the tenant before go. */
static __always_inline int confirmed_takeN(struct flowN *f, __u32 slot, __u32 now)
{
	struct keyN fwd, rev;
	__u8 before;
	int taken;

	if (!flow_takableN(f, now))
		return 0;
	bpf_spin_lock(&f->lock);
	before = f->state;
	taken = flow_takableN(f, now);
	if (taken) {
		f->state = FLOW_TAKEN;
		f->generation++;
	}
	bpf_spin_unlock(&f->lock);
	if (taken && before != FLOW_FREE) {
		fwd = f->fwd;
		rev = index_keyN(&f->rev, f->marks);
		forgetN(&fwd, slot);
		forgetN(&rev, slot);
	}
	return taken;
}

/* A confirmed slot in state FLOW_TAKEN, or none. Each CPU has a hand of its own that starts in its own part and goes
 * all the way round; the lock decides where two meet. */
static __always_inline struct flowN *confirmed_slotN(__u32 *slot, __u32 now)
{
	__u32 family = FAMILY == 6, start = bpf_get_smp_processor_id() * (cfg.confirmed_slotsN / cfg.cpus);
	struct hands *h = bpf_map_lookup_elem(&hands, &family);

	if (!h)
		return 0;
	for (int look = 0; look < CONFIRM_LOOKS; look++) {
		__u32 n = h->confirmed < cfg.confirmed_slotsN ? h->confirmed : 0;
		struct flowN *f;

		h->confirmed = n + 1;
		n += start;
		*slot = cfg.cpus * cfg.half_slotsN + (n < cfg.confirmed_slotsN ? n : n - cfg.confirmed_slotsN);
		f = slotN(*slot);
		if (!f)
			return 0;
		if (confirmed_takeN(f, *slot, now))
			return f;
	}
	return 0;
}

/* Points an index entry elsewhere, in place: a replaced element could be another key's before a reader is done with it.
 */
static __always_inline void repointN(const struct keyN *key, __u32 from, __u32 to)
{
	__u32 *at = bpf_map_lookup_elem(&idxN, key);

	if (!at)
		bpf_map_update_elem(&idxN, key, &to, BPF_NOEXIST);
	else if (*at == from)
		*at = to;
}

/* Called with the found flow in state FLOW_ANSWERED. Two CPUs may try at once, and the ring may come round meanwhile:
 * one wins, under the lock of the half-open slot. That slot keeps its keys in state FLOW_MOVED for readers who looked
 * up the index before. */
static __always_inline void flow_confirmN(struct __sk_buff *skb, const struct foundN *found, const struct keyN *fwd,
                                          __u32 now)
{
	struct flowN *half = found->flow;
	struct flowN *f;
	struct keyN rev;
	__u32 slot;
	int won;

	f = confirmed_slotN(&slot, now);
	if (!f) {
		count_reason(REASON_FULL);
		if (wanted(EVENT_FULL, now) && full_is_news(now))
			tell_flowN(skb, found->slot, EVENT_FULL);
		return;
	}
	bpf_spin_lock(&half->lock);
	won = half->state == FLOW_ANSWERED && half->generation == found->generation;
	if (won)
		half->state = FLOW_MOVED;
	bpf_spin_unlock(&half->lock);
	if (!won) {
		f->state = FLOW_FREE;
		return;
	}
	f->fwd = *fwd;
	f->rev = found->other;
	f->marks = half->marks;
	f->rule = half->rule;
	f->rules_generation = half->rules_generation;
	f->first = half->first;
	f->last = now;
	f->expect = half->expect;
	f->closed[DIR_FORWARD] = half->closed[DIR_FORWARD];
	f->closed[DIR_REVERSE] = half->closed[DIR_REVERSE];
	f->packets[DIR_FORWARD] = half->packets[DIR_FORWARD];
	f->packets[DIR_REVERSE] = half->packets[DIR_REVERSE];
	f->bytes[DIR_FORWARD] = half->bytes[DIR_FORWARD];
	f->bytes[DIR_REVERSE] = half->bytes[DIR_REVERSE];
	barrier();
	f->state = flow_closedN(f) ? FLOW_CLOSING : FLOW_CONFIRMED;
	repointN(fwd, found->slot, slot);
	rev = index_keyN(&f->rev, f->marks);
	repointN(&rev, found->slot, slot);
	if (wanted(EVENT_FLOW_CONFIRMED, now))
		tell_flowN(skb, slot, EVENT_FLOW_CONFIRMED);
}

/* A SYN on a flow that is closing begins a new one: the rules are asked again. One CPU wins; 1 if the flow is gone. */
static __always_inline int flow_reopenedN(const struct foundN *found, const struct packetN *p)
{
	struct flowN *f = found->flow;
	int won;

	if (found->state != FLOW_CLOSING || (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return 0;
	bpf_spin_lock(&f->lock);
	won = f->state == FLOW_CLOSING && f->generation == found->generation;
	if (won)
		f->state = FLOW_TAKEN;
	bpf_spin_unlock(&f->lock);
	if (!won)
		return 0;
	forgetN(&p->key, found->slot);
	forgetN(&found->other, found->slot);
	f->state = FLOW_FREE;
	return 1;
}
