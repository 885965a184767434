// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/*
 * Destination NAT between a device and the network stack. What arrives is sent to a server of ours as the rules say,
 * its answers leave as if the original destination had spoken, and what was asked for is recorded.
 *
 *	detour_in   ingress: packet -> flow -> rewritten to the server;  no flow: may it open one? (arrive.h)
 *	detour_out  egress:  packet -> flow -> rewritten to come from the original destination
 *
 * A packet that has no flow is never changed. Later filters on the hook always run, except after a drop.
 */
#include "asked.h"
#include "events.h"
#include "maps.h"
#include "names.h"
#include "rules.h"
#include "sums.h"

#define FAMILY 4
#include "family.h"
#undef FAMILY
#define FAMILY 6
#include "family.h"
#undef FAMILY

char _license[] SEC("license") = "Dual MIT/GPL";

/* A tag of VLAN 0 has a priority and names no VLAN (802.1Q, 6.9.1): the kernel gives the frame to the device itself. */
static __always_inline int priority_tagged(struct __sk_buff *skb)
{
	return skb->vlan_present && !(skb->vlan_tci & VLAN_VID_MASK) && !is_tag(skb->protocol);
}

/* What the frame carries; 0 if that is not this device's traffic. */
static __always_inline __u32 carried(struct __sk_buff *skb)
{
	__u32 type = skb->protocol;

	if (!skb->vlan_present && !is_tag(type))
		return type;
	if (!(cfg.flags & CFG_VLAN))
		return priority_tagged(skb) ? type : 0;
	if (is_tag(type))
		reach(skb, ETH_HLEN + TAGS_MAX * sizeof(struct vlan_hdr));
	return behind_tags(skb) >> 16;
}

/* What is no IP is not forwarded, but may be switched; on a sealed device only ARP is left. */
static __always_inline int pass_other(struct __sk_buff *skb, enum reason reason)
{
	if (cfg.flags & CFG_SEALED && skb->protocol != bpf_htons(ETH_P_ARP))
		return drop(REASON_SEALED);
	return pass(reason);
}

/* IPv6 in functions that the verifier follows by themselves: IPv4 pays one compare for it. */
__noinline int detour6_in(struct __sk_buff *skb)
{
	return in6(skb);
}

__noinline int detour6_out(struct __sk_buff *skb)
{
	return out6(skb);
}

SEC("classifier")
int detour_in(struct __sk_buff *skb)
{
	__u32 type = carried(skb);

	if (type == bpf_htons(ETH_P_IP))
		return next4(skb, DIR_FORWARD, in4(skb));
	if (type == bpf_htons(ETH_P_IPV6))
		return next6(skb, DIR_FORWARD, detour6_in(skb));
	return pass_other(skb, type ? REASON_NOT_IP : REASON_VLAN);
}

SEC("classifier")
int detour_out(struct __sk_buff *skb)
{
	__u32 type = carried(skb);

	if (skb->mark == OURS) {
		skb->mark = 0;
		return TC_ACT_UNSPEC;
	}
	if (type == bpf_htons(ETH_P_IP))
		return next4(skb, DIR_REVERSE, out4(skb));
	if (type == bpf_htons(ETH_P_IPV6))
		return next6(skb, DIR_REVERSE, detour6_out(skb));
	return pass(type ? REASON_NOT_IP : REASON_VLAN);
}
