/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * Opens a flow: takes a half-open slot, finds a client port that makes the server's 4-tuple unique, and enters both
 * keys into the index.
 *
 * The order is what makes it safe without locks. The record is written first; then the reverse key is claimed with
 * NOEXIST, so that of two flows towards one tuple one wins; then the forward key is set. Two CPUs that open the same
 * flow try the same ports in the same order, meet at the reverse key, and the loser adopts the winner's flow.
 */
#ifndef DETOUR_OPEN_H
#define DETOUR_OPEN_H

#include "flow.h"

#define PORT_TRIES 16

/* The next slot of this CPU's ring; whoever lived there is evicted. A flow that moved keeps its index entries: they
 * point to its confirmed slot, or are about to. */
static __always_inline struct flow4 *half_slot(__u32 *slot)
{
	__u32 zero = 0, cpu = bpf_get_smp_processor_id(), n;
	struct hands *h = bpf_map_lookup_elem(&hands, &zero);
	struct key4 fwd, rev;
	struct flow4 *f;
	__u8 before;

	if (!h || cpu >= cfg.cpus)
		return 0;
	n = h->half < cfg.half_slots ? h->half : 0;
	h->half = n + 1;
	*slot = cpu * cfg.half_slots + n;
	f = slot4(*slot);
	if (!f)
		return 0;
	bpf_spin_lock(&f->lock);
	before = f->state;
	f->state = FLOW_FREE;
	f->generation++;
	bpf_spin_unlock(&f->lock);
	if (before == FLOW_OPENING || before == FLOW_ANSWERED) {
		fwd = f->fwd;
		rev = index_key(&f->rev, f->marks);
		forget(&fwd, *slot);
		forget(&rev, *slot);
	}
	return f;
}

static __always_inline __u32 flow_hash(const struct key4 *key)
{
	__u64 hash = ((__u64)key->src << 32 | key->dst) * 0x9e3779b97f4a7c15ULL;

	hash ^= hash >> 32;
	hash = (hash + ((__u32)key->sport << 16 | key->dport)) * 0x9e3779b97f4a7c15ULL;
	return hash >> 32;
}

/* The port to try: the client's own, then eight from a place of the flow's own in the range that Linux clients do not
 * use, then the client's class: below 1024 or above. Host order. */
static __always_inline __u32 candidate(const struct key4 *fwd, __u32 try)
{
	__u32 own = bpf_ntohs(fwd->sport) & 0xffff;
	__u32 hash = flow_hash(fwd);

	if (try == 0)
		return own;
	if (try <= 8)
		return cfg.port_first + (hash + try) % cfg.port_count;
	hash = (hash >> 16) + try * 40503;
	return own && own < 1024 ? 1 + hash % 1023 : 1024 + hash % 64512;
}

/* Does this machine hold a TCP socket for the tuple, connected, half-open or waiting? After a loss of our state, or
 * from before we came. A listener does not count. The tuple is the one that the server will see arriving. */
static __always_inline int socket_exists(struct __sk_buff *skb, const struct key4 *rev)
{
	struct bpf_sock_tuple4 tuple = {
		.saddr = rev->dst,
		.daddr = rev->src,
		.sport = rev->dport,
		.dport = rev->sport,
	};
	struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	__u32 state;

	if (!sk)
		return 0;
	state = sk->state;
	bpf_sk_release(sk);
	return state != TCP_LISTEN;
}

enum claim {
	CLAIM_OURS,
	CLAIM_ADOPTED, /* the flow was there: made by another CPU, or its forward entry was lost */
	CLAIM_SHARED,  /* both flows are direct and nothing of them is rewritten: no matter whose the answers are */
	CLAIM_TAKEN,
	CLAIM_NO_SPACE,
};

/* Two flows of one client port, to two addresses of ours, and the first has kept that port. */
static __always_inline int both_direct(const struct flow4 *owner, const struct work *w)
{
	return owner->marks & w->marks & MARK_DIRECT && owner->fwd.sport == w->packet.key.sport &&
	       w->rev.dport == w->packet.key.sport;
}

