// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/*
 * Destination NAT between a device and the network stack. What arrives is sent to a server of ours as the rules say,
 * its answers leave as if the original destination had spoken, and what was asked for is recorded.
 *
 *	detour_in   ingress: packet -> flow -> rewritten to the server;  no flow: may it open one? (arrive)
 *	detour_out  egress:  packet -> flow -> rewritten to come from the original destination
 *
 * A packet that has no flow is never changed. Later filters on the hook always run, except after a drop.
 */
#include "asked.h"
#include "confirm.h"
#include "errors.h"
#include "open.h"
#include "rewrite.h"
#include "rules.h"

char _license[] SEC("license") = "Dual MIT/GPL";

/* No host has them: 0.0.0.0/8 and 127.0.0.0/8, 169.254.0.0/16 (link-local), 224.0.0.0/4 and 255.255.255.255. */
static __always_inline int special(__be32 addr)
{
	__u32 host = bpf_ntohl(addr);

	return host >> 24 == 0 || host >> 24 == 127 || host >> 16 == 0xa9fe || host >> 28 == 14 || host == 0xffffffff;
}

static __always_inline int dhcp(const struct key4 *key)
{
	return key->proto == IPPROTO_UDP && (key->sport == bpf_htons(67) || key->sport == bpf_htons(68)) &&
	       (key->dport == bpf_htons(67) || key->dport == bpf_htons(68));
}

static __always_inline int has_flows(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_ICMP;
}

/* The answer of a server that is behind this same device, on its way to be rewritten at egress. */
static __always_inline int reply_arrives(const struct packet *p, __u32 now)
{
	struct key4 key = p->key;
	struct found found;

	key.dir = DIR_REVERSE;
	return flow_find(&key, DIR_REVERSE, now, &found);
}

/* Asks the rules. 1 if they want a flow, towards w->rev; w->outcome says what they want otherwise. */
static __always_inline int decide(struct __sk_buff *skb, struct work *w, __u32 now)
{
	const struct rules *table = rules_in_force();
	const struct rule_action *action;
	__u32 rule;

	w->outcome.reason = REASON_NO_RULE;
	if (!table)
		return 0;
	w->outcome.rules_generation = table->generation;
	rule = rules_match(table, &w->packet.key);
	if (rule == RULE_NONE)
		return 0;
	action = action_of(table, rule);
	w->outcome.rule = rule;
	w->outcome.verdict = action->verdict;
	count_rule(rule, skb->len);
	if (action->verdict == VERDICT_ACCEPT)
		w->outcome.reason = REASON_ACCEPT;
	else if (action->verdict != VERDICT_DNAT)
		w->outcome.reason = REASON_DROP;
	else if (!has_flows(w->packet.key.proto) || !action->addr4)
		w->outcome.reason = REASON_PROTOCOL;
	else if (reply_arrives(&w->packet, now))
		w->outcome.reason = REASON_REPLY;
	else
		w->outcome.reason = REASON_NONE;
	w->rev.src = action->addr4;
	if (action->port && w->packet.key.proto != IPPROTO_ICMP)
		w->rev.sport = action->port;
	return w->outcome.reason == REASON_NONE;
}

/* Where no rule can change anything. */
static __always_inline enum reason excluded(const struct key4 *key, __u32 dst)
{
	if (dhcp(key))
		return REASON_DHCP;
	if (special(key->src) || local_flags(key->src) & (LOCAL_OWN | LOCAL_BROADCAST))
		return REASON_SOURCE;
	return special(key->dst) || dst & LOCAL_BROADCAST ? REASON_SPECIAL : REASON_NONE;
}

/* A direct flow to an address that rules also use as a target must own its tuple, and gets another client port where a
 * translated flow has it; with UDP that is any address of ours (any_source). It is not ours to refuse, so it passes in
 * any case. */
static __always_inline int opens_direct(struct work *w, __u32 dst)
{
	__u32 shared = w->packet.key.proto == IPPROTO_UDP ? LOCAL_TARGET | LOCAL_OWN : LOCAL_TARGET;

	if (!(dst & shared) || !has_flows(w->packet.key.proto) || w->outcome.reason == REASON_DROP)
		return 0;
	w->rev = key4_mirror(&w->packet.key);
	w->marks |= MARK_DIRECT;
	return 1;
}

