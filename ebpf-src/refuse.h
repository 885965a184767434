/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: tells a client that its packet is refused, as nft's `reject` does. The packet itself becomes the
 * answer, a TCP RST or an ICMP destination unreachable that quotes it, speaks in the name of the address that was
 * asked, and goes back through the device it came from. Nobody is told about a packet that is damaged.
 */
#define addr_sumN         F(addr_sum)
#define answer_headerN    F(answer_header)
#define pseudoN           F(pseudo)
#define summedN           F(summed)
#define answer_resetN     F(answer_reset)
#define answer_icmpN      F(answer_icmp)
#define refuseN           F(refuse)
#define iphdrN            F(iphdr_of)
#define QUOTEN            F(QUOTE)
#define ADMIN_PROHIBITEDN F(ADMIN_PROHIBITED)

#ifndef DETOUR_REFUSE_H
#define DETOUR_REFUSE_H

#define ANSWER_TTL 64

/* ICMP answers of each CPU, as the kernel limits its own by net.ipv4.icmp_msgs_per_sec and icmp_msgs_burst. It has a
 * limit per receiver, too, which here would be state for each made-up client; an answer is hardly longer than what it
 * answers, so that there is nothing to gain for those who make up clients. RSTs are as few as SYNs, and not limited. */
#define ANSWERS_PER_SECOND 1000
#define ANSWERS_AT_ONCE    50

struct answers {
	__u64 since; /* jiffies, when `left` was last raised */
	__u32 left;
	__u32 pad;
};

/* How many more ICMP answers this CPU may send. Programs alone. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answers);
} answers SEC(".maps");

static __always_inline int may_answer(void)
{
	__u64 now = bpf_jiffies64(), more;
	__u32 zero = 0;
	struct answers *a = bpf_map_lookup_elem(&answers, &zero);

	if (!a)
		return 0;
	more = (now - a->since) * ANSWERS_PER_SECOND / cfg.hz;
	if (more) {
		more += a->left;
		a->left = more < ANSWERS_AT_ONCE ? more : ANSWERS_AT_ONCE;
		a->since = now;
	}
	if (!a->left)
		return 0;
	a->left--;
	return 1;
}

/* Is the transport checksum right? */
enum summed {
	SUM_WRONG,
	SUM_RIGHT,
	SUM_NONE,       /* there is none, or none that we know of */
	SUM_UNFINISHED, /* the sender's device leaves it to the receiver's (CHECKSUM_PARTIAL) */
};

/* The packet leaves through the device that it came from. */
static __always_inline int send_back(struct __sk_buff *skb)
{
	__u8 from[12], to[12];

	if (cfg.l2_len >= ETH_HLEN) {
		if (bpf_skb_load_bytes(skb, 0, from, sizeof(from)))
			return TC_ACT_SHOT;
		__builtin_memcpy(to, from + 6, 6);
		__builtin_memcpy(to + 6, from, 6);
		if (bpf_skb_store_bytes(skb, 0, to, sizeof(to), 0))
			return TC_ACT_SHOT;
	}
	skb->mark = OURS;
	return bpf_redirect(skb->ifindex, 0);
}

#endif

/* ---- the header of the answer: from the address that was asked to who asked, `len` bytes behind it ------------------
 */

#if FAMILY == 4

/* As much of the packet as the kernel quotes, so that the answer has at most 576 bytes (RFC 1812, 4.3.2.3). */
#define QUOTE4            (576 - sizeof(struct iphdr) - sizeof(struct icmphdr))
#define iphdr_of4         iphdr
#define ADMIN_PROHIBITED4 13

static __always_inline __u64 addr_sum4(ip4 addr)
{
	return addr;
}

