/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: fragments. The first one has the ports and goes as any packet does; what became of its address is
 * remembered, and the later ones follow. A later one that comes before the first, or whose first was never seen, may be
 * a part of what we translate: then it is dropped, because it would be sent on untranslated. Where no rule is about its
 * addresses it passes, as its first one will.
 */
#define frag_key_ofN   F(frag_key_of)
#define frag_concernsN F(frag_concerns)
#define frag_firstN    F(frag_first)
#define frag_laterN    F(frag_later)
#define frag_dropN     F(frag_drop)

/* IPv6 knows them without the protocol (RFC 8200, 4.5). */
static __always_inline struct frag_key frag_key_ofN(const struct packetN *p)
{
	struct frag_key key __attribute__((aligned(8))) = {
		.id = p->frag_id, .proto = FAMILY == 4 ? p->key.proto : 0, .dir = p->key.dir};

	addr_mappedN(key.src, p->key.src);
	addr_mappedN(key.dst, p->key.dst);
	return key;
}

/* Could it be a part of what we translate, as far as its addresses tell? In IPv6 only the first fragment knows the
 * protocol. */
static __always_inline int frag_concernsN(const struct packetN *p, enum dir dir)
{
	int udp = FAMILY == 6 || p->key.proto == IPPROTO_UDP;
	__u32 target = udp ? LOCAL_TARGET | LOCAL_OWN : LOCAL_TARGET, dst;

	if (dir == DIR_REVERSE)
		return local_flagsN(p->key.src) & target;
	dst = local_flagsN(p->key.dst);
	return !(dst & LOCAL_OWN) && (FAMILY == 6 || translatable(p->key.proto)) &&
	       !excludedN(&p->key, local_flagsN(p->key.src), dst);
}

/* The first fragment is done with, `verdict` is what we return for it. A function that the verifier follows by itself,
 * as the next one. */
__noinline int frag_firstN(struct __sk_buff *skb, __u32 dir, int verdict, __u32 now)
{
	struct workN *w = this_workN();
	struct frag_key key __attribute__((aligned(8)));
	struct frag frag
		__attribute__((aligned(8))) = {.seen = now, .dropped = verdict == TC_ACT_SHOT || verdict == REFUSE};
	ipN addr;

	if (!w)
		return verdict;
	dir = dir == DIR_FORWARD ? DIR_FORWARD : DIR_REVERSE;
	if (get_addressN(skb, dir, &addr))
		return verdict;
	/* Also of a flow that the rules of now would not open. */
	if (verdict != TC_ACT_REDIRECT && !frag_concernsN(&w->packet, dir) &&
	    addr_equalN(addr, dir == DIR_FORWARD ? w->packet.key.dst : w->packet.key.src))
		return verdict;
	key = frag_key_ofN(&w->packet);
	addr_mappedN(frag.addr, addr);
	if (verdict == TC_ACT_REDIRECT && !get_addressN(skb, DIR_REVERSE, &addr)) {
		frag.masqueraded = 1;
		addr_mappedN(frag.source, addr);
	}
	bpf_map_update_elem(&frags, &key, &frag, BPF_ANY); /* not remembered is dropped later: as it should */
	return verdict;
}

/* Drops the later fragment at hand; for a capture it is a packet that arrives and is denied. */
static __always_inline int frag_dropN(struct __sk_buff *skb, struct workN *w, __u32 dir, enum reason reason, __u32 now)
{
	if (dir == DIR_FORWARD && wanted(EVENT_PACKET, now)) {
		w->rev = key_mirrorN(&w->packet.key);
		w->slot = SLOT_NONE;
		w->outcome = (struct outcome){.rule = RULE_NONE, .reason = reason};
		tell_packetN(skb, EVENT_PACKET, STAGE_DENIED);
	}
	return drop(reason);
}

__noinline int frag_laterN(struct __sk_buff *skb, __u32 dir, __u32 now)
{
	struct workN *w = this_workN();
	struct frag_key key __attribute__((aligned(8)));
	struct frag *frag;
	ipN from, to, source;

	if (!w)
		return TC_ACT_UNSPEC;
	if (cfg.flags & CFG_MONITOR)
		return pass(REASON_FRAGMENT);
	dir = dir == DIR_FORWARD ? DIR_FORWARD : DIR_REVERSE;
	key = frag_key_ofN(&w->packet);
	frag = bpf_map_lookup_elem(&frags, &key);
	if (!frag || (__s32)(now - frag->seen) > (__s32)cfg.ip_frag)
		return frag_concernsN(&w->packet, dir) && (dir != DIR_FORWARD || rules_aboutN())
		               ? frag_dropN(skb, w, dir, REASON_FRAGMENT_LOST, now)
		       : dir == DIR_FORWARD ? pass_inN(skb, REASON_FRAGMENT)
		                            : pass(REASON_FRAGMENT);
	if (frag->dropped)
		return frag_dropN(skb, w, dir, REASON_FRAGMENT_DROP, now);
	from = dir == DIR_FORWARD ? w->packet.key.dst : w->packet.key.src;
	to = addr_unmappedN(frag->addr);
	if (frag->masqueraded) {
		source = addr_unmappedN(frag->source);
		if (readdressN(skb, DIR_FORWARD, from, to) || readdressN(skb, DIR_REVERSE, w->packet.key.src, source))
			return drop(REASON_REWRITE);
		return redirect_on(skb);
	}
	if (addr_equalN(from, to))
		return pass(REASON_FRAGMENT);
	return readdressN(skb, dir, from, to) ? drop(REASON_REWRITE) : TC_ACT_UNSPEC;
}
