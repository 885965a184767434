/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * ICMP errors: one about a packet of a flow is translated outside and inside, so that it quotes to its receiver what
 * the receiver sent. It neither refreshes nor ends the flow (RFC 4787 REQ-12, RFC 5508 REQ-6), and is not counted in
 * it.
 *
 * What is quoted went the other way, in the form that the error's sender saw: an error that arrives quotes an answer
 * that we restored, one that leaves quotes a packet that we had sent to the server.
 */
#ifndef DETOUR_ERRORS_H
#define DETOUR_ERRORS_H

#include "flow.h"
#include "rewrite.h"

/* The quotation of the longest headers: IP with options, ICMP, and IP with options and TCP therein. */
#define LONGEST_ERROR (60 + sizeof(struct icmphdr) + 60 + sizeof(struct tcphdr))

static __always_inline int is_error(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

/* The key of the answers to the quoted packet: it names the flow in the direction in which the error goes. */
static __always_inline enum reason quoted_key(const struct iphdr *ip, const void *l4, enum dir dir, struct key4 *key)
{
	const struct udphdr *udp = l4;
	const struct icmphdr *icmp = l4;

	*key = (struct key4){.src = ip->daddr, .dst = ip->saddr, .proto = ip->protocol, .dir = dir};
	switch (ip->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		key->sport = udp->dest;
		key->dport = udp->source;
		return REASON_NONE;
	case IPPROTO_ICMP:
		if (icmp->type != (dir == DIR_FORWARD ? ICMP_ECHOREPLY : ICMP_ECHO))
			return REASON_ICMP;
		if (dir == DIR_FORWARD)
			key->sport = icmp->id;
		else
			key->dport = icmp->id;
		return REASON_NONE;
	default:
		return REASON_ICMP;
	}
}

/* A checksum follows what it covers, unless it says that there is none. All that changes is added to `change`. */
static __always_inline void mend(__u16 *check, __u64 covered, int udp, __u64 *change)
{
	__u16 sum = *check;

	if (udp && !sum)
		return;
	sum = csum_mend(sum, covered);
	put16(check, udp && !sum ? 0xffff : sum, change);
}

/* The quoted packet becomes one of key `to`, as far as it is quoted: `room` bytes from l4 on. Returns what that adds to
 * the sum of the error. The header's own checksum and the addresses cancel out therein. */
static __always_inline __u64 requote(struct iphdr *ip, void *l4, void *end, int room, enum dir dir,
                                     const struct key4 *to)
{
	__u64 addresses = 0, change = 0;
	struct udphdr *udp = l4;
	struct icmphdr *icmp = l4;
	struct tcphdr *tcp = l4;

	put32(&ip->saddr, to->src, &addresses);
	put32(&ip->daddr, to->dst, &addresses);
	ip->check = csum_mend(ip->check, addresses);
	if (ip->protocol == IPPROTO_ICMP) {
		put16(&icmp->id, dir == DIR_FORWARD ? to->dport : to->sport, &change);
		mend(&icmp->checksum, change, 0, &change);
		return change;
	}
	put32(l4, port_word(to->sport, to->dport), &change);
	if (ip->protocol == IPPROTO_UDP)
		mend(&udp->check, addresses + change, 1, &change);
	else if (room >= (int)sizeof(*tcp) && (void *)(tcp + 1) <= end)
		mend(&tcp->check, addresses + change, 0, &change);
	return change;
}

/* ICMP that is no echo, in direction `dir`. A function that the verifier follows by itself, once for both programs. */
__noinline int icmp_other(struct __sk_buff *skb, __u32 dir, __u32 now)
{
	__u32 reachable = cfg.l2_len + LONGEST_ERROR, ihl;
	struct iphdr *ip, *quoted;
	struct icmphdr *icmp;
	struct found found;
	enum reason reason;
	struct key4 key;
	__u64 change;
	void *l4, *end;
	int room;

	dir = dir == DIR_FORWARD ? DIR_FORWARD : DIR_REVERSE;
	reach(skb, skb->len < reachable ? skb->len : reachable);
	end = (void *)(long)skb->data_end;
	ip = (void *)(long)skb->data + cfg.l2_len;
	if ((void *)(ip + 1) > end)
		return pass(REASON_MALFORMED);
	ihl = (ip->version_ihl & 15) * 4;
	icmp = (void *)ip + ihl;
	if ((void *)(icmp + 1) > end)
		return pass(REASON_MALFORMED);
	if (!is_error(icmp->type))
		return pass(REASON_ICMP);
	quoted = (void *)(icmp + 1);
	if ((void *)(quoted + 1) > end)
		return pass(REASON_MALFORMED);
	room = bpf_ntohs(ip->tot_len) - ihl - sizeof(*icmp);
	ihl = (quoted->version_ihl & 15) * 4;
	room -= ihl;
	l4 = (void *)quoted + ihl;
	if (quoted->version_ihl >> 4 != 4 || ihl < sizeof(*quoted) || room < (int)sizeof(struct udphdr) ||
	    l4 + sizeof(struct udphdr) > end || ip->daddr != quoted->saddr)
		return pass(REASON_MALFORMED);
	if (quoted->frag_off & bpf_htons(IP_OFFSET)) /* no ports to find the flow by */
		return pass(REASON_FRAGMENT);

	reason = quoted_key(quoted, l4, dir, &key);
	if (reason)
		return pass(reason);
	if (dir == DIR_REVERSE)
		key = index_key(&key, any_source(&key));
	if (!flow_find(&key, dir, now, &found))
		return pass(REASON_ICMP);
	change = requote(quoted, l4, end, room, dir, &found.other);
	icmp->checksum = csum_mend(icmp->checksum, change);
	change = 0;
	if (dir == DIR_FORWARD)
		put32(&ip->daddr, found.other.src, &change);
	else /* also where a router spoke: the client must not learn what lies behind the address that it knows */
		put32(&ip->saddr, found.other.dst, &change);
	ip->check = csum_mend(ip->check, change);
	return TC_ACT_UNSPEC;
}

#endif