/* A packet without flow: may it open one? */
static __always_inline int arrive(struct __sk_buff *skb, struct work *w, __u32 now)
{
	const struct packet *p = &w->packet;
	int opens = p->key.proto != IPPROTO_TCP || (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
	__u32 dst = local_flags(p->key.dst);
	enum reason reason;
	struct key4 to;
	int flow;

	if (!opens && (!(cfg.flags & CFG_PICKUP) || (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_ACK))
		return pass(REASON_NO_FLOW);
	reason = excluded(&p->key, dst);
	if (reason)
		return pass(reason);

	w->rev = key4_mirror(&p->key);
	w->marks = opens ? 0 : MARK_PICKED_UP;
	w->outcome = (struct outcome){.rule = RULE_NONE, .reason = REASON_OWN};
	flow = !(dst & LOCAL_OWN) && decide(skb, w, now);
	if (flow || opens_direct(w, dst)) {
		reason = flow_open(skb, w, now);
		to = key4_mirror(&w->rev);
		if (!reason && rewrite(skb, p, DIR_FORWARD, &to))
			reason = REASON_REWRITE;
		if (reason)
			w->outcome.reason = flow || reason == REASON_REWRITE ? reason : REASON_DIRECT;
	}
	if (opens)
		asked_count(&p->key, skb->len, now, &w->outcome);
	if (!w->outcome.reason)
		return TC_ACT_UNSPEC;
	count_reason(w->outcome.reason);
	/* From here on the reasons are those to drop (enum reason). */
	return w->outcome.reason >= REASON_DROP ? TC_ACT_SHOT : TC_ACT_UNSPEC;
}

SEC("classifier")
int detour_in(struct __sk_buff *skb)
{
	struct work *w = this_work();
	__u32 now = now_tick();
	struct found found;
	enum reason reason;
	struct key4 to;

	if (!w)
		return TC_ACT_UNSPEC;
	reason = parse(skb, DIR_FORWARD, &w->packet);
	if (reason && reason != REASON_ICMP)
		return pass(reason);
	if (skb->pkt_type != PACKET_HOST)
		return pass(REASON_NOT_FOR_US);
	if (reason == REASON_ICMP)
		return icmp_other(skb, DIR_FORWARD, now);
	if (!flow_find(&w->packet.key, DIR_FORWARD, now, &found) || flow_reopened(&found, &w->packet))
		return arrive(skb, w, now);
	flow_count(skb, found.flow, DIR_FORWARD, now);
	flow_tcp(found.flow, &w->packet, DIR_FORWARD);
	if (found.state == FLOW_ANSWERED && client_heard(found.flow, &w->packet))
		flow_confirm(&found, &w->packet.key, now);
	to = key4_mirror(&found.other);
	return rewrite(skb, &w->packet, DIR_FORWARD, &to) ? drop(REASON_REWRITE) : TC_ACT_UNSPEC;
}

/* A SYN-ACK of a target whose SYN opened a flow, as each one did that was not excluded: the flow has been overwritten
 * since, and untranslated its client would refuse it. */
static __always_inline int lost_flow(const struct packet *p)
{
	struct key4 syn = key4_mirror(&p->key);
	__u32 server = local_flags(syn.dst);

	return cfg.flags & CFG_SYN_TRACKED && p->key.proto == IPPROTO_TCP &&
	       (p->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) && server & LOCAL_TARGET &&
	       !excluded(&syn, server);
}

SEC("classifier")
int detour_out(struct __sk_buff *skb)
{
	struct work *w = this_work();
	__u32 now = now_tick();
	const struct packet *p;
	struct found found;
	enum reason reason;
	struct key4 key, to;

	if (!w)
		return TC_ACT_UNSPEC;
	p = &w->packet;
	reason = parse(skb, DIR_REVERSE, &w->packet);
	if (reason)
		return reason == REASON_ICMP ? icmp_other(skb, DIR_REVERSE, now) : pass(reason);
	key = index_key(&p->key, any_source(&p->key));
	if (!flow_find(&key, DIR_REVERSE, now, &found)) {
		if (lost_flow(p))
			return drop(REASON_SYN_ACK);
		return pass(REASON_OUT_NO_FLOW);
	}
	flow_count(skb, found.flow, DIR_REVERSE, now);
	flow_tcp(found.flow, p, DIR_REVERSE);
	flow_answered(found.flow, p);
	to = key4_mirror(&found.other);
	if (found.marks & MARK_DIRECT) /* from whichever address the server answers: the client chose to ask us */
		to.src = p->key.src;
	return rewrite(skb, p, DIR_REVERSE, &to) ? drop(REASON_REWRITE) : TC_ACT_UNSPEC;
}
