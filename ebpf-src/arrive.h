/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: decides what becomes of a packet that belongs to no flow, and does it. */
#define reply_arrivesN F(reply_arrives)
#define may_replyN     F(may_reply)
#define loopedN        F(looped)
#define send_backN     F(send_back)
#define decideN        F(decide)
#define excludedN      F(excluded)
#define opens_directN  F(opens_direct)
#define may_startN     F(may_start)
#define refusedN       F(refused)
#define acceptedN      F(accepted)
#define noteN          F(note)
#define openN          F(open)
#define arriveN        F(arrive)
#define tell_arrivedN  F(tell_arrived)

#ifndef DETOUR_ARRIVE_H
#define DETOUR_ARRIVE_H

/* A new flow that finds no room, or that its client may not open. */
static __always_inline int lacks_room(enum reason reason)
{
	return reason == REASON_NO_PORT || reason == REASON_NO_SPACE || reason >= REASON_NO_ROOM;
}

/* What a capture says of a packet that opened no flow; STAGE_IN where it does not have it. */
static __always_inline enum packet_stage stage_of(enum reason reason)
{
	if (reason == REASON_DROP || reason == REASON_REJECT)
		return STAGE_DENIED;
	if (reason == REASON_MONITOR || reason == REASON_DIRECT)
		return STAGE_PASSED;
	if (lacks_room(reason))
		return cfg.flags & CFG_FULL_PASS ? STAGE_PASSED : STAGE_DENIED;
	return STAGE_IN;
}

#endif

/* Functions of their own, so that the verifier follows each once, and because it counts the stack of a caller for
 * whatever that calls. */

/* The answer of a server that is behind this same device, on its way to be rewritten at egress. */
__noinline int reply_arrivesN(__u32 now)
{
	struct workN *w = this_workN();
	struct foundN found;
	struct keyN key;

	if (!w)
		return 0;
	key = w->packet.key;
	key.dir = DIR_REVERSE;
	return flow_findN(&key, DIR_REVERSE, now, &found);
}

/* On lo: an answer that has left and been restored there. It is no question. */
__noinline int loopedN(__u32 now)
{
	struct workN *w = this_workN();
	struct foundN found;
	struct keyN key;

	if (!w)
		return 0;
	key = key_mirrorN(&w->packet.key);
	key.dir = DIR_FORWARD;
	return flow_findN(&key, DIR_FORWARD, now, &found);
}

/* May it be such an answer? A server whose address is not ours answers with a bare SYN only where both ends open at
 * once (RFC 5382, REQ-2); that costs a look-up which mostly finds nothing, so a rule must name the server then. */
static __always_inline int may_replyN(const struct packetN *p, __u32 src)
{
	return cfg.flags & CFG_LOOPBACK || src & LOCAL_TARGET || !has_syn(p->key.proto) || !opensN(p);
}