/* Claims the reverse key w->rev for the slot, or finds out whose it is. */
static __always_inline enum claim claim_reverse(struct work *w, __u32 now)
{
	/* int: the verifier calls the map's function directly, and before 6.4 that leaves the upper half undefined. */
	struct key4 rev = index_key(&w->rev, w->marks), other;
	int error = bpf_map_update_elem(&idx4, &rev, &w->slot, BPF_NOEXIST);
	struct flow4 *owner = 0;
	__u32 *at;

	if (!error)
		return CLAIM_OURS;
	if (error != -EEXIST)
		return CLAIM_NO_SPACE;
	at = bpf_map_lookup_elem(&idx4, &rev);
	if (at)
		owner = slot4(*at);
	if (owner)
		other = index_key(&owner->rev, owner->marks);
	if (owner && key4_equal(&other, &rev) && flow_alive(owner, now)) {
		if (!key4_equal(&owner->fwd, &w->packet.key))
			return both_direct(owner, w) ? CLAIM_SHARED : CLAIM_TAKEN;
		if (owner->rev.src == w->rev.src) {
			w->slot = *at;
			return CLAIM_ADOPTED;
		}
	}
	/* Stale: its flow has gone, has been idle for too long, or went to another server and lost its forward entry.
	 */
	return bpf_map_update_elem(&idx4, &rev, &w->slot, BPF_ANY) ? CLAIM_NO_SPACE : CLAIM_OURS;
}

/* Tries one port, for the flow in w->slot. A socket on the client's own port is expected where that is the connection
 * itself: a direct one, or one picked up in mid-stream. Returns enum claim.
 * A global function, so that the verifier follows it once, and not for each try. */
__noinline int claim_port(struct __sk_buff *skb, __u32 try, __u32 now)
{
	struct work *w = this_work();
	struct flow4 *f;

	if (!w)
		return CLAIM_NO_SPACE;
	f = slot4(w->slot);
	if (!f)
		return CLAIM_NO_SPACE;
	w->rev.dport = bpf_htons(candidate(&w->packet.key, try));
	f->rev = w->rev;
	if (w->rev.proto == IPPROTO_TCP && (try || !w->marks) && socket_exists(skb, &w->rev))
		return CLAIM_TAKEN;
	return claim_reverse(w, now);
}

/* Opens the flow from w->packet.key to w->rev, whose client port may become another. 0, or why there is no flow. */
static __always_inline enum reason flow_open(struct __sk_buff *skb, struct work *w, __u32 now)
{
	__u32 slot;
	struct flow4 *f = half_slot(&slot);
	int claim = CLAIM_TAKEN;
	struct key4 rev;

	if (!f)
		return REASON_NO_SPACE;
	w->marks |= any_source(&w->rev);
	f->fwd = w->packet.key;
	f->rev = w->rev;
	f->marks = w->marks;
	f->rule = w->outcome.rule;
	f->rules_generation = w->outcome.rules_generation;
	f->first = now;
	f->last = now;
	f->expect = 0;
	f->closed[DIR_FORWARD] = 0;
	f->closed[DIR_REVERSE] = 0;
	f->packets[DIR_FORWARD] = 1;
	f->packets[DIR_REVERSE] = 0;
	f->bytes[DIR_FORWARD] = skb->len;
	f->bytes[DIR_REVERSE] = 0;
	barrier();
	f->state = FLOW_OPENING;

	w->slot = slot;
	for (__u32 try = 0; try < PORT_TRIES && claim == CLAIM_TAKEN; try++)
		claim = claim_port(skb, try, now);
	if (claim != CLAIM_OURS)
		f->state = FLOW_FREE;
	if (claim == CLAIM_SHARED)
		return REASON_NONE;
	if (claim == CLAIM_TAKEN)
		return REASON_NO_PORT;
	if (claim == CLAIM_NO_SPACE)
		return REASON_NO_SPACE;
	if (!bpf_map_update_elem(&idx4, &w->packet.key, &w->slot, BPF_ANY))
		return REASON_NONE;
	if (claim == CLAIM_OURS) {
		rev = index_key(&w->rev, w->marks);
		forget(&rev, slot);
		f->state = FLOW_FREE;
	}
	return REASON_NO_SPACE;
}

#endif
