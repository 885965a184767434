/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* Tells a reader what has changed, through a ring buffer: only what it asked for, and only while there is one. */
#ifndef DETOUR_EVENTS_H
#define DETOUR_EVENTS_H

#include "maps.h"

#define EVENTS_BYTES (1 << 20)

/* Programs write, one reader takes; what it does not take in time is lost, and counted. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} events SEC(".maps");

/* What the reader wants. It writes, programs read. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event_control);
} event_control SEC(".maps");

/* What was lost. Programs add, user space reads; lives as long as the map. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event_state);
} event_state SEC(".maps");

static __always_inline int wanted(enum event_kind kind, __u32 now)
{
	__u32 zero = 0;
	const struct event_control *control = bpf_map_lookup_elem(&event_control, &zero);

	return control && control->wanted & 1 << kind && (__s32)(control->until - now) >= 0;
}

static __always_inline void event_lost(void)
{
	__u32 zero = 0;
	struct event_state *state = bpf_map_lookup_elem(&event_state, &zero);

	if (state)
		state->lost += 1;
}

/* Whoever makes a server answer sends as many DNS answers as he likes, each as large as a dozen other events: they may
 * fill one half of the ring buffer, the other one is for the rest. Returns 1 where there is no room for one. */
static __always_inline int dns_has_its_share(void)
{
	__u32 zero = 0;
	struct event_state *state;

	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) < EVENTS_BYTES / 2)
		return 0;
	state = bpf_map_lookup_elem(&event_state, &zero);
	if (state)
		state->dns += 1;
	return 1;
}

/* Is it the first EVENT_FULL of this tick? A full table would tell of each packet. */
static __always_inline int full_is_news(__u32 now)
{
	__u32 zero = 0;
	struct event_state *state = bpf_map_lookup_elem(&event_state, &zero);

	if (!state || state->full == now)
		return 0;
	state->full = now;
	return 1;
}

/* All that is known without the packet. */
static __always_inline void event_begin(struct event *e, struct __sk_buff *skb, enum event_kind kind)
{
	__builtin_memset(e, 0, sizeof(*e)); /* in place: a copy would need stack */
	e->kind = kind;
	e->tick = now_tick();
	e->ifindex = skb->ifindex;
	e->rule = RULE_NONE;
}

#endif
