// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/*
 * Destination NAT between a device and the network stack. What arrives is sent to a server of ours as the rules say,
 *its answers leave as if the original destination had spoken, and what was asked for is recorded.
 *
 *	detour_in   ingress: packet -> flow -> rewritten to the server;  no flow: may it open one? (arrive)
 *	detour_out  egress:  packet -> flow -> rewritten to come from the original destination
 *
 * A packet that has no flow is never changed. Later filters on the hook always run, except after a drop.
 */
#include "asked.h"
#include "confirm.h"
#include "open.h"
#include "rewrite.h"
#include "rules.h"

char _license[] SEC("license") = "Dual MIT/GPL";

static __always_inline __u32 local_flags(__be32 addr)
{
	__u32 *flags = bpf_map_lookup_elem(&local4, &addr);

	return flags ? *flags : 0;
}

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

/* A direct flow to an address that rules also use as a target: it must own its tuple, and gets another client port
 * where a translated flow has it. It is not ours to refuse, so it passes in any case. */
static __always_inline int arrive_direct(struct __sk_buff *skb, const struct packet *p, __u8 marks, __u32 now)
{
	struct opening o = {
		.fwd = p->key,
		.rev = key4_mirror(&p->key),
		.rule = RULE_NONE,
		.marks = MARK_DIRECT | marks,
	};
	struct key4 rev, to;

	if (flow_open(skb, &o, &rev, now))
		return pass(REASON_DIRECT);
	to = key4_mirror(&rev);
	return rewrite(skb, p, DIR_FORWARD, &to) ? drop(REASON_REWRITE) : TC_ACT_UNSPEC;
}

static __always_inline enum reason arrive_dnat(struct __sk_buff *skb, const struct packet *p, __u8 marks, __u32 now,
                                               const struct rule_action *action, const struct outcome *outcome)
{
	struct opening o = {
		.fwd = p->key,
		.rev = key4_mirror(&p->key),
		.rules_generation = outcome->rules_generation,
		.rule = outcome->rule,
		.marks = marks,
	};
	enum reason reason;
	struct key4 rev, to;

	o.rev.src = action->addr4;
	if (action->port && p->key.proto != IPPROTO_ICMP)
		o.rev.sport = action->port;
	reason = flow_open(skb, &o, &rev, now);
	if (reason)
		return reason;
	to = key4_mirror(&rev);
	return rewrite(skb, p, DIR_FORWARD, &to) ? REASON_REWRITE : REASON_NONE;
}

/* The answer of a server that is behind this same device, on its way to be rewritten at egress. */
static __always_inline int reply_arrives(const struct packet *p, __u32 now)
{
	struct key4 key = p->key;
	struct found found;

	key.dir = DIR_REVERSE;
	return flow_find(&key, DIR_REVERSE, now, &found);
}

/* Asks the rules, does what they say, and puts down what was done. */
static __always_inline int arrive_ruled(struct __sk_buff *skb, const struct packet *p, __u8 marks, __u32 now,
                                        struct outcome *outcome)
{
	const struct rules *table = rules_in_force();
	const struct rule_action *action;
	__u32 rule;

	outcome->reason = REASON_NO_RULE;
	if (!table)
		return TC_ACT_UNSPEC;
	outcome->rules_generation = table->generation;
	rule = rules_match(table, &p->key);
	if (rule >= RULES_MAX)
		return TC_ACT_UNSPEC;
	action = &table->actions[rule];
	outcome->rule = rule;
	outcome->verdict = action->verdict;
	count_rule(rule, skb->len);
	switch (action->verdict) {
	case VERDICT_DNAT:
		if (!has_flows(p->key.proto) || !action->addr4) {
			outcome->reason = REASON_PROTOCOL;
			return TC_ACT_UNSPEC;
		}
		if (reply_arrives(p, now)) {
			outcome->reason = REASON_REPLY;
			return TC_ACT_UNSPEC;
		}
		outcome->reason = arrive_dnat(skb, p, marks, now, action, outcome);
		return outcome->reason ? TC_ACT_SHOT : TC_ACT_UNSPEC;
	case VERDICT_DROP:
	case VERDICT_REJECT:
		outcome->reason = REASON_DROP;
		return TC_ACT_SHOT;
	default:
		outcome->reason = REASON_ACCEPT;
		return TC_ACT_UNSPEC;
	}
}

