/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: opens a flow: takes a half-open slot, finds a client port that makes the server's 4-tuple unique,
 * and enters both keys into the index.
 *
 * The order is what makes it safe without locks. The record is written first; then the reverse key is claimed with
 * NOEXIST, so that of two flows towards one tuple one wins; then the forward key likewise. Two CPUs that open the same
 * flow try the same ports in the same order, meet at the reverse key, or at the forward one if a port got free between
 * their looks, and the loser adopts the winner's flow.
 */
#define half_slotN     F(half_slot)
#define flow_hashN     F(flow_hash)
#define candidateN     F(candidate)
#define both_directN   F(both_direct)
#define clashesN       F(clashes)
#define claim_reverseN F(claim_reverse)
#define claim_portN    F(claim_port)
#define set_forwardN   F(set_forward)
#define flow_openN     F(flow_open)

#ifndef DETOUR_OPEN_H
#define DETOUR_OPEN_H

#define PORT_TRIES 16

enum claim {
	CLAIM_OURS,
	CLAIM_ADOPTED, /* the flow was there: made by another CPU, or its forward entry was lost */
	CLAIM_SHARED,  /* both flows are direct and nothing of them is rewritten: no matter whose the answers are */
	CLAIM_TAKEN,
	CLAIM_NO_SPACE,
};

/* Draws the secret: word by word, so that CPUs that do so at once end up with the same. Not called under the lock, for
 * no helper may be. */
__noinline int secret_draw(void)
{
	struct secret *secret = the_secret();

	if (!secret)
		return 0;
	for (__u32 i = 0; i < SECRET_WORDS; i++) {
		__u64 word = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();

		bpf_spin_lock(&secret->lock);
		if (!secret->words[i])
			secret->words[i] = word ? word : 1;
		bpf_spin_unlock(&secret->lock);
	}
	bpf_spin_lock(&secret->lock);
	secret->drawn = 1;
	bpf_spin_unlock(&secret->lock);
	return 1;
}

/* Before the first key enters the index. */
static __always_inline void secret_ready(void)
{
	const struct secret *secret = the_secret();

	if (secret && !secret->drawn)
		secret_draw();
}

#endif

/* The next slot of this CPU's ring; whoever lived there leaves. A flow that moved keeps its index entries: they point
 * to its confirmed slot, or are about to. One that somebody else is ending keeps its slot until its entries are gone.
 */
static __always_inline struct flowN *half_slotN(__u32 *slot)
{
	__u32 family = FAMILY == 6, cpu = bpf_get_smp_processor_id(), n;
	struct hands *h = bpf_map_lookup_elem(&hands, &family);
	struct flowN *f;
	__u8 before;

	if (!h || cpu >= cfg.cpus)
		return 0;
	n = h->half < cfg.half_slotsN ? h->half : 0;
	h->half = n + 1;
	*slot = cpu * cfg.half_slotsN + n;
	f = slotN(*slot);
	if (!f)
		return 0;
	bpf_spin_lock(&f->lock);
	before = f->state;
	if (before == FLOW_OPENING || before == FLOW_ANSWERED) {
		f->state = FLOW_ENDING;
	} else if (before != FLOW_ENDING) {
		f->state = FLOW_FREE;
		f->generation++;
	}
	bpf_spin_unlock(&f->lock);
	if (before == FLOW_ENDING)
		return 0;
	if (before == FLOW_OPENING || before == FLOW_ANSWERED)
		leaveN(*slot, FLOW_FREE, 0);
	return f;
}

static __always_inline __u32 flow_hashN(const struct keyN *key)
{
	__u64 hash = addr_hashN(key->src, key->dst) * 0x9e3779b97f4a7c15ULL;

	hash ^= hash >> 32;
	hash = (hash + ((__u32)key->sport << 16 | key->dport)) * 0x9e3779b97f4a7c15ULL;
	return hash >> 32;
}

/* The port to try: the client's own, then eight from a place of the flow's own in the range that Linux clients do not
 * use, then the client's class: below 1024 or above. Host order. */
