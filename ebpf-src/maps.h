/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * The configuration and the maps that both families share (tables.h has the others): who writes each, who reads it, and
 * when an entry dies. The loader overrides the sizes together with cfg; those here are the product's defaults, for
 * eight CPUs.
 */
#ifndef DETOUR_MAPS_H
#define DETOUR_MAPS_H

#include "abi.h"
#include "protocols.h"

#define DEFAULT_CPUS       8
#define DEFAULT_HALF4      4096
#define DEFAULT_CONFIRMED4 65536
#define DEFAULT_HALF6      1024
#define DEFAULT_CONFIRMED6 16384
#define DEFAULT_ASKED      16384

/* Of each family: 128 KiB, which stay in a processor's caches. */
#define HINT_BITS       14
#define HINT_GENERATION 0xffffff

/* Frozen before load, so the verifier knows each value and drops the code that it switches off. 1.024 s ticks at 250
 * Hz. Idle times are those of RFC 5382 (7440 s and 240 s), RFC 4787 (300 s) and RFC 5508 (60 s). */
const volatile struct cfg cfg = {
	.schema = DETOUR_SCHEMA,
	.flags = 0,
	.l2_len = ETH_HLEN,
	.hz = 250,
	.tick_shift = 8,
	.cpus = DEFAULT_CPUS,
	.half_slots4 = DEFAULT_HALF4,
	.confirmed_slots4 = DEFAULT_CONFIRMED4,
	.half_slots6 = DEFAULT_HALF6,
	.confirmed_slots6 = DEFAULT_CONFIRMED6,
	.asked_rows = DEFAULT_ASKED / 16,
	.tcp_established = 7266,
	.tcp_transitory = 235,
	.udp = 293,
	.icmp = 59,
	.port_first = 61000,
	.port_count = 4536,
	.ip_frag = 30,
	.generic = 586,
	.client_new = 0,
	.client_live = 0,
};

/* Where each CPU goes on: IPv4, then IPv6. Written and read by that CPU's programs only; lives as long as the map. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct hands);
} hands SEC(".maps");

/* What the keys of idx6 are hashed with. Written by the programs, once; lives as long as the map. User space reads. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct secret);
} secret SEC(".maps");

/* Two rule tables. User space fills the one that is not in force; no program writes. */
struct rules_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_RDONLY_PROG);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rules);
} rules_0 SEC(".maps"), rules_1 SEC(".maps");

/* The table in force. User space replaces the element; the kernel then waits for the programs that still read the old
 * one, so that it may be overwritten at once. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct rules_map);
} rules SEC(".maps") = {
	.values = {&rules_0},
};

/* By rule number: what it decided. Programs add, user space reads and sets to 0 when another table comes into force. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RULES_MAX);
	__type(key, __u32);
	__type(value, struct rule_stats);
} rule_stats SEC(".maps");

/* By enum reason: how many packets were left alone for it. Programs add, user space reads; never reset. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} reasons SEC(".maps");

/* Where the address of a first fragment went, of either family. Programs write and read. An entry means nothing after
 * cfg.ip_frag; when all are in use the kernel takes the one that was looked at least recently, so that a flood of first
 * fragments must fill the table between a datagram's first and last one to do harm. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct frag_key);
	__type(value, struct frag);
} frags SEC(".maps");

/* What was asked for. Programs add rows and count, user space reads; a row lives as long as the map. One client owns at
 * most cfg.asked_rows rows, so that a scan cannot push out the others, and those who never confirmed a flow have three
 * quarters together, so that forged ones do not keep them out. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DEFAULT_ASKED);
	__type(key, struct asked_key);
	__type(value, struct asked);
} asked SEC(".maps");

/* Key: a client's address, 16 bytes. How many rows it owns, and what got none. Written as `asked`. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DEFAULT_ASKED / 4);
	__type(key, __u8[16]);
	__type(value, struct asked_client);
} asked_clients SEC(".maps");

/* What found no room in asked_clients either. Programs add, user space reads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct asked_others);
} asked_others SEC(".maps");

/* Beside enum tc_act: the packet is to be answered by refuseN. */
#define REFUSE 100

/* Mark of packets that detour_in made, or has rewritten both ways, and sends: detour_out takes it off and leaves them
 * alone. */
#define OURS 0x64657472

/* Wrapping: compare two ticks by their difference only. */
static __always_inline __u32 now_tick(void)
{
	return bpf_jiffies64() >> cfg.tick_shift;
}

static __always_inline void count_reason(enum reason reason)
{
	__u32 index = reason;
	__u64 *count = bpf_map_lookup_elem(&reasons, &index);

	if (count)
		*count += 1;
}

/* Besides enum tc_act: what is left to do. The caller does it, not the function that finds out: a call within a call
 * needs the stack of both. */
enum next {
	NEXT_OPEN = 0x100,        /* no flow: ask the rules */
	NEXT_ICMP = 0x101,        /* ICMP other than echo */
	NEXT_MASQUERADED = 0x102, /* a masqueraded flow, in w->slot */
	NEXT_FRAGMENT = 0x103,    /* follows a first fragment */
	NEXT_FIRST = 0x104,       /* a first fragment is done with: w->verdict */
};

/* The packet goes on to the next filter as it is. */
static __always_inline int pass(enum reason reason)
{
	count_reason(reason);
	return TC_ACT_UNSPEC;
}

static __always_inline int drop(enum reason reason)
{
	count_reason(reason);
	return TC_ACT_SHOT;
}

#endif