/* `tos`: of the packet that is refused. ICMP has its type of service, beside internetwork control: as the kernel's. */
static __always_inline struct iphdr answer_header4(const struct key4 *key, __u8 proto, __u8 tos, __u32 len)
{
	struct iphdr ip = {
		.version_ihl = 0x45,
		.tos = proto == IPPROTO_ICMP ? (tos & 0x1e) | 0xc0 : 0,
		.tot_len = bpf_htons(sizeof(ip) + len),
		.frag_off = bpf_htons(IP_DF),
		.ttl = ANSWER_TTL,
		.protocol = proto,
		.saddr = key->dst,
		.daddr = key->src,
	};

	ip.check = ~fold((__u64)bpf_htons(0x4500 | ip.tos) + ip.tot_len + ip.frag_off +
	                 bpf_htons(ANSWER_TTL << 8 | proto) + ip.saddr + ip.daddr);
	return ip;
}

#else

/* At most the least MTU (RFC 4443, 2.4c). */
#define QUOTE6            (1280 - sizeof(struct ipv6hdr) - sizeof(struct icmphdr))
#define iphdr_of6         ipv6hdr
#define ADMIN_PROHIBITED6 1

static __always_inline __u64 addr_sum6(ip6 addr)
{
	return (__u64)addr.word[0] + addr.word[1] + addr.word[2] + addr.word[3];
}

static __always_inline struct ipv6hdr answer_header6(const struct key6 *key, __u8 proto, __u8 tos, __u32 len)
{
	struct ipv6hdr ip = {
		.version_class_label = bpf_htonl(0x60000000),
		.payload_len = bpf_htons(len),
		.nexthdr = proto,
		.hop_limit = ANSWER_TTL,
	};

	(void)tos;
	__builtin_memcpy(ip.saddr, &key->dst, sizeof(ip.saddr));
	__builtin_memcpy(ip.daddr, &key->src, sizeof(ip.daddr));
	return ip;
}

#endif

/* What a checksum covers besides the packet; the same for both directions. */
static __always_inline __u64 pseudoN(const struct keyN *key, __u8 proto, __u32 len)
{
	if (!sums_addressesN(proto))
		return 0;
	return addr_sumN(key->src) + addr_sumN(key->dst) + bpf_htons(proto) + bpf_htons(len);
}

/* Also where the sum is unfinished, and then what there is of it. */
static __always_inline enum summed summedN(struct __sk_buff *skb, const struct packetN *p, __u16 *check)
{
	__u8 proto = p->key.proto;
	__u32 at = p->l4 + check_offsetN(proto);
	int sum;

	if (!portsN(proto) || p->first)
		return SUM_NONE;
	if (bpf_skb_load_bytes(skb, at, check, sizeof(*check)))
		return SUM_WRONG;
	if (proto == IPPROTO_UDP && !*check)
		return HEADER_SUMMEDN ? SUM_NONE : SUM_WRONG;
	if (unfinished(skb, at, *check))
		return SUM_UNFINISHED;
	sum = sum_packet(skb, p->l4, p->room);
	return sum >= 0 && fold(sum + pseudoN(&p->key, proto, p->room)) == 0xffff ? SUM_RIGHT : SUM_WRONG;
}