/* A packet without flow: may it open one? */
static __always_inline int arrive(struct __sk_buff *skb, const struct packet *p, __u32 now)
{
	struct outcome outcome = {.rule = RULE_NONE};
	int tcp = p->key.proto == IPPROTO_TCP;
	int opens = !tcp || (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
	__u8 marks = opens ? 0 : MARK_PICKED_UP;
	int verdict = TC_ACT_UNSPEC;
	__u32 flags;

	if (!opens && (!(cfg.flags & CFG_PICKUP) || (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_ACK))
		return pass(REASON_NO_FLOW);
	if (special(p->key.src) || local_flags(p->key.src) & (LOCAL_OWN | LOCAL_BROADCAST))
		return pass(REASON_SOURCE);
	if (special(p->key.dst))
		return pass(REASON_SPECIAL);
	if (dhcp(&p->key))
		return pass(REASON_DHCP);
	flags = local_flags(p->key.dst);
	if (flags & LOCAL_BROADCAST)
		return pass(REASON_SPECIAL);

	if (flags & LOCAL_OWN)
		outcome.reason = REASON_OWN;
	else
		verdict = arrive_ruled(skb, p, marks, now, &outcome);
	if (outcome.reason)
		count_reason(outcome.reason);
	if (opens)
		asked_count(&p->key, skb->len, now, &outcome);
	if (flags & LOCAL_TARGET && has_flows(p->key.proto) && outcome.verdict != VERDICT_DNAT &&
	    verdict == TC_ACT_UNSPEC)
		return arrive_direct(skb, p, marks, now);
	return verdict;
}

SEC("classifier")
int detour_in(struct __sk_buff *skb)
{
	struct packet p;
	enum reason reason = parse(skb, DIR_FORWARD, &p);
	__u32 now = now_tick();
	struct found found;
	struct key4 to;

	if (reason)
		return pass(reason);
	if (skb->pkt_type != PACKET_HOST)
		return pass(REASON_NOT_FOR_US);
	if (!flow_find(&p.key, DIR_FORWARD, now, &found) || flow_reopened(&found, &p))
		return arrive(skb, &p, now);
	flow_count(skb, found.flow, DIR_FORWARD, now);
	flow_closing(found.flow, &p, DIR_FORWARD);
	if (found.state == FLOW_ANSWERED && client_heard(found.flow, &p))
		flow_confirm(&found, &p.key, now);
	to = key4_mirror(&found.other);
	return rewrite(skb, &p, DIR_FORWARD, &to) ? drop(REASON_REWRITE) : TC_ACT_UNSPEC;
}

SEC("classifier")
int detour_out(struct __sk_buff *skb)
{
	struct packet p;
	enum reason reason = parse(skb, DIR_REVERSE, &p);
	__u32 now = now_tick();
	struct found found;
	struct key4 to;

	if (reason)
		return pass(reason);
	if (!flow_find(&p.key, DIR_REVERSE, now, &found)) {
		/* Where each SYN was seen, the flow of this one has been overwritten: untranslated it would be refused.
		 */
		if (cfg.flags & CFG_SYN_TRACKED && p.key.proto == IPPROTO_TCP &&
		    (p.flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) && local_flags(p.key.src) & LOCAL_TARGET)
			return drop(REASON_SYN_ACK);
		return pass(REASON_OUT_NO_FLOW);
	}
	flow_count(skb, found.flow, DIR_REVERSE, now);
	flow_closing(found.flow, &p, DIR_REVERSE);
	flow_answered(found.flow, &p);
	to = key4_mirror(&found.other);
	return rewrite(skb, &p, DIR_REVERSE, &to) ? drop(REASON_REWRITE) : TC_ACT_UNSPEC;
}