static __always_inline __u32 candidateN(const struct keyN *fwd, __u32 try)
{
	__u32 own = bpf_ntohs(fwd->sport) & 0xffff;
	__u32 hash = flow_hashN(fwd);

	if (try == 0)
		return own;
	if (try <= 8)
		return cfg.port_first + (hash + try) % cfg.port_count;
	hash = (hash >> 16) + try * 40503;
	return own && own < 1024 ? 1 + hash % 1023 : 1024 + hash % 64512;
}

/* Two flows of one client port, to two addresses of ours, and the first has kept that port. */
static __always_inline int both_directN(const struct flowN *owner, const struct workN *w)
{
	return owner->marks & w->marks & MARK_DIRECT && owner->fwd.sport == w->packet.key.sport &&
	       w->rev.dport == w->packet.key.sport;
}

/* Does `index` lead to the slot of a living flow that is not ours, because one of its keys has the same hash? Such an
 * entry is its flow's, and not left over. IPv4 has its keys in the index, so nothing clashes. */
static __always_inline int clashesN(const struct flowN *owner, const struct workN *w, const indexN *index, __u32 now)
{
#if FAMILY == 6
	return flow_aliveN(owner, now) && !key_equalN(&owner->fwd, &w->packet.key) &&
	       (hash_key(&owner->fwd, 0) == *index || hash_key(&owner->rev, owner->marks & MARK_ANY_SOURCE) == *index);
#else
	(void)owner, (void)w, (void)index, (void)now;
	return 0;
#endif
}

/* Claims the reverse key w->rev for the slot, or finds out whose it is. */
static __always_inline enum claim claim_reverseN(struct workN *w, __u32 now)
{
	/* int: the verifier calls the map's function directly, and before 6.4 that leaves the upper half undefined. */
	indexN room;
	const indexN *index = index_reverseN(&w->rev, w->marks, &room);
	int error = bpf_map_update_elem(&idxN, index, &w->slot, BPF_NOEXIST);
	struct flowN *owner = 0;
	__u32 *at, slot = SLOT_NONE;
	int same;

	if (!error)
		return CLAIM_OURS;
	if (error != -EEXIST)
		return CLAIM_NO_SPACE;
	at = bpf_map_lookup_elem(&idxN, index);
	if (at)
		slot = READ_ONCE(*at);
	if (slot == w->slot)
		return CLAIM_OURS; /* left over from an earlier tenant */
	owner = slotN(slot);
	if (owner && w->marks & MARK_MASQUERADE && key_equalN(&owner->fwd, &w->rev) && flow_aliveN(owner, now))
		return CLAIM_TAKEN; /* the server is itself a client of ours with this tuple */
	same = owner && reverse_equalN(&owner->rev, owner->marks, &w->rev, w->marks);
	if (same && flow_aliveN(owner, now)) {
		if (!key_equalN(&owner->fwd, &w->packet.key) || owner->state == FLOW_ENDING)
			return both_directN(owner, w) ? CLAIM_SHARED : CLAIM_TAKEN;
		if (addr_equalN(owner->rev.src, w->rev.src)) {
			w->slot = slot;
			return CLAIM_ADOPTED;
		}
	} else if (same && !takeN(owner, slot, FLOW_FREE, now)) {
		return CLAIM_TAKEN; /* idle for too long, and leaves on another CPU, which could take our entry for its
		                     */
	} else if (owner && !same && clashesN(owner, w, index, now)) {
		return CLAIM_TAKEN;
	}
	/* Stale: its flow has gone, or went to another server and lost its forward entry. */
	return bpf_map_update_elem(&idxN, index, &w->slot, BPF_ANY) ? CLAIM_NO_SPACE : CLAIM_OURS;
}

/* Tries one port, for the flow in w->slot. Returns enum claim. A global function, so that the verifier follows it once,
 * and not for each try. */
