/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* What is IPv6's alone: its addresses, its header and those that follow it, and that nothing but the transport checksum
 * covers the addresses. */
#ifndef DETOUR_IPV6_H
#define DETOUR_IPV6_H

#include "frame.h"
#include "rules.h"

#define ICMP_PROTO6    IPPROTO_ICMPV6
#define ICMP_ASK6      ICMPV6_ECHO_REQUEST
#define ICMP_ANSWER6   ICMPV6_ECHO_REPLY
#define ICMP_UNREACH6  ICMPV6_DEST_UNREACH
#define HEADER_SUMMED6 0

/* An error is no longer than the least MTU (RFC 4443, 2.4). */
#define LONGEST_ERROR6 1280

/* RFC 8200 lists no more kinds, and wants each once. */
#define EXTENSIONS_MAX 6

struct bpf_sock_tuple6 {
	ip6 saddr;
	ip6 daddr;
	__be16 sport;
	__be16 dport;
};

static __always_inline int addr_equal6(ip6 a, ip6 b)
{
	return a.word[0] == b.word[0] && a.word[1] == b.word[1] && a.word[2] == b.word[2] && a.word[3] == b.word[3];
}

/* The sum of an address's words, in 32 bits. */
static __always_inline __u32 addr_sum(ip6 addr)
{
	__u64 sum = (__u64)addr.word[0] + addr.word[1] + addr.word[2] + addr.word[3];

	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

static __always_inline __u64 addr_change6(ip6 from, ip6 to)
{
	return (__u64)(__u32)~addr_sum(from) + addr_sum(to);
}

static __always_inline __u64 addr_hash6(ip6 a, ip6 b)
{
	__u64 hash = ((__u64)a.word[0] << 32 | a.word[1]) * 0x9e3779b97f4a7c15ULL;

	hash = (hash ^ ((__u64)a.word[2] << 32 | a.word[3])) * 0x9e3779b97f4a7c15ULL;
	hash = (hash ^ ((__u64)b.word[0] << 32 | b.word[1])) * 0x9e3779b97f4a7c15ULL;
	return hash ^ ((__u64)b.word[2] << 32 | b.word[3]);
}

static __always_inline void addr_mapped6(__u8 mapped[16], ip6 addr)
{
	((volatile key_word *)mapped)[0] = both_halves(addr.word[0], addr.word[1]);
	((volatile key_word *)mapped)[1] = both_halves(addr.word[2], addr.word[3]);
}

static __always_inline ip6 addr_unmapped6(const __u8 mapped[16])
{
	return *(const ip6 *)mapped;
}

static __always_inline host6 addr_host6(ip6 addr)
{
	return (host6){
		.hi = (__u64)bpf_ntohl(addr.word[0]) << 32 | bpf_ntohl(addr.word[1]),
		.lo = (__u64)bpf_ntohl(addr.word[2]) << 32 | bpf_ntohl(addr.word[3]),
	};
}

static __always_inline int has_target6(const struct rule_action *action)
{
	const ip6 *to = &action->addr6;

	return (to->word[0] | to->word[1] | to->word[2] | to->word[3]) != 0;
}

static __always_inline ip6 target_of6(const struct rule_action *action)
{
	return action->addr6;
}

/* No host has them, or they mean something on one link only: ff00::/8, fe80::/10, ::/96 (unspecified, loopback), and
 * ::ffff:0:0/96, which stands for IPv4 and must not be seen on a wire. */
static __always_inline int special6(ip6 addr)
{
	__u32 first = bpf_ntohl(addr.word[0]);

	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6 ||
	       (!first && !addr.word[1] && (!addr.word[2] || addr.word[2] == bpf_htonl(0xffff)));
}

static __always_inline int dhcp6(const struct key6 *key)
{
	return key->proto == IPPROTO_UDP && (key->sport == bpf_htons(546) || key->sport == bpf_htons(547)) &&
	       (key->dport == bpf_htons(546) || key->dport == bpf_htons(547));
}

/* AH is none of them for us: it covers the addresses (protocols.h). */
static __always_inline int is_extension(__u32 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_FRAGMENT ||
	       proto == IPPROTO_DSTOPTS;
}

/* Goes over the extension headers of the packet at hand, or of the one that it quotes: l4, room and protocol then are
 * those of what follows. A packet on its way to another hop of its routing header is left alone: its destination is not
 * the one that its checksum knows. Returns enum reason. A function that the verifier follows by itself. */
__noinline int skip_extensions(struct __sk_buff *skb, __u32 quoted)
{
	struct work6 *w = this_work6();
	struct packet6 *p;
	__u32 at, proto;
	struct {
		__u8 next;
		__u8 len;
		union {
			struct {
				__u8 routing_type;
				__u8 segments_left;
			};
			__be16 offset;
		};
		__be32 id;
	} header;

	if (!w)
		return REASON_MALFORMED;
	p = quoted ? &w->quoted : &w->packet;
	at = p->l4;
	proto = p->key.proto;
	for (__u32 n = 0; n < EXTENSIONS_MAX && is_extension(proto); n++) {
		if (bpf_skb_load_bytes(skb, at, &header, sizeof(header)))
			return REASON_MALFORMED;
		if (proto == IPPROTO_ROUTING && header.segments_left)
			return REASON_EXTENSION;
		at += proto == IPPROTO_FRAGMENT ? 8 : (header.len + 1) * 8;
		if (at - p->l4 > p->room)
			return REASON_MALFORMED;
		if (proto == IPPROTO_FRAGMENT && header.offset & bpf_htons(IP6_OFFSET | IP6_MF)) {
			p->frag_id = header.id;
			p->first = !(header.offset & bpf_htons(IP6_OFFSET));
			if (!p->first) {
				p->key.proto = header.next;
				return REASON_FRAGMENT;
			}
		}
		proto = header.next;
	}
	if (is_extension(proto) || at > L4_MAX)
		return REASON_EXTENSION;
	p->room -= at - p->l4;
	p->l4 = at;
	p->key.proto = proto;
	return REASON_NONE;
}

static __always_inline struct key6 addresses6(const struct ipv6hdr *ip, enum dir dir)
{
	return (struct key6){
		.src = *(const ip6 *)ip->saddr,
		.dst = *(const ip6 *)ip->daddr,
		.proto = ip->nexthdr,
		.dir = dir,
	};
}

static __always_inline int version_ok6(const struct ipv6hdr *ip)
{
	return (ip->version_class_label & bpf_htonl(0xf0000000)) == bpf_htonl(0x60000000);
}

/* The IP headers: addresses and protocol of the key, and where the transport header begins. */
static __always_inline enum reason header6(struct __sk_buff *skb, enum dir dir, struct packet6 *p)
{
	__u32 l4 = l2_len(skb) + sizeof(struct ipv6hdr), room;
	struct ipv6hdr *ip;

	if (!reach(skb, l4))
		return REASON_MALFORMED;
	ip = (void *)(long)skb->data + l2_len(skb);
	if ((void *)(ip + 1) > (void *)(long)skb->data_end || !version_ok6(ip))
		return REASON_MALFORMED;
	room = bpf_ntohs(ip->payload_len);
	if (!room && skb->gso_size) /* more than 64 KiB */
		room = skb->len - l4;
	if (l4 + room > skb->len)
		return REASON_MALFORMED;
	p->key = addresses6(ip, dir);
	p->l4 = l4;
	p->room = room;
	p->first = 0;
	return is_extension(p->key.proto) ? skip_extensions(skb, 0) : REASON_NONE;
}

/* All words of the address folded into one, because the helper takes no more. To a COMPLETE sum it adds what the check
 * becomes; but the address itself makes up for that, and no header's checksum does as in IPv4, so it is taken back.
 * (BPF_F_IPV6 says the same to the helper, in some kernels only.) */
static __always_inline long fix_address6(struct __sk_buff *skb, __u32 at, ip6 from, ip6 to, __u64 flags)
{
	__u32 before = addr_sum(from), after = addr_sum(to);

	if (bpf_l4_csum_replace(skb, at, before, after, sizeof(after) | BPF_F_PSEUDO_HDR | flags))
		return -1;
	csum_changed(skb, (__u64)(__u32)~before + after);
	return 0;
}

/* The destination's address forward, the source's in reverse. */
static __always_inline long get_address6(struct __sk_buff *skb, enum dir dir, ip6 *addr)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + l2_len(skb);

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	*addr = *(ip6 *)(dir == DIR_FORWARD ? ip->daddr : ip->saddr);
	return 0;
}

