/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* What is IPv4's alone: its addresses, its header, and where the header's checksum or options make a difference. */
#ifndef DETOUR_IPV4_H
#define DETOUR_IPV4_H

#include "frame.h"

/* The ICMP of this family: its protocol number, an echo request and its reply. */
#define ICMP_PROTO4   IPPROTO_ICMP
#define ICMP_ASK4     ICMP_ECHO
#define ICMP_ANSWER4  ICMP_ECHOREPLY
#define ICMP_UNREACH4 ICMP_DEST_UNREACH

/* The header has a checksum, which makes up for its addresses in any sum over all of the packet; and ICMP sums no
 * addresses. */
#define HEADER_SUMMED4 1

/* The quotation of the longest headers: IP with options, ICMP, and IP with options and TCP therein. */
#define LONGEST_ERROR4 (60 + sizeof(struct icmphdr) + 60 + sizeof(struct tcphdr))

static __always_inline int addr_equal4(ip4 a, ip4 b)
{
	return a == b;
}

/* What a change of address adds to a sum over it. */
static __always_inline __u64 addr_change4(ip4 from, ip4 to)
{
	return (__u64)(__u32)~from + to;
}

/* Both addresses in one number, for a hash. */
static __always_inline __u64 addr_hash4(ip4 a, ip4 b)
{
	return (__u64)a << 32 | b;
}

/* As it is written in `asked`: ::ffff:a.b.c.d. */
static __always_inline void addr_mapped4(__u8 mapped[16], ip4 addr)
{
	((volatile key_word *)mapped)[0] = 0;
	((volatile key_word *)mapped)[1] = both_halves(bpf_htonl(0xffff), addr);
}

static __always_inline ip4 addr_unmapped4(const __u8 mapped[16])
{
	return *(const __be32 *)(mapped + 12);
}

/* As the rules' bounds are written. */
static __always_inline __u32 addr_host4(ip4 addr)
{
	return bpf_ntohl(addr);
}

static __always_inline int has_target4(const struct rule_action *action)
{
	return action->addr4 != 0;
}

static __always_inline ip4 target_of4(const struct rule_action *action)
{
	return action->addr4;
}

/* No host has them: 0.0.0.0/8 and 127.0.0.0/8, 169.254.0.0/16 (link-local), 224.0.0.0/4 and 255.255.255.255. */
static __always_inline int special4(ip4 addr)
{
	__u32 host = bpf_ntohl(addr);

	return host >> 24 == 0 || host >> 24 == 127 || host >> 16 == 0xa9fe || host >> 28 == 14 || host == 0xffffffff;
}

static __always_inline int dhcp4(const struct key4 *key)
{
	return key->proto == IPPROTO_UDP && (key->sport == bpf_htons(67) || key->sport == bpf_htons(68)) &&
	       (key->dport == bpf_htons(67) || key->dport == bpf_htons(68));
}

/* Bytes behind the header: what its length says, if the frame holds that. */
static __always_inline int room4(struct __sk_buff *skb, const struct iphdr *ip, __u32 before, __u32 ihl)
{
	__u32 total = bpf_ntohs(ip->tot_len);

	if (!total && skb->gso_size) /* more than 64 KiB */
		total = skb->len - before;
	return before + total <= skb->len ? (int)(total - ihl) : -1;
}

/* All that the header knows of the key. */
static __always_inline void set_key4(struct key4 *key, const struct iphdr *ip, enum dir dir)
{
	union {
		struct key4 key;
		__u64 word[2];
	} whole = {{.src = ip->saddr, .dst = ip->daddr, .proto = ip->protocol, .dir = dir}};

	((volatile key_word *)key)[0] = whole.word[0];
	((volatile key_word *)key)[1] = whole.word[1];
}

