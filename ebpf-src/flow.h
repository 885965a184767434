/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* Finds the flow of a packet, and notes in it what the packet tells: time, counts, answers, closing. */
#ifndef DETOUR_FLOW_H
#define DETOUR_FLOW_H

#include "packet.h"

/* The compiler keeps the order across it. The order between CPUs is the hardware's: x86 keeps it, elsewhere the check
 * of the generation is best effort, for BPF has no read barrier before 5.12. */
#define barrier()    asm volatile("" ::: "memory")
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))

typedef __u64 __attribute__((may_alias)) key_word;

static __always_inline int key4_equal(const struct key4 *a, const struct key4 *b)
{
	const key_word *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1];
}

/* The key of the answers to a packet, when nothing is rewritten. */
static __always_inline struct key4 key4_mirror(const struct key4 *key)
{
	return (struct key4){
		.src = key->dst,
		.dst = key->src,
		.sport = key->dport,
		.dport = key->sport,
		.proto = key->proto,
		.dir = !key->dir,
	};
}

static __always_inline __u32 local_flags(__be32 addr)
{
	__u32 *flags = bpf_map_lookup_elem(&local4, &addr);

	return flags ? *flags : 0;
}

/* May the answers to this server's clients come from another address? A UDP server on a wildcard socket speaks from the
 * one that routing prefers. Then the index knows the reverse key without the server's address, so that of two flows
 * which only that address would tell apart one gets another client port. */
static __always_inline __u8 any_source(const struct key4 *rev)
{
	return rev->proto == IPPROTO_UDP && local_flags(rev->src) & LOCAL_OWN ? MARK_ANY_SOURCE : 0;
}

/* A reverse key as it is in the index. */
static __always_inline struct key4 index_key(const struct key4 *rev, __u8 marks)
{
	struct key4 key = *rev;

	if (marks & MARK_ANY_SOURCE)
		key.src = 0;
	return key;
}

static __always_inline struct flow4 *slot4(__u32 slot)
{
	return bpf_map_lookup_elem(&slots4, &slot);
}

static __always_inline __u32 idle_time(const struct flow4 *f)
{
	if (f->fwd.proto == IPPROTO_TCP)
		return f->state == FLOW_CONFIRMED ? cfg.tcp_established : cfg.tcp_transitory;
	return f->fwd.proto == IPPROTO_UDP ? cfg.udp : cfg.icmp;
}

/* Signed, because another CPU may have written a tick later than our `now`. */
static __always_inline int flow_expired(const struct flow4 *f, __u32 now)
{
	return (__s32)(now - f->last) > (__s32)idle_time(f);
}

static __always_inline int flow_alive(const struct flow4 *f, __u32 now)
{
	return f->state != FLOW_FREE && f->state != FLOW_TAKEN && !flow_expired(f, now);
}

/* What a reader takes with it: copied, then checked against the generation, because a slot may get another tenant while
 * it is being read. */
struct found {
	struct flow4 *flow;
	struct key4 other; /* the flow's key of the other direction */
	__u32 slot;
	__u32 generation;
	__u8 state;
	__u8 marks;
};

/* `key` as it is in the index. */
static __always_inline int flow_find(const struct key4 *key, enum dir dir, __u32 now, struct found *found)
{
	__u32 *slot = bpf_map_lookup_elem(&idx4, key);
	struct key4 tenant;
	struct flow4 *f;

	if (!slot)
		return 0;
	found->slot = *slot;
	f = slot4(found->slot);
	if (!f)
		return 0;
	found->flow = f;
	found->generation = READ_ONCE(f->generation);
	barrier();
	found->state = READ_ONCE(f->state);
	tenant = dir == DIR_FORWARD ? f->fwd : index_key(&f->rev, f->marks);
	if (!key4_equal(&tenant, key) || !flow_alive(f, now))
		return 0;
	found->marks = f->marks;
	found->other = dir == DIR_FORWARD ? f->rev : f->fwd;
	barrier();
	return READ_ONCE(f->generation) == found->generation;
}

/* Takes an index entry away, if it still points to this slot. */
static __always_inline void forget(const struct key4 *key, __u32 slot)
{
	__u32 *at = bpf_map_lookup_elem(&idx4, key);

	if (at && *at == slot)
		bpf_map_delete_elem(&idx4, key);
}

static __always_inline void flow_count(struct __sk_buff *skb, struct flow4 *f, enum dir dir, __u32 now)
{
	if (f->last != now) /* the line stays shared where nothing changes */
		f->last = now;
	__sync_fetch_and_add(&f->packets[dir], 1);
	__sync_fetch_and_add(&f->bytes[dir], skb->len);
}

/* FIN from both sides, or one RST: only the transitory time is left. */
static __always_inline int flow_closed(const struct flow4 *f)
{
	__u8 client = f->closed[DIR_FORWARD], server = f->closed[DIR_REVERSE];

	return client & server & TCP_FIN || (client | server) & TCP_RST;
}

/* Notes FIN and RST. A SYN of the client begins a half-open flow anew: what was seen before belongs to another attempt.
 */
static __always_inline void flow_tcp(struct flow4 *f, const struct packet *p, enum dir dir)
{
	if (p->key.proto != IPPROTO_TCP || !(p->flags & (TCP_FIN | TCP_SYN | TCP_RST)))
		return;
	f->closed[dir] |= p->flags & (TCP_FIN | TCP_RST);
	if (f->state == FLOW_CONFIRMED && flow_closed(f))
		f->state = FLOW_CLOSING;
	if (dir == DIR_REVERSE || !(p->flags & TCP_SYN) || (f->state != FLOW_OPENING && f->state != FLOW_ANSWERED))
		return;
	f->closed[DIR_FORWARD] = 0;
	f->closed[DIR_REVERSE] = 0;
	f->state = FLOW_OPENING;
}

/* The first answer of the server. What acknowledges it proves that the client heard it; a RST asks for no proof. */
static __always_inline void flow_answered(struct flow4 *f, const struct packet *p)
{
	if (f->state != FLOW_OPENING || p->flags & TCP_RST)
		return;
	f->expect = p->seq + !!(p->flags & TCP_SYN);
	barrier();
	f->state = FLOW_ANSWERED;
}

/* Does this packet of the client show that it heard the answer? The kernel answers every spoofed SYN, so an answer
 * alone proves nothing. TCP: it acknowledges the first segment, or up to 1 MiB more. Others: it speaks again. */
static __always_inline int client_heard(const struct flow4 *f, const struct packet *p)
{
	if (p->key.proto != IPPROTO_TCP)
		return 1;
	return (p->flags & (TCP_ACK | TCP_SYN | TCP_RST)) == TCP_ACK && p->ack - f->expect < 1 << 20;
}

#endif
