/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: flows whose server is behind the same device as its clients. It would answer them directly, so it is
 * made to see one of our addresses as its client. Both directions arrive here then, both ends are rewritten at once,
 * and the packet goes back through the device: the stack between the hooks would take our own address, arriving, for
 * forged.
 */
#ifndef DETOUR_MASQUERADE_H
#define DETOUR_MASQUERADE_H

/* The packet goes to whom it is addressed now, through the device it came from; the kernel looks up the neighbour. */
static __always_inline int redirect_on(struct __sk_buff *skb)
{
	skb->mark = OURS;
	return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

#endif

#define send_onN     F(send_on)
#define masqueradedN F(masqueraded)

/* After rewriteN: the source becomes that of `to` as well, and the packet goes to its destination, whose neighbour
 * entry the kernel looks up. */
static __always_inline int send_onN(struct __sk_buff *skb, const struct packetN *p, const struct keyN *to)
{
	__u64 zero_stays = p->key.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 at = p->l4 + check_offsetN(p->key.proto);

	if (!portsN(p->key.proto)) {
		if (readdressN(skb, DIR_REVERSE, p->key.src, to->src))
			return drop(REASON_REWRITE);
		return redirect_on(skb);
	}
	if (p->unsummed) {
		if (!HEADER_SUMMEDN)
			csum_changed(skb, addr_changeN(p->key.src, to->src));
	} else if (sums_addressesN(p->key.proto) && fix_addressN(skb, at, p->key.src, to->src, zero_stays)) {
		return drop(REASON_REWRITE);
	}
	if (set_addressN(skb, DIR_REVERSE, p->key.src, to->src))
		return drop(REASON_REWRITE);
	return redirect_on(skb);
}

/* The packet of this_workN() belongs to the flow in w->slot. A function that the verifier follows by itself. */
__noinline int masqueradedN(struct __sk_buff *skb, __u32 now)
{
	struct workN *w = this_workN();
	struct foundN found;
	struct keyN fwd;
	struct flowN *f;
	__u32 forward;

	if (!w)
		return TC_ACT_SHOT;
	f = slotN(w->slot);
	if (!f)
		return TC_ACT_SHOT;
	found.flow = f;
	found.slot = w->slot;
	found.generation = READ_ONCE(f->generation);
	barrier();
	found.state = READ_ONCE(f->state);
	barrier();
	fwd = f->fwd;
	found.other = f->rev;
	barrier();
	forward = key_equalN(&fwd, &w->packet.key);
	if ((!forward && !key_equalN(&found.other, &w->packet.key)) || vacant(found.state) ||
	    READ_ONCE(f->generation) != found.generation)
		return drop(REASON_NO_SPACE);
	if (forward) {
		if (found.state < FLOW_TAKEN)
			livesN(skb, w, &found, now);
		flow_countN(skb, found.flow, DIR_FORWARD, now);
		flow_tcpN(&found, &w->packet, DIR_FORWARD);
		w->to = key_mirrorN(&found.other);
	} else {
		found.other = fwd;
		if (found.state == FLOW_MOVED)
			flow_followN(&found, flow_movedN(&found));
		flow_countN(skb, found.flow, DIR_REVERSE, now);
		flow_tcpN(&found, &w->packet, DIR_REVERSE);
		flow_answeredN(&found, &w->packet);
		w->to = key_mirrorN(&found.other);
		if (w->to.proto == IPPROTO_UDP && w->to.sport == bpf_htons(53) && wanted(EVENT_DNS, now)) {
			w->rev = found.other;
			tell_packetN(skb, EVENT_DNS, STAGE_OUT);
		}
	}
	if (rewriteN(skb, &w->packet, DIR_FORWARD, &w->to))
		return drop(REASON_REWRITE);
	return send_onN(skb, &w->packet, &w->to);
}
