/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: moves a flow whose client has heard the server from its half-open slot, which a flood overwrites, to
 * a confirmed slot, which only idle time frees. This is also all the expiry there is: nobody sweeps, the one who needs
 * a slot takes one that is free or whose flow has been idle too long.
 */
#define flow_takableN  F(flow_takable)
#define takeN          F(take)
#define looks_takableN F(looks_takable)
#define takable_slotN  F(takable_slot)
#define repointN       F(repoint)
#define confirmN       F(confirm)
#define livesN         F(lives)
#define may_openN      F(may_open)
#define knownN         F(known)

/* Slots looked at before giving up, 7 ns each: with 99 of 100 in use, 8 of 100 such looks find none. */
#define LOOKS 256

static __always_inline int flow_takableN(const struct flowN *f, __u32 now)
{
	return f->state == FLOW_FREE || (f->state != FLOW_TAKEN && f->state != FLOW_ENDING && flow_expiredN(f, now));
}

/* Puts the slot into state `next` if it may be taken; the tenant before leaves. */
static __always_inline int takeN(struct flowN *f, __u32 slot, enum flow_state next, __u32 now)
{
	__u8 before;
	int taken;

	if (!flow_takableN(f, now))
		return 0;
	bpf_spin_lock(&f->lock);
	before = f->state;
	taken = flow_takableN(f, now);
	if (taken && before == FLOW_FREE)
		f->generation++;
	if (taken)
		f->state = before == FLOW_FREE ? next : FLOW_ENDING;
	bpf_spin_unlock(&f->lock);
	return taken && (before == FLOW_FREE || leaveN(slot, next, before == FLOW_CONFIRMED));
}

/* May it be taken; with `tenants` only if there is a flow to be put out? A function by itself, as below. */
__noinline int looks_takableN(__u32 slot, __u32 tenants, __u32 now)
{
	struct flowN *f = slotN(slot);

	return f && flow_takableN(f, now) && !(tenants && f->state == FLOW_FREE);
}

/* Brings this CPU's hand to a confirmed slot that may be taken, and says which; -1 if there is none within reach. With
 * `tenants` one whose flow has been idle for too long. Each hand starts in its CPU's own part and goes all the way
 * round. A function that the verifier follows by itself. */
__noinline int takable_slotN(__u32 tenants, __u32 now)
{
	__u32 family = FAMILY == 6, start = bpf_get_smp_processor_id() * (cfg.confirmed_slotsN / cfg.cpus);
	struct hands *h = bpf_map_lookup_elem(&hands, &family);

	if (!h)
		return -1;
	for (int look = 0; look < LOOKS; look++) {
		/* Read anew each time, so that for the verifier all rounds are alike. */
		__u32 n = READ_ONCE(h->confirmed), at;

		if (n >= cfg.confirmed_slotsN)
			n = 0;
		at = n + start;
		at = cfg.cpus * cfg.half_slotsN + (at < cfg.confirmed_slotsN ? at : at - cfg.confirmed_slotsN);
		if (looks_takableN(at, tenants, now)) {
			h->confirmed = n;
			return at;
		}
		*(volatile __u32 *)&h->confirmed = n + 1;
	}
	return -1;
}

/* Why the rules' new flow may not be opened. A client at its limit makes us look for flows that are over and count. */
static __always_inline enum reason may_openN(const struct keyN *key, __u32 now)
{
	enum reason reason;
	struct flowN *f;
	int slot;

	if (cfg.flags & (CFG_FULL_DROP | CFG_FULL_REJECT | CFG_FULL_PASS) && takable_slotN(0, now) < 0)
		return REASON_NO_ROOM;
	if (!clients_limited())
		return REASON_NONE;
	reason = client_opensN(key->src, now);
	if (reason != REASON_CLIENT_LIVE)
		return reason;
	slot = takable_slotN(1, now);
	f = slot < 0 ? 0 : slotN(slot);
	if (f)
		takeN(f, slot, FLOW_FREE, now);
	return reason;
}

/* Points an index entry elsewhere, in place: a replaced element could be another key's before a reader is done with it.
 */