/* RFC 9293, 3.10.7.1: the sequence number that an acknowledgement asks for, else an acknowledgement of all. */
static __always_inline int answer_resetN(struct __sk_buff *skb, const struct packetN *p, enum summed summed)
{
	__u32 net = l2_len(skb), len = sizeof(struct tcphdr);
	struct iphdrN ip = answer_headerN(&p->key, IPPROTO_TCP, 0, len);
	struct tcphdr in, out = {.source = p->key.dport, .dest = p->key.sport, .doff = 5 << 4, .flags = TCP_RST};
	__u64 sum = pseudoN(&p->key, IPPROTO_TCP, len);
	__u32 options = p->l4 - net - sizeof(ip), begins;

	if (bpf_skb_load_bytes(skb, p->l4, &in, sizeof(in)) || in.flags & TCP_RST)
		return TC_ACT_SHOT;
	if (in.flags & TCP_ACK) {
		out.seq = in.ack_seq;
	} else {
		begins = bpf_ntohl(in.seq) + !!(in.flags & TCP_SYN) + !!(in.flags & TCP_FIN);
		out.ack_seq = bpf_htonl(begins + p->room - (in.doff >> 4) * 4);
		out.flags |= TCP_ACK;
	}
	if (summed == SUM_UNFINISHED)
		out.check = fold(sum);
	else
		out.check = ~fold(sum + ((__u64)out.dest << 16 | out.source) + out.seq + out.ack_seq +
		                  bpf_htons(out.doff << 8 | out.flags));
	if (options && bpf_skb_adjust_room(skb, -(__s32)options, BPF_ADJ_ROOM_NET, 0))
		return TC_ACT_SHOT;
	if (bpf_skb_change_tail(skb, net + sizeof(ip) + len, 0) ||
	    bpf_skb_store_bytes(skb, net, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM) ||
	    bpf_skb_store_bytes(skb, net + sizeof(ip), &out, len, BPF_F_RECOMPUTE_CSUM))
		return TC_ACT_SHOT;
	return send_back(skb);
}

/* A checksum that is finished only when the packet leaves is counted as it will be then: its part of the sum is the
 * complement of what it starts from. */
static __always_inline int answer_icmpN(struct __sk_buff *skb, const struct packetN *p, enum summed summed, __u16 check,
                                        __u8 code)
{
	__u32 net = l2_len(skb), quoted = p->l4 - net + p->room, len;
	struct icmphdr icmp = {.type = ICMP_UNREACHN, .code = code};
	struct iphdrN ip;
	__u64 sum = 0;
	__u8 tos;
	int part;

	if (!may_answer() || bpf_skb_load_bytes(skb, net + __builtin_offsetof(struct iphdr, tos), &tos, sizeof(tos)))
		return TC_ACT_SHOT;
	quoted = quoted < QUOTEN ? quoted : QUOTEN;
	len = sizeof(icmp) + quoted;
	ip = answer_headerN(&p->key, ICMP_PROTON, tos, len);
	if (bpf_skb_change_tail(skb, net + quoted, 0))
		return TC_ACT_SHOT;
	if (summed == SUM_UNFINISHED) {
		quoted = p->l4 - net;
		sum = (__u16)~check;
	}
	part = sum_packet(skb, net, quoted);
	if (part < 0)
		return TC_ACT_SHOT;
	sum += part + pseudoN(&p->key, ICMP_PROTON, len) + bpf_htons(icmp.type << 8 | code);
	icmp.checksum = ~fold(sum);
	if (bpf_skb_adjust_room(skb, sizeof(ip) + sizeof(icmp), BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_store_bytes(skb, net, &ip, sizeof(ip), BPF_F_RECOMPUTE_CSUM) ||
	    bpf_skb_store_bytes(skb, net + sizeof(ip), &icmp, sizeof(icmp), BPF_F_RECOMPUTE_CSUM))
		return TC_ACT_SHOT;
	return send_back(skb);
}

/* Answers the packet of this_workN() as w->how says; TC_ACT_SHOT where nobody is told. A function by itself. */
__noinline int refuseN(struct __sk_buff *skb)
{
	struct workN *w = this_workN();
	int action = TC_ACT_SHOT;
	enum summed summed;
	__u16 check = 0;

	if (!w)
		return TC_ACT_SHOT;
	if (cfg.flags & CFG_VLAN && l2_len(skb) != ETH_HLEN) /* the kernel has no room to give behind a tag */
		summed = SUM_WRONG;
	else
		summed = summedN(skb, &w->packet, &check);
	if (summed != SUM_WRONG && w->how == REJECT_RESET)
		action = answer_resetN(skb, &w->packet, summed);
	else if (summed != SUM_WRONG)
		action = answer_icmpN(skb, &w->packet, summed, check, w->how - 1);
	if (w->outcome.reason == REASON_REJECT)
		count_reason(action == TC_ACT_SHOT ? REASON_SILENT : REASON_REJECT);
	return action;
}