/* The IP header: addresses and protocol of the key, and where the next header begins. */
static __always_inline enum reason header4(struct __sk_buff *skb, enum dir dir, struct packet4 *p)
{
	__u32 before = l2_len(skb), ihl;
	struct iphdr *ip;
	int room;

	if (!reach(skb, before + sizeof(*ip)))
		return REASON_MALFORMED;
	ip = (void *)(long)skb->data + before;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return REASON_MALFORMED;
	ihl = (ip->version_ihl & 15) * 4;
	if (ip->version_ihl >> 4 != 4 || ihl < sizeof(*ip))
		return REASON_MALFORMED;
	room = room4(skb, ip, before, ihl);
	if (room < 0)
		return REASON_MALFORMED;
	set_key4(&p->key, ip, dir);
	p->l4 = before + ihl;
	p->room = room;
	p->first = 0;
	if (!(ip->frag_off & bpf_htons(IP_MF | IP_OFFSET)))
		return REASON_NONE;
	p->frag_id = ip->id;
	p->first = !(ip->frag_off & bpf_htons(IP_OFFSET));
	return p->first ? REASON_NONE : REASON_FRAGMENT;
}

/* The pseudo header's part of a transport checksum at offset `at` follows a change of one address. */
static __always_inline long fix_address4(struct __sk_buff *skb, __u32 at, ip4 from, ip4 to, __u64 flags)
{
	return bpf_l4_csum_replace(skb, at, from, to, sizeof(to) | BPF_F_PSEUDO_HDR | flags);
}

/* The destination's address forward, the source's in reverse. */
static __always_inline long get_address4(struct __sk_buff *skb, enum dir dir, ip4 *addr)
{
	struct iphdr *ip = (void *)(long)skb->data + l2_len(skb);

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	*addr = dir == DIR_FORWARD ? ip->daddr : ip->saddr;
	return 0;
}

/* Puts another one there. */
static __always_inline long set_address4(struct __sk_buff *skb, enum dir dir, ip4 from, ip4 to)
{
	struct iphdr *ip = (void *)(long)skb->data + l2_len(skb);

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	ip->check = csum_mend(ip->check, addr_change4(from, to));
	if (dir == DIR_FORWARD)
		ip->daddr = to;
	else
		ip->saddr = to;
	return 0;
}

/* ---- ICMP errors ---------------------------------------------------------------------------------------------------
 */

static __always_inline int is_error4(__u8 type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETERPROB;
}

/* The IP header that the error in `p` quotes; the length of what it quotes is that of the error. */
static __always_inline enum reason quoted_header4(struct __sk_buff *skb, const struct packet4 *p, enum dir dir,
                                                  struct packet4 *quoted)
{
	__u32 at = p->l4 + sizeof(struct icmphdr), ihl;
	struct iphdr *ip = bytes_at(skb, at, sizeof(*ip));

	if (!ip)
		return REASON_MALFORMED;
	ihl = (ip->version_ihl & 15) * 4;
	if (ip->version_ihl >> 4 != 4 || ihl < sizeof(*ip))
		return REASON_MALFORMED;
	if (ip->frag_off & bpf_htons(IP_OFFSET)) /* no ports to find the flow by */
		return REASON_FRAGMENT;
	quoted->key = (struct key4){.src = ip->saddr, .dst = ip->daddr, .proto = ip->protocol, .dir = dir};
	quoted->l4 = at + ihl;
	quoted->room = p->room - sizeof(struct icmphdr) - ihl;
	return REASON_NONE;
}

/* The addresses that the error quotes become those of `to`. Returns what that adds to a sum over them. To the sum of
 * the error it adds nothing, because the quoted header's own checksum follows. */
static __always_inline __u64 requote_header4(struct __sk_buff *skb, const struct packet4 *p, const struct key4 *to)
{
	struct iphdr *ip = bytes_at(skb, p->l4 + sizeof(struct icmphdr), sizeof(*ip));
	__u64 addresses = 0;

	if (!ip)
		return 0;
	put32(&ip->saddr, to->src, &addresses);
	put32(&ip->daddr, to->dst, &addresses);
	ip->check = csum_mend(ip->check, addresses);
	return addresses;
}

#endif