/* Puts another one there. */
static __always_inline long set_address6(struct __sk_buff *skb, enum dir dir, ip6 from, ip6 to)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + l2_len(skb);

	(void)from;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	*(ip6 *)(dir == DIR_FORWARD ? ip->daddr : ip->saddr) = to;
	return 0;
}

/* ---- ICMPv6 errors -------------------------------------------------------------------------------------------------
 */

static __always_inline int is_error6(__u8 type)
{
	return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
}

/* The IP headers that the error in `p` quotes. */
static __always_inline enum reason quoted_header6(struct __sk_buff *skb, const struct packet6 *p, enum dir dir,
                                                  struct packet6 *quoted)
{
	__u32 at = p->l4 + sizeof(struct icmphdr);
	struct ipv6hdr *ip = bytes_at(skb, at, sizeof(*ip));

	if (at + sizeof(*ip) > L4_MAX)
		return REASON_EXTENSION;
	if (!ip || p->room < sizeof(struct icmphdr) + sizeof(*ip) || !version_ok6(ip))
		return REASON_MALFORMED;
	quoted->key = addresses6(ip, dir);
	quoted->l4 = at + sizeof(*ip);
	quoted->room = p->room - sizeof(struct icmphdr) - sizeof(*ip);
	return is_extension(quoted->key.proto) ? skip_extensions(skb, 1) : REASON_NONE;
}

static __always_inline __u64 requote_header6(struct __sk_buff *skb, const struct packet6 *p, const struct key6 *to)
{
	struct ipv6hdr *ip = bytes_at(skb, p->l4 + sizeof(struct icmphdr), sizeof(*ip));
	__u64 addresses = 0;

	if (!ip)
		return 0;
	for (__u32 i = 0; i < 4; i++) {
		put32(&ip->saddr[i], to->src.word[i], &addresses);
		put32(&ip->daddr[i], to->dst.word[i], &addresses);
	}
	return addresses;
}

#endif
