// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/*
 * Prints source and destination of every IP packet to the kernel's trace (/sys/kernel/tracing/trace_pipe), in either
 * direction, and lets it pass:
 *
 *	IPv4 192.168.178.51 > 1.2.3.4
 *	IPv6 2001:0db8:0000:0000:0000:0000:0000:0001 >
 *	IPv6 > fd00:0000:0000:0000:0000:0000:0000:0002
 *
 * Kernels before 5.13 know neither %pI4 nor more than one %s of 63 characters, hence the digits made here and two lines
 * for IPv6.
 */
#include "uapi.h"

char _license[] SEC("license") = "Dual MIT/GPL";

/* Bytes before the IP header: 14, or 0 on layer-3 devices. */
const volatile __u32 l2_len = ETH_HLEN;

#define LINE 64

/* One text per CPU. Written and read by one run of the program; holds nothing between runs. It is a map because the
 * verifier of 5.10 knows no variable offset on the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, char[LINE]);
} line SEC(".maps");

/* Each put_ function writes at `at` and returns the place behind. No branches: their number would be squared by each
 * digit in the verifier. */
static __always_inline __u32 put(char *text, __u32 at, char c)
{
	text[at & (LINE - 1)] = c;
	return at + 1;
}

/* 0 to 255 in one to three digits: all three are written, those that are leading zeros are overwritten by the next. */
static __always_inline __u32 put_octet(char *text, __u32 at, __u32 value)
{
	__u32 hundreds = (99 - value) >> 31; /* 1 if value > 99 */
	__u32 tens = (9 - value) >> 31;

	put(text, at, '0' + value / 100);
	at += hundreds;
	put(text, at, '0' + value / 10 % 10);
	at += tens;
	return put(text, at, '0' + value % 10);
}

static __always_inline __u32 put_ip4(char *text, __u32 at, __be32 addr)
{
	__u32 host = bpf_ntohl(addr);

	at = put_octet(text, at, host >> 24);
	at = put(text, at, '.');
	at = put_octet(text, at, host >> 16 & 0xff);
	at = put(text, at, '.');
	at = put_octet(text, at, host >> 8 & 0xff);
	at = put(text, at, '.');
	return put_octet(text, at, host & 0xff);
}

static __always_inline char hex_digit(__u32 value)
{
	/* 'a' - '0' - 10 more for 10 to 15; (9 - value) >> 31 is 1 for these. */
	return '0' + value + (('a' - '0' - 10) & -((9 - value) >> 31));
}

static __always_inline void put_ip6(char *text, const __be32 addr[4])
{
	__u32 at = 0;

	for (__u32 i = 0; i < 8; i++) {
		__u32 word = bpf_ntohl(addr[i / 2]) >> (i % 2 ? 0 : 16);

		if (i)
			at = put(text, at, ':');
		at = put(text, at, hex_digit(word >> 12 & 15));
		at = put(text, at, hex_digit(word >> 8 & 15));
		at = put(text, at, hex_digit(word >> 4 & 15));
		at = put(text, at, hex_digit(word & 15));
	}
	put(text, at, 0);
}

static __always_inline void trace_ip4(struct __sk_buff *skb, char *text)
{
	struct iphdr *ip = (void *)(long)skb->data + l2_len;
	__u32 at;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return;
	at = put_ip4(text, 0, ip->saddr);
	at = put(text, at, ' ');
	at = put(text, at, '>');
	at = put(text, at, ' ');
	at = put_ip4(text, at, ip->daddr);
	put(text, at, 0);
	bpf_printk("IPv4 %s", text);
}

static __always_inline void trace_ip6(struct __sk_buff *skb, char *text)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + l2_len;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return;
	put_ip6(text, ip->saddr);
	bpf_printk("IPv6 %s >", text);
	put_ip6(text, ip->daddr);
	bpf_printk("IPv6 > %s", text);
}

SEC("classifier")
int trace(struct __sk_buff *skb)
{
	__u32 zero = 0;
	char *text = bpf_map_lookup_elem(&line, &zero);

	if (!text)
		return TC_ACT_UNSPEC;
	/* Headers may lie outside the linear part; harmless when the packet is shorter. */
	bpf_skb_pull_data(skb, l2_len + sizeof(struct ipv6hdr));
	if (skb->protocol == bpf_htons(ETH_P_IP))
		trace_ip4(skb, text);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		trace_ip6(skb, text);
	return TC_ACT_UNSPEC;
}
