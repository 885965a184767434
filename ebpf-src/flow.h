/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: a flow, and what a packet tells it: time, counts, answers, closing. */
#define key_equalN      F(key_equal)
#define key_mirrorN     F(key_mirror)
#define slotN           F(slot)
#define local_flagsN    F(local_flags)
#define any_sourceN     F(any_source)
#define idle_timeN      F(idle_time)
#define flow_expiredN   F(flow_expired)
#define flow_aliveN     F(flow_alive)
#define foundN          F(found)
#define forgetN         F(forget)
#define forget_forwardN F(forget_forward)
#define forget_reverseN F(forget_reverse)
#define flow_countN     F(flow_count)
#define flow_closedN    F(flow_closed)
#define flow_tcpN       F(flow_tcp)
#define flow_answeredN  F(flow_answered)
#define flow_followN    F(flow_follow)
#define flow_movedN     F(flow_moved)
#define client_heardN   F(client_heard)

#ifndef DETOUR_FLOW_H
#define DETOUR_FLOW_H

/* The compiler keeps the order across it. The order between CPUs is the hardware's: x86 keeps it, elsewhere the check
 * of the generation is best effort, for BPF has no read barrier before 5.12. */
#define barrier()    asm volatile("" ::: "memory")
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))

/* Of a packet without flow: no map has so many elements. */
#define SLOT_NONE 0xffffffff

/* Is a slot in this state nobody's, whatever its keys are? */
static __always_inline int vacant(__u8 state)
{
	return state == FLOW_FREE || state == FLOW_TAKEN;
}

#endif

static __always_inline int key_equalN(const struct keyN *a, const struct keyN *b)
{
	const key_word *x = (const void *)a, *y = (const void *)b;

	for (__u32 i = 0; i < sizeof(*a) / sizeof(*x); i++)
		if (x[i] != y[i])
			return 0;
	return 1;
}

/* The key of the answers to a packet, when nothing is rewritten. */
static __always_inline struct keyN key_mirrorN(const struct keyN *key)
{
	return (struct keyN){
		.src = key->dst,
		.dst = key->src,
		.sport = key->dport,
		.dport = key->sport,
		.proto = key->proto,
		.dir = !key->dir,
	};
}

static __always_inline __u32 local_flagsN(ipN addr)
{
	__u32 *flags = bpf_map_lookup_elem(&localN, &addr);

	return flags ? *flags : 0;
}

/* May the answers to this server's clients come from another address? A UDP server on a wildcard socket speaks from the
 * one that routing prefers. Then the index knows the reverse key without the server's address, so that of two flows
 * which only that address would tell apart one gets another client port. */
static __always_inline __u8 any_sourceN(const struct keyN *rev)
{
	return rev->proto == IPPROTO_UDP && local_flagsN(rev->src) & LOCAL_OWN ? MARK_ANY_SOURCE : 0;
}

static __always_inline struct flowN *slotN(__u32 slot)
{
	return bpf_map_lookup_elem(&slotsN, &slot);
}

static __always_inline __u32 idle_timeN(const struct flowN *f)
{
	if (f->fwd.proto == IPPROTO_TCP)
		return f->state == FLOW_CONFIRMED ? cfg.tcp_established : cfg.tcp_transitory;
	if (f->fwd.proto == IPPROTO_UDP)
		return cfg.udp;
	return f->fwd.proto == ICMP_PROTON ? cfg.icmp : cfg.generic;
}

/* Signed, because another CPU may have written a tick later than our `now`. */
static __always_inline int flow_expiredN(const struct flowN *f, __u32 now)
{
	return (__s32)(now - f->last) > (__s32)idle_timeN(f);
}

static __always_inline int flow_aliveN(const struct flowN *f, __u32 now)
{
	return !vacant(f->state) && (f->state == FLOW_ENDING || !flow_expiredN(f, now));
}

/* What a reader takes with it: copied, then checked against the generation, because a slot may get another tenant while
 * it is being read. */
struct foundN {
	struct flowN *flow;
	struct keyN other; /* the flow's key of the other direction */
	__u32 slot;
	__u32 generation;
	__u8 state;
	__u8 marks;
};

/* Takes an index entry away, if it still points to this slot. */
static __always_inline void forgetN(const indexN *index, __u32 slot)
{
	__u32 *at = bpf_map_lookup_elem(&idxN, index);

	if (at && *at == slot)
		bpf_map_delete_elem(&idxN, index);
}

static __always_inline void forget_forwardN(const struct keyN *fwd, __u32 slot)
{
	indexN room;

	forgetN(index_atN(fwd, &room), slot);
}

