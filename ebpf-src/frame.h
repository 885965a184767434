/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* What reading a frame needs in either family: bytes within reach, places in them, and checksums that follow a change.
 */
#ifndef DETOUR_FRAME_H
#define DETOUR_FRAME_H

#include "maps.h"

/* VLAN tags in the frame; the outermost is mostly in the metadata (skb->vlan_present), and counts for nothing here. */
#define TAGS_MAX 2

static __always_inline int is_tag(__u32 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/* The type of what is behind all tags, in the upper half, and in the lower where that begins; both 0 if tags are cut
 * off or too many. A function that the verifier follows by itself. */
__noinline __u32 behind_tags(struct __sk_buff *skb)
{
	__u32 type = skb->protocol & 0xffff, at = ETH_HLEN;
	struct vlan_hdr *tag;

	for (int i = 0; i < TAGS_MAX && is_tag(type); i++) {
		tag = (void *)(long)skb->data + at;
		if ((void *)(tag + 1) > (void *)(long)skb->data_end)
			return 0;
		type = tag->type;
		at += sizeof(*tag);
	}
	return is_tag(type) ? 0 : type << 16 | at;
}

/* Bytes before the IP header. */
static __always_inline __u32 l2_len(struct __sk_buff *skb)
{
	return cfg.flags & CFG_VLAN ? behind_tags(skb) & 31 : cfg.l2_len;
}

/* Makes the first `len` bytes of the frame directly readable. Pointers into the packet are void afterwards. */
static __always_inline int reach(struct __sk_buff *skb, __u32 len)
{
	if ((void *)(long)skb->data + len <= (void *)(long)skb->data_end)
		return 1;
	return skb->len >= len && bpf_skb_pull_data(skb, len) == 0;
}

/* A transport header that begins further on is not looked for. */
#define L4_MAX 0x7ff

/* The `len` bytes of the frame from `at` on, at most L4_MAX; none if they are not all directly readable. The mask
 * changes nothing: it tells the verifier, who knows nothing of a number from a map. */
static __always_inline void *bytes_at(struct __sk_buff *skb, __u32 at, __u32 len)
{
	void *p = (void *)(long)skb->data + (at & L4_MAX);

	return p + len <= (void *)(long)skb->data_end ? p : 0;
}

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

/* Tells a sum that the device made (CHECKSUM_COMPLETE) of a change in the frame; fails where there is none: as it
 * should.
 */
static __always_inline void csum_changed(struct __sk_buff *skb, __u64 change)
{
	change = (change & 0xffffffff) + (change >> 32);
	bpf_csum_update(skb, (change & 0xffffffff) + (change >> 32));
}

/* A checksum follows what it covers, unless it says that there is none. All that changes is added to `change`. */
static __always_inline void mend(__u16 *check, __u64 covered, int udp, __u64 *change)
{
	__u16 sum = *check;

	if (udp && !sum)
		return;
	sum = csum_mend(sum, covered);
	put16(check, udp && !sum ? 0xffff : sum, change);
}

#endif
