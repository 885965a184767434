/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: a packet that arrives or leaves becomes one of its flow's other side; one without flow is left to
 * arriveN, or passes. */
#define inN          F(in)
#define from_targetN F(from_target)
#define lost_flowN   F(lost_flow)
#define outN         F(out)
#define arrivesN     F(arrives)
#define leavesN      F(leaves)
#define nextN        F(next)

static __always_inline int arrivesN(struct __sk_buff *skb, struct workN *w, __u32 now)
{
	struct foundN found;
	struct keyN to;
	int shown;

	if (!flow_findN(&w->packet.key, DIR_FORWARD, now, &found) || flow_reopenedN(skb, w, &found))
		return arriveN(&w->packet);
	if (found.marks & MARK_MASQUERADE) {
		w->slot = found.slot;
		return NEXT_MASQUERADED;
	}
	if (found.state < FLOW_TAKEN)
		livesN(skb, w, &found, now);
	flow_countN(skb, found.flow, DIR_FORWARD, now);
	flow_tcpN(&found, &w->packet, DIR_FORWARD);
	if (found.state == FLOW_CONFIRMED && found.flow->state == FLOW_CLOSING && wanted(EVENT_FLOW_CLOSED, now))
		tell_flowN(skb, found.slot, EVENT_FLOW_CLOSED);
	to = key_mirrorN(&found.other);
	shown = wanted(EVENT_PACKET, now);
	if (shown)
		show_packetN(skb, w, &found, STAGE_IN);
	if (rewriteN(skb, &w->packet, DIR_FORWARD, &to))
		return drop(REASON_REWRITE);
	if (shown)
		show_packetN(skb, w, &found, STAGE_IN_DONE);
	return TC_ACT_UNSPEC;
}

/* A packet that arrives. Returns what becomes of it, or what is to be done next (enum next). */
static __always_inline int inN(struct __sk_buff *skb)
{
	struct workN *w = this_workN();
	__u32 now = now_tick();
	enum reason reason;
	int next;

	if (!w)
		return TC_ACT_UNSPEC;
	reason = parseN(skb, DIR_FORWARD, &w->packet);
	if (cfg.flags & CFG_SEALED && routedN(skb, &w->packet, reason))
		return drop(REASON_SEALED);
	if (reason && reason != REASON_ICMP && reason != REASON_FRAGMENT)
		return pass_inN(skb, reason);
	if (skb->pkt_type != PACKET_HOST)
		return pass_inN(skb, REASON_NOT_FOR_US);
	if (reason == REASON_FRAGMENT)
		return NEXT_FRAGMENT;
	next = reason ? NEXT_ICMP : arrivesN(skb, w, now);
	if (!w->packet.first || next >= NEXT_OPEN)
		return next;
	w->verdict = next;
	return NEXT_FIRST;
}

/* Does the packet at hand, a SYN-ACK, come from a target, and had its SYN to open a flow? A function of its own, as
 * those of arrive.h. */
__noinline int from_targetN(void)
{
	struct workN *w = this_workN();
	struct keyN syn;
	__u32 server;

	if (!w)
		return 0;
	syn = key_mirrorN(&w->packet.key);
	server = local_flagsN(syn.dst);
	return server & LOCAL_TARGET && !excludedN(&syn, local_flagsN(syn.src), server);
}

/* A SYN-ACK of a target whose SYN opened a flow, as each one did that was not excluded: the flow has been overwritten
 * since, and untranslated its client would refuse it. */
static __always_inline int lost_flowN(const struct packetN *p)
{
	return cfg.flags & CFG_SYN_TRACKEDN && p->key.proto == IPPROTO_TCP &&
	       (p->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) && from_targetN();
}

static __always_inline int leavesN(struct __sk_buff *skb, struct workN *w, __u32 now)
{
	const struct packetN *p = &w->packet;
	struct foundN found;
	struct keyN to;
	int shown;

	w->to = index_keyN(&p->key, any_sourceN(&p->key));
	if (!flow_findN(&w->to, DIR_REVERSE, now, &found)) {
		if (lost_flowN(p))
			return drop(REASON_SYN_ACK);
		if (p->key.proto == IPPROTO_UDP && p->key.sport == bpf_htons(53) && wanted(EVENT_DNS, now))
			tell_passingN(skb, EVENT_DNS);
		return pass(REASON_OUT_NO_FLOW);
	}
	if (found.state == FLOW_MOVED)
		flow_followN(&found, flow_movedN(&found));
	flow_countN(skb, found.flow, DIR_REVERSE, now);
	flow_tcpN(&found, p, DIR_REVERSE);
	if (found.state == FLOW_CONFIRMED && found.flow->state == FLOW_CLOSING && wanted(EVENT_FLOW_CLOSED, now))
		tell_flowN(skb, found.slot, EVENT_FLOW_CLOSED);
	flow_answeredN(&found, p);
	to = key_mirrorN(&found.other);
	if (found.marks & MARK_DIRECT) /* from whichever address the server answers: the client chose to ask us */
		to.src = p->key.src;
	shown = wanted(EVENT_PACKET, now);
	if (shown)
		show_packetN(skb, w, &found, STAGE_OUT);
	if (rewriteN(skb, p, DIR_REVERSE, &to))
		return drop(REASON_REWRITE);
	if (shown)
		show_packetN(skb, w, &found, STAGE_OUT_DONE);
	if (to.proto == IPPROTO_UDP && to.sport == bpf_htons(53) && wanted(EVENT_DNS, now)) {
		w->rev = found.other;
		w->slot = found.slot;
		tell_packetN(skb, EVENT_DNS, STAGE_OUT_DONE);
	}
	return TC_ACT_UNSPEC;
}

/* A packet that leaves. As inN. */
static __always_inline int outN(struct __sk_buff *skb)
{
	struct workN *w = this_workN();
	__u32 now = now_tick();
	enum reason reason;
	int next;

	if (!w)
		return TC_ACT_UNSPEC;
	reason = parseN(skb, DIR_REVERSE, &w->packet);
	if (reason == REASON_FRAGMENT)
		return NEXT_FRAGMENT;
	if (reason && reason != REASON_ICMP)
		return pass(reason);
	next = reason ? NEXT_ICMP : leavesN(skb, w, now);
	if (!w->packet.first || next >= NEXT_OPEN)
		return next;
	w->verdict = next;
	return NEXT_FIRST;
}

/* What inN or outN leave to do. */
static __always_inline int nextN(struct __sk_buff *skb, enum dir dir, int next)
{
	struct workN *w;
	__u32 now;

	if (next < NEXT_OPEN)
		return next == REFUSE ? refuseN(skb) : next;
	now = now_tick();
	if (next == NEXT_FRAGMENT)
		return frag_laterN(skb, dir, now);
	w = this_workN();
	if (dir == DIR_FORWARD && next == NEXT_ICMP && echo_returnsN(skb, now))
		next = NEXT_MASQUERADED;
	if (next == NEXT_FIRST)
		next = w ? w->verdict : TC_ACT_SHOT;
	else if (next == NEXT_ICMP)
		next = icmp_otherN(skb, dir, now);
	else if (dir == DIR_REVERSE)
		next = TC_ACT_UNSPEC;
	else
		next = next == NEXT_MASQUERADED ? masqueradedN(skb, now) : openN(skb, now);
	if (w && w->packet.first)
		next = frag_firstN(skb, dir, next, now);
	return next == REFUSE ? refuseN(skb) : next;
}
