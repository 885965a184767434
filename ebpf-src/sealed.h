/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: what passes untranslated. On a sealed device only that which this machine keeps for itself: its own
 * addresses, broadcast and multicast (hence ND, DHCP, MLD), unless the packet itself says where it goes from here. All
 * else could be forwarded, and is dropped.
 */
#define keptN    F(kept)
#define sealedN  F(sealed)
#define routedN  F(routed)
#define pass_inN F(pass_in)

/* The kernel forwards none of these by itself; multicast only for a routing daemon that asks for it. */
#if FAMILY == 4
#define DADDR_AT4 __builtin_offsetof(struct iphdr, daddr)
static __always_inline int kept4(ip4 addr)
{
	__u32 host = bpf_ntohl(addr);

	return host == 0 || host >> 28 == 14 || host == 0xffffffff;
}
#else
#define DADDR_AT6 __builtin_offsetof(struct ipv6hdr, daddr)
static __always_inline int kept6(ip6 addr)
{
	__u32 first = bpf_ntohl(addr.word[0]);

	return first >> 24 == 0xff || first >> 22 == 0xfe80 >> 6;
}
#endif

/* Reads the address anew: there are packets of which nothing else is known. */
__noinline int sealedN(struct __sk_buff *skb, __u32 reason)
{
	ipN dst;

	if (!bpf_skb_load_bytes(skb, l2_len(skb) + F(DADDR_AT), &dst, sizeof(dst)) &&
	    (keptN(dst) || local_flagsN(dst) & (LOCAL_OWN | LOCAL_BROADCAST)))
		return pass(reason < REASON_COUNT ? reason : REASON_MALFORMED);
	return drop(REASON_SEALED);
}

/* Does the packet of this_workN(), just parsed, say by which hosts it wants to go on? The kernel follows that where it
 * is told to (accept_source_route, seg6_enabled, rpl_seg_enabled), also from our own address: what stops nowhere else
 * on its way through the headers. */
#if FAMILY == 4
#define OPTIONS_MAX 40

/* A function that the verifier follows by itself. */
__noinline int source_route4(struct __sk_buff *skb)
{
	struct work4 *w = this_work4();
	__u32 at = l2_len(skb) + sizeof(struct iphdr);
	struct {
		__u8 kind;
		__u8 len;
	} option;

	for (__u32 n = 0; w && n < OPTIONS_MAX && at < w->packet.l4; n++) {
		if (bpf_skb_load_bytes(skb, at, &option.kind, 1) || option.kind == IPOPT_END)
			return 0;
		at++;
		if (option.kind == IPOPT_NOOP)
			continue;
		if (option.kind == IPOPT_LSRR || option.kind == IPOPT_SSRR)
			return 1;
		if (bpf_skb_load_bytes(skb, at, &option.len, 1) || option.len < 2)
			return 0; /* the kernel takes none of these */
		at += option.len - 1;
	}
	return 0;
}

static __always_inline int routed4(struct __sk_buff *skb, const struct packet4 *p, enum reason reason)
{
	(void)reason;
	return p->l4 > l2_len(skb) + sizeof(struct iphdr) && source_route4(skb);
}
#else
static __always_inline int routed6(struct __sk_buff *skb, const struct packet6 *p, enum reason reason)
{
	(void)skb;
	return reason == REASON_EXTENSION || (reason == REASON_MALFORMED && is_extension(p->key.proto));
}
#endif

static __always_inline int pass_inN(struct __sk_buff *skb, enum reason reason)
{
	return cfg.flags & CFG_SEALED ? sealedN(skb, reason) : pass(reason);
}
