/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* Turns a frame into its key and the few header fields that flows need, or into the reason to leave it alone. */
#ifndef DETOUR_PACKET_H
#define DETOUR_PACKET_H

#include "maps.h"

/* What was decided about a packet without flow. */
struct outcome {
	__u32 rules_generation;
	__u16 rule;   /* or RULE_NONE */
	__u8 verdict; /* enum verdict */
	__u8 reason;  /* enum reason */
};

struct packet {
	struct key4 key; /* as on the wire */
	__u32 l4;        /* offset of the transport header in the frame */
	__u32 seq;       /* TCP; host order */
	__u32 ack;
	__u8 flags;    /* TCP */
	__u8 unsummed; /* UDP without checksum */
};

/* The packet at hand, and what becomes of it if it has no flow. */
struct work {
	struct packet packet;
	struct key4 rev; /* of the flow to open: the server that the rules chose */
	struct outcome outcome;
	__u32 slot; /* where that flow lives */
	__u8 marks; /* enum flow_marks */
	__u8 pad[3];
};

/* One per CPU; written and read during one run, means nothing between runs. In a map and not on the stack, because what
 * the verifier knows of each stack slot multiplies the paths that it must follow; of a map's value it knows nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work);
} work SEC(".maps");

static __always_inline struct work *this_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&work, &zero);
}

/* Makes the first `len` bytes of the frame directly readable. Pointers into the packet are void afterwards. */
static __always_inline int reach(struct __sk_buff *skb, __u32 len)
{
	if ((void *)(long)skb->data + len <= (void *)(long)skb->data_end)
		return 1;
	return skb->len >= len && bpf_skb_pull_data(skb, len) == 0;
}

/* Bytes of the transport header that we need; 0 for protocols that have no ports, so no flow, but that a rule may drop.
 */
static __always_inline __u32 transport_len(__u8 proto)
{
	if (proto == IPPROTO_TCP)
		return sizeof(struct tcphdr);
	return proto == IPPROTO_UDP || proto == IPPROTO_ICMP ? sizeof(struct udphdr) : 0;
}

static __always_inline enum reason parse_tcp(const struct tcphdr *tcp, struct packet *p)
{
	if (tcp->doff >> 4 < sizeof(*tcp) / 4)
		return REASON_MALFORMED;
	p->key.sport = tcp->source;
	p->key.dport = tcp->dest;
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack_seq);
	p->flags = tcp->flags;
	return REASON_NONE;
}

static __always_inline enum reason parse_udp(const struct udphdr *udp, struct packet *p)
{
	p->key.sport = udp->source;
	p->key.dport = udp->dest;
	p->unsummed = udp->check == 0;
	return REASON_NONE;
}

/* Only questions that arrive and answers that leave: the gateway's own pings are none of our business. */
static __always_inline enum reason parse_icmp(const struct icmphdr *icmp, enum dir dir, struct packet *p)
{
	if (icmp->type != (dir == DIR_FORWARD ? ICMP_ECHO : ICMP_ECHOREPLY) || icmp->code)
		return REASON_ICMP;
	if (dir == DIR_FORWARD)
		p->key.sport = icmp->id;
	else
		p->key.dport = icmp->id;
	return REASON_NONE;
}

static __always_inline enum reason parse_transport(struct __sk_buff *skb, enum dir dir, struct packet *p)
{
	__u32 len = transport_len(p->key.proto);
	__u32 off = p->l4;
	void *l4;

	if (!len)
		return REASON_NONE;
	if (!reach(skb, off + len))
		return REASON_MALFORMED;
	l4 = (void *)(long)skb->data + off;
	if (l4 + sizeof(struct udphdr) > (void *)(long)skb->data_end)
		return REASON_MALFORMED;
	if (p->key.proto == IPPROTO_UDP)
		return parse_udp(l4, p);
	if (p->key.proto == IPPROTO_ICMP)
		return parse_icmp(l4, dir, p);
	if (l4 + sizeof(struct tcphdr) > (void *)(long)skb->data_end)
		return REASON_MALFORMED;
	return parse_tcp(l4, p);
}

/* The length on the wire must hold the headers, and the frame must hold that length. */
static __always_inline int length_ok(struct __sk_buff *skb, const struct iphdr *ip, __u32 ihl)
{
	__u32 total = bpf_ntohs(ip->tot_len);

	if (!total) /* a GSO packet of more than 64 KiB */
		return skb->gso_size != 0;
	return total >= ihl + transport_len(ip->protocol) && cfg.l2_len + total <= skb->len;
}

static __always_inline enum reason parse(struct __sk_buff *skb, enum dir dir, struct packet *p)
{
	__u32 l2_len = cfg.l2_len;
	struct iphdr *ip;
	__u32 ihl;

	if (skb->vlan_present || skb->protocol == bpf_htons(ETH_P_8021Q) || skb->protocol == bpf_htons(ETH_P_8021AD))
		return REASON_VLAN;
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return REASON_IPV6;
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return REASON_NOT_IP;
	if (!reach(skb, l2_len + sizeof(*ip)))
		return REASON_MALFORMED;
	ip = (void *)(long)skb->data + l2_len;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return REASON_MALFORMED;
	ihl = (ip->version_ihl & 15) * 4;
	if (ip->version_ihl >> 4 != 4 || ihl < sizeof(*ip))
		return REASON_MALFORMED;
	if (ip->frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return REASON_FRAGMENT;
	if (!length_ok(skb, ip, ihl))
		return REASON_MALFORMED;
	p->key = (struct key4){.src = ip->saddr, .dst = ip->daddr, .proto = ip->protocol, .dir = dir};
	p->l4 = l2_len + ihl;
	p->flags = 0;
	p->unsummed = 0;
	return parse_transport(skb, dir, p);
}

#endif