static __always_inline void forget_reverseN(const struct keyN *rev, __u8 marks, __u32 slot)
{
	indexN room;

	forgetN(index_reverseN(rev, marks, &room), slot);
}

static __always_inline void flow_countN(struct __sk_buff *skb, struct flowN *f, enum dir dir, __u32 now)
{
	if (f->last != now) /* the line stays shared where nothing changes */
		f->last = now;
	__sync_fetch_and_add(&f->packets[dir], 1);
	__sync_fetch_and_add(&f->bytes[dir], skb->len);
}

/* FIN from both sides, or one RST: only the transitory time is left. */
static __always_inline int flow_closedN(const struct flowN *f)
{
	__u8 client = f->closed[DIR_FORWARD], server = f->closed[DIR_REVERSE];

	return client & server & TCP_FIN || (client | server) & TCP_RST;
}

/* Notes FIN and RST, under the lock and only in the flow that was found: its slot may have another tenant by now. With
 * a limit the client has a live flow more or less. A RST is believed as long as nothing but RSTs follow it (RFC 6146,
 * 3.5.2.2): a forged one shortens the idle time until the next packet, no more. A SYN of the client begins a half-open
 * flow anew: what was seen before belongs to another attempt. */
static __always_inline void flow_tcpN(const struct foundN *found, const struct packetN *p, enum dir dir)
{
	__u8 flags = p->flags & (TCP_FIN | TCP_SYN | TCP_RST);
	struct flowN *f = found->flow;
	int live = 0;

	if (p->key.proto != IPPROTO_TCP || (dir == DIR_REVERSE && flags == TCP_SYN))
		return;
	if (!flags && (f->state != FLOW_CLOSING || f->closed[DIR_FORWARD] & f->closed[DIR_REVERSE] & TCP_FIN))
		return;
	bpf_spin_lock(&f->lock);
	if (f->generation != found->generation)
		goto unlock;
	if (flags) {
		f->closed[dir] |= flags & (TCP_FIN | TCP_RST);
		if (f->state == FLOW_CONFIRMED && flow_closedN(f)) {
			f->state = FLOW_CLOSING;
			live = -1;
		}
		if (dir == DIR_FORWARD && flags & TCP_SYN && (f->state == FLOW_OPENING || f->state == FLOW_ANSWERED)) {
			f->closed[DIR_FORWARD] = 0;
			f->closed[DIR_REVERSE] = 0;
			f->state = FLOW_OPENING;
		}
	} else if (f->state == FLOW_CLOSING) {
		f->closed[DIR_FORWARD] &= ~TCP_RST;
		f->closed[DIR_REVERSE] &= ~TCP_RST;
		f->state = FLOW_CONFIRMED;
		live = 1;
	}
unlock:
	bpf_spin_unlock(&f->lock);
	if (live)
		client_countN(dir == DIR_FORWARD ? p->key.src : found->other.src, live);
}

/* The first answer of the server. What acknowledges it proves that the client heard it; a RST asks for no proof. */
static __always_inline void flow_answeredN(const struct foundN *found, const struct packetN *p)
{
	struct flowN *f = found->flow;

	if (f->state != FLOW_OPENING || p->flags & TCP_RST)
		return;
	bpf_spin_lock(&f->lock);
	if (f->state == FLOW_OPENING && f->generation == found->generation) {
		f->expect = p->seq + !!(p->flags & TCP_SYN);
		f->state = FLOW_ANSWERED;
	}
	bpf_spin_unlock(&f->lock);
}

/* Goes on to the slot `at`, where the flow that was found lives now. */
static __always_inline void flow_followN(struct foundN *found, int at)
{
	struct flowN *f = at < 0 ? 0 : slotN(at);

	if (!f)
		return;
	found->flow = f;
	found->generation = READ_ONCE(f->generation);
}

/* Where a flow lives that was found in state FLOW_MOVED; -1 if its ring has come round since. */
static __always_inline int flow_movedN(const struct foundN *found)
{
	__u32 at = READ_ONCE(found->flow->first);

	barrier();
	return READ_ONCE(found->flow->generation) == found->generation ? at : -1;
}

/* Does this packet of the client show that it heard the answer? The kernel answers every spoofed SYN, so an answer
 * alone proves nothing. TCP: it acknowledges the first segment, or up to 1 MiB more. Others: it speaks again. */
static __always_inline int client_heardN(const struct flowN *f, const struct packetN *p)
{
	if (p->key.proto != IPPROTO_TCP)
		return 1;
	return (p->flags & (TCP_ACK | TCP_SYN | TCP_RST)) == TCP_ACK && p->ack - f->expect < 1 << 20;
}