static __always_inline void repointN(const indexN *index, __u32 from, __u32 to)
{
	__u32 *at = bpf_map_lookup_elem(&idxN, index);

	if (!at)
		bpf_map_update_elem(&idxN, index, &to, BPF_NOEXIST);
	else if (*at == from)
		*at = to;
}

/* Called for the packet of this_workN(), whose flow is in the half-open slot `from` in state FLOW_ANSWERED; its reverse
 * key is in w->rev. Two CPUs may try at once, and the ring may come round meanwhile: one wins, under the lock of the
 * half-open slot. That slot keeps its keys in state FLOW_MOVED for readers who looked up the index before, and says
 * where the flow is now; under the lock, so that what is counted there from then on is not overwritten. Returns the
 * flow's slot, whoever won; -1 if it stays. A function that the verifier follows by itself. */
__noinline int confirmN(struct __sk_buff *skb, __u32 from, __u32 generation, __u32 now)
{
	struct workN *w = this_workN();
	struct flowN *half = slotN(from), *f = 0;
	indexN room;
	__u32 slot = 0;
	int at, won, closed;

	if (!w || !half)
		return -1;
	at = client_fullN(w->packet.key.src) ? -1 : takable_slotN(0, now);
	if (at >= 0) {
		slot = at;
		f = slotN(slot);
	}
	if (!f || !takeN(f, slot, FLOW_TAKEN, now)) {
		count_reason(REASON_FULL);
		if (wanted(EVENT_FULL, now) && full_is_news(now))
			tell_flowN(skb, from, EVENT_FULL);
		return -1;
	}
	at = -1;
	bpf_spin_lock(&half->lock);
	won = half->state == FLOW_ANSWERED && half->generation == generation;
	if (won) {
		f->fwd = half->fwd;
		f->rev = half->rev;
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
		half->first = slot;
		barrier();
		half->state = FLOW_MOVED;
	} else if (half->state == FLOW_MOVED && half->generation == generation) {
		at = half->first;
	}
	bpf_spin_unlock(&half->lock);
	if (!won) {
		f->state = FLOW_FREE;
		return at;
	}
	/* Those who follow the flow note FIN and RST here already. */
	bpf_spin_lock(&f->lock);
	closed = flow_closedN(f);
	f->state = closed ? FLOW_CLOSING : FLOW_CONFIRMED;
	bpf_spin_unlock(&f->lock);
	if (!closed)
		client_countN(w->packet.key.src, 1);
	repointN(index_atN(&w->packet.key, &room), from, slot);
	repointN(index_reverseN(&w->rev, f->marks, &room), from, slot);
	if (wanted(EVENT_FLOW_CONFIRMED, now))
		tell_flowN(skb, slot, EVENT_FLOW_CONFIRMED);
	return slot;
}

/* The client of the packet at hand has confirmed the flow in this slot. A function that the verifier follows by itself.
 */
__noinline int knownN(struct __sk_buff *skb, __u32 slot, __u32 now)
{
	struct asked_key asked __attribute__((aligned(8)));
	const struct flowN *f = slotN(slot);
	struct workN *w = this_workN();

	if (!w || !f || f->marks & MARK_DIRECT)
		return 0;
	w->outcome = (struct outcome){
		.rules_generation = f->rules_generation,
		.settled = now + NEVER,
		.rule = f->rule,
		.verdict = VERDICT_DNAT,
		.served = has_ports(f->fwd.proto) ? SERVED_YES : SERVED_UNKNOWN,
	};
	asked_keyN(&asked, &w->packet.key);
	asked_known(&asked, skb->len, now, &w->outcome);
	return 0;
}

/* Goes on to where the flow of the packet of this_workN() lives, which was found in a half-open slot: there still, or
 * it moves with this packet, or it has moved since the index was read. */
static __always_inline void livesN(struct __sk_buff *skb, struct workN *w, struct foundN *found, __u32 now)
{
	int at = -1;

	if (found->state == FLOW_ANSWERED && client_heardN(found->flow, &w->packet)) {
		w->rev = found->other;
		at = confirmN(skb, found->slot, found->generation, now);
		if (at >= 0)
			knownN(skb, at, now);
	} else if (found->state == FLOW_MOVED) {
		at = flow_movedN(found);
	}
	flow_followN(found, at);
}
