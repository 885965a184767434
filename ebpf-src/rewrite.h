/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * Changes one address and the ports of a packet, with checksums that stay right whatever the offload state:
 *
 * - address: bpf_l4_csum_replace with the pseudo header flag. Where the device will finish the sum (CHECKSUM_PARTIAL)
 *   only this part is in the field, where the device has summed (CHECKSUM_COMPLETE) the helper mends its sum.
 * - ports: a second call without that flag, both ports as one 32-bit word. One call for both would be wrong for
 * PARTIAL.
 * - IP header: by hand (RFC 1624). Header checksum and address change cancel out in a COMPLETE sum, as do transport
 *   checksum and ports, hence the plain stores.
 * - UDP without checksum stays so; only a COMPLETE sum must then learn of the ports.
 */
#ifndef DETOUR_REWRITE_H
#define DETOUR_REWRITE_H

#include "packet.h"

/* RFC 1624, equation 3: a checksum after what it covers has changed. `change` is the sum of ~old + new of its words,
 * 16 or 32 bits each, a few of them. */
static __always_inline __u16 csum_mend(__u16 check, __u64 change)
{
	__u64 sum = (__u16)~check + change;

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Stores a word, and adds to `change` what that does to a sum over it. */
static __always_inline void put16(__u16 *at, __u16 value, __u64 *change)
{
	*change += (__u16) ~*at;
	*change += value;
	*at = value;
}

static __always_inline void put32(__u32 *at, __u32 value, __u64 *change)
{
	*change += (__u32) ~*at;
	*change += value;
	*at = value;
}

/* Both ports as they lie in the packet, one 32-bit word. */
static __always_inline __u32 port_word(__be16 sport, __be16 dport)
{
	union {
		__be16 half[2];
		__u32 word;
	} ports = {.half = {sport, dport}};

	return ports.word;
}

static __always_inline long replace_ports_unsummed(struct __sk_buff *skb, __u32 from, __u32 to)
{
	__u64 sum = (__u64)(__u32)~from + to;

	bpf_csum_update(skb, (sum & 0xffffffff) + (sum >> 32)); /* fails where there is no such sum: as it should */
	return 0;
}

static __always_inline long fix_transport(struct __sk_buff *skb, const struct packet *p, __be32 addr, __be32 new_addr,
                                          __u32 ports, __u32 new_ports)
{
	__u64 zero_stays = p->key.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 at = p->l4 + (p->key.proto == IPPROTO_UDP ? __builtin_offsetof(struct udphdr, check)
	                                                : __builtin_offsetof(struct tcphdr, check));

	if (p->unsummed)
		return ports == new_ports ? 0 : replace_ports_unsummed(skb, ports, new_ports);
	if (bpf_l4_csum_replace(skb, at, addr, new_addr, sizeof(addr) | BPF_F_PSEUDO_HDR | zero_stays))
		return -1;
	if (ports == new_ports)
		return 0;
	return bpf_l4_csum_replace(skb, at, ports, new_ports, sizeof(ports) | zero_stays);
}

/* ICMP has no pseudo header, so the address is not in its sum. */
static __always_inline long fix_icmp(struct __sk_buff *skb, const struct packet *p, __be16 id, __be16 new_id)
{
	if (id == new_id)
		return 0;
	return bpf_l4_csum_replace(skb, p->l4 + __builtin_offsetof(struct icmphdr, checksum), id, new_id, sizeof(id));
}

/* The packet becomes what a packet of key `to` would look like: forward the destination changes, reverse the source,
 * and the ports in both. 0, or -1 when the kernel refused, with the packet half done: drop it then. */
static __always_inline int rewrite(struct __sk_buff *skb, const struct packet *p, enum dir dir, const struct key4 *to)
{
	const struct key4 *from = &p->key;
	__be32 addr = dir == DIR_FORWARD ? from->dst : from->src;
	__be32 new_addr = dir == DIR_FORWARD ? to->dst : to->src;
	__u32 ports = port_word(from->sport, from->dport);
	__u32 new_ports = port_word(to->sport, to->dport);
	__be16 new_id = dir == DIR_FORWARD ? to->sport : to->dport;
	__u32 icmp = from->proto == IPPROTO_ICMP;
	struct iphdr *ip;
	void *l4, *end;

	if (addr == new_addr && ports == new_ports)
		return 0;
	if (icmp ? fix_icmp(skb, p, dir == DIR_FORWARD ? from->sport : from->dport, new_id)
	         : fix_transport(skb, p, addr, new_addr, ports, new_ports))
		return -1;

	/* The helpers made all pointers void, and the verifier wants its bounds anew. */
	end = (void *)(long)skb->data_end;
	ip = (void *)(long)skb->data + cfg.l2_len;
	if ((void *)(ip + 1) > end)
		return -1;
	l4 = (void *)ip + (ip->version_ihl & 15) * 4;
	if (l4 + sizeof(struct udphdr) > end)
		return -1;
	ip->check = csum_mend(ip->check, (__u64)(__u32)~addr + new_addr);
	if (dir == DIR_FORWARD)
		ip->daddr = new_addr;
	else
		ip->saddr = new_addr;
	if (icmp)
		((struct icmphdr *)l4)->id = new_id;
	else
		*(__u32 *)l4 = new_ports;
	return 0;
}

#endif