__noinline int claim_portN(struct __sk_buff *skb, __u32 try, __u32 now)
{
	struct workN *w = this_workN();
	struct flowN *f;

	if (!w)
		return CLAIM_NO_SPACE;
	f = slotN(w->slot);
	if (!f)
		return CLAIM_NO_SPACE;
	/* A masqueraded flow uses a port of ours, where no client of this machine's own will want it. */
	if (w->marks & MARK_MASQUERADE && portsN(w->rev.proto))
		try++;
	w->rev.dport = bpf_htons(candidateN(&w->packet.key, try));
	f->rev = w->rev;
	if (w->marks & MARK_MASQUERADE ? sock_stateN(skb, &w->rev) : asks_socketsN(w, try) && socket_existsN(skb, w))
		return CLAIM_TAKEN;
	return claim_reverseN(w, now);
}

/* Enters the forward key for the slot w->slot, unless the flow is there already: two CPUs that open one flow choose two
 * ports where one gets free between their looks. Then w is about that flow. Returns enum claim. A function by itself
 * for the sake of its caller's stack. */
__noinline int set_forwardN(__u32 now)
{
	struct workN *w = this_workN();
	struct flowN *owner;
	struct foundN found;
	const indexN *index;
	indexN room;
	__u32 *at, slot;
	int error;

	if (!w)
		return CLAIM_NO_SPACE;
	index = index_atN(&w->packet.key, &room);
	error = bpf_map_update_elem(&idxN, index, &w->slot, BPF_NOEXIST);
	if (error != -EEXIST)
		return error ? CLAIM_NO_SPACE : CLAIM_OURS;
	at = bpf_map_lookup_elem(&idxN, index);
	slot = at ? READ_ONCE(*at) : SLOT_NONE;
	if (slot == w->slot)
		return CLAIM_OURS;
	if (flow_findN(&w->packet.key, DIR_FORWARD, now, &found)) {
		/* It leaves; or what the packet would open is the answer to a masqueraded flow that opened meanwhile.
		 */
		if (found.state == FLOW_ENDING || key_equalN(&found.other, &w->packet.key))
			return CLAIM_NO_SPACE;
		w->slot = found.slot;
		w->rev = found.other;
		w->marks = found.marks;
		return CLAIM_ADOPTED;
	}
	owner = slotN(slot);
	if (owner && clashesN(owner, w, index, now))
		return CLAIM_NO_SPACE;
	/* Idle for too long; or it leaves on another CPU, which could take our entry for its own. */
	if (owner && key_equalN(&owner->fwd, &w->packet.key) && !takeN(owner, slot, FLOW_FREE, now))
		return CLAIM_NO_SPACE;
	return bpf_map_update_elem(&idxN, index, &w->slot, BPF_ANY) ? CLAIM_NO_SPACE : CLAIM_OURS;
}

/* Opens the flow from w->packet.key to w->rev, whose client port may become another. 0, or why there is no flow. */
static __always_inline enum reason flow_openN(struct __sk_buff *skb, struct workN *w, __u32 now)
{
	__u32 slot;
	struct flowN *f = half_slotN(&slot), *owner;
	int claim = CLAIM_TAKEN, entered;

	if (!f)
		return REASON_NO_SPACE;
	if (FAMILY == 6)
		secret_ready();
	w->marks |= any_sourceN(&w->rev);
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
	/* Where the port is fixed, or there is none, the second flow towards one server is one too many. */
	for (__u32 try = 0; try < PORT_TRIES && claim == CLAIM_TAKEN && (!try || portsN(w->rev.proto)); try++)
		claim = claim_portN(skb, try, now);
	if (claim != CLAIM_OURS)
		f->state = FLOW_FREE;
	if (claim == CLAIM_SHARED)
		return REASON_NONE;
	if (claim == CLAIM_TAKEN)
		return REASON_NO_PORT;
	if (claim == CLAIM_NO_SPACE)
		return REASON_NO_SPACE;
	entered = set_forwardN(now);
	if (claim == CLAIM_OURS && entered != CLAIM_OURS) {
		f->state = FLOW_ENDING;
		leaveN(slot, FLOW_FREE, 0);
	}
	if (claim == CLAIM_ADOPTED || entered == CLAIM_ADOPTED) {
		owner = slotN(w->slot);
		if (owner)
			flow_countN(skb, owner, DIR_FORWARD, now);
	}
	return entered == CLAIM_NO_SPACE ? REASON_NO_SPACE : REASON_NONE;
}
