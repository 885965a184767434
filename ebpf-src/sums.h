/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* Sums over whole packets, for those that are answered here: they are rare, so that what they cost does not matter. */
#ifndef DETOUR_SUMS_H
#define DETOUR_SUMS_H

#include "frame.h"
#include "maps.h"

#define CHUNK  512
#define CHUNKS 128 /* 64 KiB */

struct chunk {
	__u8 bytes[CHUNK];
	__u32 off; /* where it begins */
	__u32 len; /* of the packet from there on */
	__u32 sum; /* of what was before */
	__u32 pad;
};

/* A part of a packet, while it is summed up. One per CPU; means nothing between runs. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct chunk);
} chunk SEC(".maps");

static __always_inline __u32 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Adds the next chunk. 0, or -1 if the frame ends before. A function by itself, so that the verifier follows it once.
 */
__noinline int sum_chunk(struct __sk_buff *skb)
{
	__u32 zero = 0, last, words;
	struct chunk *c = bpf_map_lookup_elem(&chunk, &zero);

	if (!c || !c->len)
		return -1;
	/* Written so that the verifier sees 1 .. CHUNK bytes, and a multiple of four. */
	last = (c->len < CHUNK ? c->len - 1 : CHUNK - 1) & (CHUNK - 1);
	words = (last >> 2) + 1;
	*(__u32 *)(c->bytes + (last & ~3U)) = 0;
	if (bpf_skb_load_bytes(skb, c->off, c->bytes, last + 1))
		return -1;
	c->sum = fold(bpf_csum_diff(0, 0, (void *)c->bytes, words * 4, c->sum));
	c->off += last + 1;
	c->len -= last + 1;
	return 0;
}

/* The one's complement sum of `len` bytes of the frame from `off` on; -1 if they are not there. */
__noinline int sum_packet(struct __sk_buff *skb, __u32 off, __u32 len)
{
	__u32 zero = 0;
	struct chunk *c = bpf_map_lookup_elem(&chunk, &zero);

	if (!c)
		return -1;
	c->off = off;
	c->len = len;
	c->sum = 0;
	for (__u32 i = 0; i < CHUNKS && *(volatile __u32 *)&c->len; i++)
		if (sum_chunk(skb))
			return -1;
	return c->len ? -1 : (int)(c->sum & 0xffff);
}

/* Will the device finish the transport checksum at `at`, which reads `check` (CHECKSUM_PARTIAL)? No field says so; but
 * then a replacement outside of the pseudo header leaves the checksum alone. */
static __always_inline int unfinished(struct __sk_buff *skb, __u32 at, __u16 check)
{
	__u16 now = check;

	if (bpf_l4_csum_replace(skb, at, 0, 1, sizeof(__u32)) || bpf_skb_load_bytes(skb, at, &now, sizeof(now)))
		return 0;
	return now == check || bpf_skb_store_bytes(skb, at, &check, sizeof(check), 0);
}

#endif