/* Sends an answer on through the device it came from, where it is rewritten as it leaves. */
static __always_inline int send_backN(struct __sk_buff *skb)
{
	count_reason(REASON_REPLY);
	return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

/* Asks the rules. 1 if they want a flow, towards w->rev; w->outcome says what they want otherwise. */
__noinline int decideN(struct __sk_buff *skb)
{
	struct workN *w = this_workN();
	const struct rules *table = rules_in_force();
	const struct rule_action *action;
	__u32 rule;

	if (!w)
		return 0;
	w->outcome.reason = REASON_NO_RULE;
	if (!table)
		return 0;
	w->outcome.rules_generation = table->generation;
	rule = rules_matchN(table, &w->packet.key);
	if (rule == RULE_NEVER)
		w->never = 1;
	if (rule >= RULE_NONE)
		return 0;
	action = action_of(table, rule);
	w->outcome.rule = rule;
	w->outcome.verdict = action->verdict;
	count_rule(rule, skb->len);
	w->how = FAMILY == 4 ? action->reject4 : action->reject6;
	if (action->verdict == VERDICT_ACCEPT)
		w->outcome.reason = REASON_ACCEPT;
	else if (action->verdict == VERDICT_REJECT)
		w->outcome.reason = REASON_REJECT;
	else if (action->verdict != VERDICT_DNAT)
		w->outcome.reason = REASON_DROP;
	else if (!translatable(w->packet.key.proto) || !has_targetN(action))
		w->outcome.reason = REASON_PROTOCOL;
	else
		w->outcome.reason = REASON_NONE;
	w->rev.src = target_ofN(action);
	if (action->port && has_ports(w->packet.key.proto))
		w->rev.sport = action->port;
	if (action->flags & ACTION_MASQUERADE && w->outcome.reason == REASON_NONE) {
		w->marks |= MARK_MASQUERADE;
		w->rev.dst = table->masqueradeN;
		w->rev.dir = DIR_FORWARD;
	}
	return w->outcome.reason == REASON_NONE;
}

/* Where no rule can change anything. */
static __always_inline enum reason excludedN(const struct keyN *key, __u32 src, __u32 dst)
{
	if (dhcpN(key))
		return REASON_DHCP;
	if (!(cfg.flags & CFG_LOOPBACK) && (specialN(key->src) || src & (LOCAL_OWN | LOCAL_BROADCAST)))
		return REASON_SOURCE;
	return specialN(key->dst) || dst & LOCAL_BROADCAST ? REASON_SPECIAL : REASON_NONE;
}

/* A direct flow to an address that rules also use as a target must own its tuple, and gets another client port where a
 * translated flow has it; with UDP that is any address of ours (any_source). It is not ours to refuse, so it passes in
 * any case. */
static __always_inline int opens_directN(struct workN *w, __u32 dst)
{
	__u32 shared = w->packet.key.proto == IPPROTO_UDP ? LOCAL_TARGET | LOCAL_OWN : LOCAL_TARGET;

	if (!(dst & shared) || !translatable(w->packet.key.proto) || w->outcome.reason == REASON_DROP ||
	    w->outcome.reason == REASON_REJECT)
		return 0;
	/* What a sealed device drops opens nothing, or what follows it would pass. */
	if (cfg.flags & CFG_SEALED && !(dst & LOCAL_OWN) && w->outcome.reason != REASON_ACCEPT)
		return 0;
	w->rev = key_mirrorN(&w->packet.key);
	w->marks |= MARK_DIRECT;
	return 1;
}

/* What a reader hears of a packet that opened a flow, or something that was not asked for before. */
static __always_inline void tell_arrivedN(struct __sk_buff *skb, struct workN *w, __u32 now, int news)
{
	enum reason reason = w->outcome.reason;
	enum event_kind kind = EVENT_ASKED;

	if (!reason)
		kind = EVENT_FLOW_NEW;
	else if (reason == REASON_DROP || reason == REASON_REJECT)
		kind = EVENT_DENIED;
	else if (reason > REASON_DROP && reason != REASON_MONITOR)
		kind = EVENT_REFUSED;
	if (!(news || !reason) || !wanted(kind, now))
		return;
	if (kind == EVENT_FLOW_NEW)
		tell_flowN(skb, w->slot, kind);
	else
		tell_askedN(skb, kind);
}

/* May it open a flow, as a first packet or, where that is wanted, in mid-stream? */
static __always_inline int may_startN(const struct packetN *p)
{
	return opensN(p) || (cfg.flags & CFG_PICKUPN && (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_ACK);
}

/* Do the rules accept what it would open? On a sealed device that holds for all that follows. */
__noinline int acceptedN(struct __sk_buff *skb)
{
	const struct rules *table = rules_in_force();
	struct workN *w = this_workN();
	__u32 rule;

	if (!skb || !w || !table)
		return 0;
	rule = rules_matchN(table, &w->packet.key);
	return rule < RULE_NONE && action_of(table, rule)->verdict == VERDICT_ACCEPT;
}

/* A new flow that the rules want and that finds no room. */
static __always_inline int refusedN(struct workN *w, enum reason reason)
{
	count_reason(reason);
	w->how = w->packet.key.proto == IPPROTO_TCP ? REJECT_RESET : ADMIN_PROHIBITEDN + 1;
	if (cfg.flags & CFG_FULL_REJECT)
		return REFUSE;
	return cfg.flags & CFG_FULL_PASS ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* Notes what was asked for, and what came of it. 1 if it was not asked for before. */
__noinline int noteN(struct __sk_buff *skb, __u32 now)
{
	struct workN *w = this_workN();
	struct asked_key asked __attribute__((aligned(8)));

	if (!w)
		return 0;
	asked_keyN(&asked, &w->packet.key);
	return asked_count(&asked, skb->len, now, &w->outcome);
}

/* The packet of this_workN() belongs to no flow: may it open one? TC_ACT_* or REFUSE. A function by itself, as are
 * those that it calls: what is rare shall neither cost the packets of flows anything nor have its stack in their way.
 */
__noinline int openN(struct __sk_buff *skb, __u32 now)
{
	struct workN *w = this_workN();
	const struct packetN *p;
	enum packet_stage stage;
	enum reason reason;
	int flow, news = 0;
	struct asked *row;
	__u32 src, dst;

	if (!w)
		return TC_ACT_UNSPEC;
	p = &w->packet;
	if (cfg.flags & CFG_SEALED && !may_startN(p))
		return acceptedN(skb) ? pass(REASON_NO_FLOW) : pass_inN(skb, REASON_NO_FLOW);
	row = rowN(&p->key);
	if (row && settledN(row, now)) {
		if (opensN(p))
			asked_more(row, skb->len, now);
		return pass_inN(skb, REASON_NO_RULE);
	}
	src = cfg.flags & CFG_LOOPBACK ? 0 : local_flagsN(p->key.src);
	dst = local_flagsN(p->key.dst);
	reason = excludedN(&p->key, src, dst);
	if (reason)
		return pass_inN(skb, reason);
	if (cfg.flags & CFG_LOOPBACK && loopedN(now))
		return pass(REASON_REPLY);

	w->rev = key_mirrorN(&p->key);
	w->marks = opensN(p) ? 0 : MARK_PICKED_UP;
	w->never = 0;
	w->outcome = (struct outcome){.rule = RULE_NONE, .reason = REASON_OWN};
	flow = !(dst & LOCAL_OWN) && decideN(skb);
	if (flow && may_replyN(p, src) && reply_arrivesN(now)) {
		w->marks &= ~MARK_MASQUERADE;
		w->outcome.reason = REASON_REPLY;
		flow = 0;
	}
	if (cfg.flags & CFG_MONITOR) {
		w->outcome.reason = REASON_MONITOR;
	} else if (flow || opens_directN(w, dst)) {
		reason = flow ? may_openN(&p->key, now) : REASON_NONE;
		if (!reason)
			reason = flow_openN(skb, w, now);
		w->to = key_mirrorN(&w->rev);
		if (!reason && wanted(EVENT_PACKET, now))
			tell_packetN(skb, EVENT_PACKET, STAGE_IN);
		if (!reason && rewriteN(skb, p, DIR_FORWARD, &w->to))
			reason = REASON_REWRITE;
		if (!reason && wanted(EVENT_PACKET, now))
			tell_packetN(skb, EVENT_PACKET, STAGE_IN_DONE);
		if (reason)
			w->outcome.reason = flow || reason == REASON_REWRITE ? reason : REASON_DIRECT;
	}
	if (opensN(p)) {
		if (!w->outcome.served || !(local_flagsN(w->rev.src) & LOCAL_OWN))
			w->outcome.served = servedN(skb);
		w->outcome.settled = settlesN(w, dst) ? now : now + NEVER;
		/* A row may have been deleted since, and be another one's by now: it must not get this mark. */
		if (row && w->outcome.settled != now)
			news = asked_again(row, skb->len, now, &w->outcome);
		else
			news = noteN(skb, now);
	}
	tell_arrivedN(skb, w, now, news);
	reason = w->outcome.reason;
	stage = stage_of(reason);
	if (stage != STAGE_IN && wanted(EVENT_PACKET, now)) {
		w->slot = SLOT_NONE;
		tell_packetN(skb, EVENT_PACKET, stage);
	}
	if (!reason && w->marks & MARK_MASQUERADE) {
		w->to = key_mirrorN(&w->rev);
		return send_onN(skb, p, &w->to);
	}
	if (!reason)
		return TC_ACT_UNSPEC;
	if (reason == REASON_MONITOR)
		return pass(reason);
	if (reason == REASON_REJECT)
		return REFUSE;
	if (lacks_room(reason))
		return refusedN(w, reason);
	if (reason >= REASON_DROP)
		return drop(reason);
	/* The answer of a server behind this device leaves through it or not at all: its client's address may be
	 * forged, and be somewhere else. Fragments that follow would not know the way. */
	if (reason == REASON_REPLY && cfg.flags & CFG_SEALED)
		return p->first ? drop(REASON_SEALED) : send_backN(skb);
	/* What a rule accepts may be forwarded also where the device is sealed. */
	return reason == REASON_ACCEPT || reason == REASON_REPLY ? pass(reason) : pass_inN(skb, reason);
}

/* On a sealed device the rules are asked in any case. */
static __always_inline int arriveN(const struct packetN *p)
{
	return cfg.flags & CFG_SEALED || may_startN(p) ? NEXT_OPEN : pass(REASON_NO_FLOW);
}
