/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: a key as the index has it. IPv4: as it is. IPv6: hashed to 64 bits, because the flow's slot has both
 * its keys in full and they are compared there: two keys of one hash are as if one of them had no flow.
 */
#define index_keyN     F(index_key)
#define index_atN      F(index_at)
#define index_reverseN F(index_reverse)
#define reverse_equalN F(reverse_equal)

#ifndef DETOUR_INDEX_H
#define DETOUR_INDEX_H

typedef __u32 __attribute__((may_alias)) key_half;

static __always_inline struct secret *the_secret(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&secret, &zero);
}

/* A multilinear hash of 32 bits, in the upper half of 64 (Lemire and Kaser, "Strongly universal string hashing is
 * fast": MULTILINEAR-HM). */
static __always_inline __u64 hash_half(const struct key6 *key, int any_source, const __u64 *words)
{
	const key_half *parts = (const void *)key;
	__u32 source = any_source ? 0 : ~0;
	__u64 sum = words[0];

#pragma unroll
	for (__u32 i = 0; i < sizeof(*key) / sizeof(*parts); i += 2) {
		__u32 mask = i < 4 ? source : ~0, even = parts[i] & mask, odd = parts[i + 1] & mask;

		sum += (words[1 + i] + even) * (words[2 + i] + odd);
	}
	return sum >> 32;
}

/* Two of them, each with words of its own: whatever two keys somebody chooses, they clash with probability 2^-64.
 * Before the first flow has opened the secret is all zero, and the index empty. One after the other, not both at once:
 * there are few registers, and little stack. */
static __always_inline index6 hash_key(const struct key6 *key, int any_source)
{
	const struct secret *secret = the_secret();
	__u64 half;

	if (!secret)
		return 0;
	half = hash_half(key, any_source, secret->words);
	asm volatile("" : "+r"(half) : : "memory");
	return half << 32 | hash_half(key, any_source, secret->words + SECRET_WORDS / 2);
}

#endif

/* The reverse key that the index knows. */
static __always_inline struct keyN index_keyN(const struct keyN *rev, __u8 marks)
{
	struct keyN key = *rev;

	if (marks & MARK_ANY_SOURCE)
		key.src = (ipN){0};
	return key;
}

static __always_inline const indexN *index_atN(const struct keyN *key, indexN *room)
{
#if FAMILY == 4
	(void)room;
	return key;
#else
	*room = hash_key(key, 0);
	return room;
#endif
}

/* A reverse key, as index_keyN makes it. */
static __always_inline const indexN *index_reverseN(const struct keyN *rev, __u8 marks, indexN *room)
{
#if FAMILY == 4
	*room = index_keyN(rev, marks);
#else
	*room = hash_key(rev, marks & MARK_ANY_SOURCE);
#endif
	return room;
}

/* Are two reverse keys one in the index? */
static __always_inline int reverse_equalN(const struct keyN *a, __u8 a_marks, const struct keyN *b, __u8 b_marks)
{
	if ((a_marks ^ b_marks) & MARK_ANY_SOURCE || (!(a_marks & MARK_ANY_SOURCE) && !addr_equalN(a->src, b->src)))
		return 0;
	return addr_equalN(a->dst, b->dst) && a->sport == b->sport && a->dport == b->dport && a->proto == b->proto &&
	       a->dir == b->dir;
}
