/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: a packet's key becomes the flow that it is of, or none. */
#define hint_atN   F(hint_at)
#define tenantN    F(tenant)
#define flow_lookN F(flow_look)
#define flow_findN F(flow_find)

/* Which hint is the key's, and what marks it as such: the highest bits, and the next ones. Whoever chooses keys that
 * share a hint makes their look-ups as slow as they would be without. */
static __always_inline __u32 hint_atN(const struct keyN *key, __u32 *mark)
{
	const key_word *words = (const void *)key;
	__u64 hash = words[0];

#pragma unroll
	for (__u32 i = 1; i < sizeof(*key) / sizeof(*words); i++)
		hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL + words[i];
	hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15ULL;
	*mark = hash >> (64 - HINT_BITS - 8) & 0xff;
	return hash >> (64 - HINT_BITS);
}

/* Is the flow with this key the slot's tenant? Then `found` says so. */
static __always_inline int tenantN(__u32 slot, const struct keyN *key, enum dir dir, int either, __u32 now,
                                   struct foundN *found)
{
	int forward = dir == DIR_FORWARD;
	struct flowN *f = slotN(slot);
	struct keyN tenant;

	if (!f)
		return 0;
	found->flow = f;
	found->slot = slot;
	found->generation = READ_ONCE(f->generation);
	barrier();
	found->state = READ_ONCE(f->state);
	barrier(); /* the keys are read after it: they are those of the tenant who has this state */
	found->marks = f->marks;
	tenant = forward ? f->fwd : index_keyN(&f->rev, f->marks);
	if (!key_equalN(&tenant, key)) {
		/* The answers of a masqueraded flow arrive as well. */
		if (!forward || !(found->marks & MARK_MASQUERADE) || !key_equalN(&f->rev, key))
			return 0;
		forward = 0;
	}
	/* Between two tenants the keys are those of the first one, and the generation is the next one's already. */
	if (vacant(found->state) || !flow_aliveN(f, now))
		return 0;
	if (!either)
		forward = dir == DIR_FORWARD;
	found->other = forward ? f->rev : f->fwd;
	barrier();
	return READ_ONCE(f->generation) == found->generation;
}

/* `key`: if reverse, as index_keyN made it. With `either` found->other is right also where the answer of a masqueraded
 * flow is found as it arrives. A hint spares the index. It is about one tenancy: about an earlier one it would be wrong
 * while a flow that opens there tries ports which are another's. A flow that moved is no longer there, and the index
 * knows where it is. */
static __always_inline int flow_lookN(const struct keyN *key, enum dir dir, int either, __u32 now, struct foundN *found)
{
	__u32 mark, at = hint_atN(key, &mark), *slot;
	__u64 *where = bpf_map_lookup_elem(&hintsN, &at), hint;
	indexN room;

	if (!where)
		return 0;
	hint = READ_ONCE(*where);
	if ((hint & 0xff) == mark && tenantN(hint >> 32, key, dir, either, now, found) &&
	    !((found->generation ^ hint >> 8) & HINT_GENERATION) && found->state != FLOW_MOVED)
		return 1;
	slot = bpf_map_lookup_elem(&idxN, index_atN(key, &room));
	if (!slot || !tenantN(READ_ONCE(*slot), key, dir, either, now, found))
		return 0;
	*(volatile __u64 *)where = (__u64)found->slot << 32 | (found->generation & HINT_GENERATION) << 8 | mark;
	return 1;
}

static __always_inline int flow_findN(const struct keyN *key, enum dir dir, __u32 now, struct foundN *found)
{
	return flow_lookN(key, dir, 0, now, found);
}
