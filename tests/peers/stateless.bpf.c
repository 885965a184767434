// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/*
 * The least that a DNAT in tc can do to a packet: find one element by its tuple, count, change one address with both
 * checksums. No state, no rules, no options, one address each way. `scripts/bench datapath traffic` runs it beside
 * ours: what it costs is the price of the hook, a hash map and the kernel's checksum helper.
 */
#include "uapi.h"

const volatile __be32 asked;
const volatile __be32 server;

struct tuple {
	__be32 src;
	__be32 dst;
	__be32 ports;
	__u8 proto;
	__u8 pad[3];
};

struct counts {
	__u64 packets;
	__u64 bytes;
};

/* Programs write; an entry lives as long as the map. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct tuple);
	__type(value, struct counts);
} flows SEC(".maps");

char _license[] SEC("license") = "Dual MIT/GPL";

static __always_inline int translate(struct __sk_buff *skb, int arrives, __be32 from, __be32 to)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;
	struct tuple key = {};
	struct counts *counts, none = {};
	__u64 sum, flags;
	__u32 at;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    (void *)(ip + 1) + sizeof(struct udphdr) > (void *)(long)skb->data_end)
		return TC_ACT_UNSPEC;
	if (ip->version_ihl != 0x45 || (arrives ? ip->daddr : ip->saddr) != from)
		return TC_ACT_UNSPEC;
	key.src = ip->saddr;
	key.dst = ip->daddr;
	key.ports = *(__be32 *)(ip + 1);
	key.proto = ip->protocol;
	counts = bpf_map_lookup_elem(&flows, &key);
	if (!counts) {
		bpf_map_update_elem(&flows, &key, &none, 0);
		counts = bpf_map_lookup_elem(&flows, &key);
	}
	if (counts) {
		__sync_fetch_and_add(&counts->packets, 1);
		__sync_fetch_and_add(&counts->bytes, skb->len);
	}
	at = key.proto == IPPROTO_UDP ? __builtin_offsetof(struct udphdr, check)
	                              : __builtin_offsetof(struct tcphdr, check);
	flags = key.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	if (bpf_l4_csum_replace(skb, ETH_HLEN + sizeof(*ip) + at, from, to, sizeof(to) | BPF_F_PSEUDO_HDR | flags))
		return TC_ACT_SHOT;
	ip = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	sum = (__u16)~ip->check + (__u64)(__u32)~from + to;
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = ~sum;
	if (arrives)
		ip->daddr = to;
	else
		ip->saddr = to;
	return TC_ACT_UNSPEC;
}

SEC("tc")
int arrives(struct __sk_buff *skb)
{
	return translate(skb, 1, asked, server);
}

SEC("tc")
int leaves(struct __sk_buff *skb)
{
	return translate(skb, 0, server, asked);
}
