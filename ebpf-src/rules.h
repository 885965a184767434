/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* The rule table in force, and the parts of a search in it (match.h). */
#ifndef DETOUR_RULES_H
#define DETOUR_RULES_H

#include "maps.h"

/* Number of the lowest set bit: a de Bruijn sequence, because BPF has no such instruction, and because a loop or six
 * branches would multiply the states that the verifier follows from here on. */
static const __u8 bit_number[64] = {
	0,  1,  48, 2,  57, 49, 28, 3,  61, 58, 50, 42, 38, 29, 17, 4,  62, 55, 59, 36, 53, 51,
	43, 22, 45, 39, 33, 30, 24, 18, 12, 5,  63, 47, 56, 27, 60, 41, 37, 16, 54, 35, 52, 21,
	44, 32, 23, 11, 46, 26, 40, 15, 34, 20, 31, 10, 25, 14, 19, 9,  13, 8,  7,  6,
};

static __always_inline __u32 lowest_bit(__u64 word)
{
	return bit_number[((word & -word) * 0x03f79d71b4cb0a89ULL) >> 58];
}

/* From here on the compiler knows nothing of the number. */
#define HIDE(x) asm volatile("" : "+r"(x))

/* 1 if the highest bit is set, else 0, without a branch: the compiler must not see where the number comes from, or it
 * makes a compare of it, nor where the bit goes, or it makes a 0/-1 mask. The verifier follows both ways of either (of
 * a mask from 6.18 on), and here that would be 2^11 ways and more. */
static __always_inline __u64 top_bit(__u64 x)
{
	HIDE(x);
	x >>= 63;
	HIDE(x);
	return x;
}

/* Beside RULE_NONE and the rules' numbers. */
#define RULE_NEVER (RULE_NONE + 1)

typedef __u32 host4;

/* One step of a binary search: `step` if the bound that far on is not above the value, else 0. An unused bound of 0
 * wraps to the largest number, and so is above every value. The mask changes nothing: old verifiers forget the range of
 * a number that the compiler keeps on the stack. */
static __always_inline __u32 advance4(const struct rule_dim4 *dim, __u32 at, __u32 step, host4 value)
{
	return top_bit((__u64)(__u32)(dim->bound[(at + step) & (RULE_BOUNDS - 1)] - 1) - value) * step;
}

/* A table whose dimensions have no more bounds is searched in so many steps less. */
#define FEW 64

static __always_inline __u32 first_step(__u32 more)
{
	return more ? RULE_BOUNDS / 2 : FEW / 2;
}

static __always_inline __u32 used4(const struct rule_dim4 *dim, __u32 at)
{
	return dim->bound[at];
}

/* The borrow of a - b. */
static __always_inline __u64 borrow(__u64 a, __u64 b)
{
	return top_bit((~a & b) | ((~a | b) & (a - b)));
}

typedef struct {
	__u64 hi;
	__u64 lo;
} host6;

/* The same with 128 bits, low word first. */
static __always_inline __u32 advance6(const struct rule_dim6 *dim, __u32 at, __u32 step, host6 value)
{
	__u32 i = (at + step) & (RULE_BOUNDS - 1);
	__u64 lo = dim->lo[i], hi = dim->hi[i] - borrow(lo, 1);
	__u64 low = borrow(lo - 1, value.lo);

	return (borrow(hi, value.hi) | borrow(hi - value.hi, low)) * step;
}

static __always_inline __u32 used6(const struct rule_dim6 *dim, __u32 at)
{
	return !!(dim->hi[at] | dim->lo[at]);
}

static __always_inline const __u64 *vector4(const struct rules *table, const struct rule_dim4 *dim, __u32 at)
{
	return table->vectors[dim->vec[at & (RULE_BOUNDS - 1)] & (RULE_VECTORS - 1)];
}

static __always_inline const __u64 *vector6(const struct rules *table, const struct rule_dim6 *dim, __u32 at)
{
	return table->vectors[dim->vec[at & (RULE_BOUNDS - 1)] & (RULE_VECTORS - 1)];
}

static __always_inline __u32 port_value(__u8 proto, __be16 port)
{
	switch (proto) {
	case IPPROTO_TCP:
		return CLASS_TCP << 16 | bpf_ntohs(port);
	case IPPROTO_UDP:
		return CLASS_UDP << 16 | bpf_ntohs(port);
	case IPPROTO_SCTP:
		return CLASS_SCTP << 16 | bpf_ntohs(port);
	default:
		return CLASS_OTHER << 16 | proto;
	}
}

/* The mask changes nothing, which the compiler must not see: verifiers up to 5.10 lose the range of the sum. */
static __always_inline const struct rule_action *action_of(const struct rules *table, __u32 rule)
{
	HIDE(rule);
	return &table->actions[rule & (RULES_MAX - 1)];
}

/* The table in force. Ask once per packet: the next call may give the next table. */
static __always_inline const struct rules *rules_in_force(void)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&rules, &zero);

	return inner ? bpf_map_lookup_elem(inner, &zero) : 0;
}

static __always_inline void count_rule(__u32 rule, __u32 bytes)
{
	struct rule_stats *stats = bpf_map_lookup_elem(&rule_stats, &rule);

	if (!stats)
		return;
	stats->packets += 1;
	stats->bytes += bytes;
}

#endif
