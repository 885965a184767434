/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: what passes untranslated. On a sealed device only that which this machine keeps for itself: its own
 * addresses, broadcast and multicast (hence ND, DHCP, MLD). All else could be forwarded, and is dropped.
 */
#define keptN    F(kept)
#define sealedN  F(sealed)
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

static __always_inline int pass_inN(struct __sk_buff *skb, enum reason reason)
{
	return cfg.flags & CFG_SEALED ? sealedN(skb, reason) : pass(reason);
}
