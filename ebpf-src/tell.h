/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: events about a flow, about what was asked for, and packets for a reader that wants to see them.
 * Global functions, verified once, for they are rare. */
#define event_keysN   F(event_keys)
#define tell_flowN    F(tell_flow)
#define tell_askedN   F(tell_asked)
#define tell_packetN  F(tell_packet)
#define show_packetN  F(show_packet)
#define tell_passingN F(tell_passing)

static __always_inline void event_keysN(struct event *e, const struct keyN *fwd, const struct keyN *rev)
{
	addr_mappedN(e->client, fwd->src);
	addr_mappedN(e->dst, fwd->dst);
	addr_mappedN(e->server, rev->src);
	e->client_port = fwd->sport;
	e->dst_port = fwd->dport;
	e->server_port = rev->sport;
	e->server_client_port = rev->dport;
	e->proto = fwd->proto;
}

/* What has become of the flow in this slot. */
__noinline int tell_flowN(struct __sk_buff *skb, __u32 slot, __u32 kind)
{
	const struct workN *w = this_workN();
	struct flowN *f = slotN(slot);
	struct event *e;

	if (!w || !f)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		event_lost();
		return 0;
	}
	event_begin(e, skb, kind);
	event_keysN(e, &f->fwd, &f->rev);
	e->rules_generation = f->rules_generation;
	e->rule = f->rule;
	if (kind == EVENT_FLOW_NEW) {
		e->verdict = w->outcome.verdict;
		e->served = w->outcome.served;
	}
	e->packets[DIR_FORWARD] = f->packets[DIR_FORWARD];
	e->packets[DIR_REVERSE] = f->packets[DIR_REVERSE];
	e->bytes[DIR_FORWARD] = f->bytes[DIR_FORWARD];
	e->bytes[DIR_REVERSE] = f->bytes[DIR_REVERSE];
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* What has become of the packet at hand, which opens no flow. */
__noinline int tell_askedN(struct __sk_buff *skb, __u32 kind)
{
	struct workN *w = this_workN();
	struct event *e;

	if (!w)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		event_lost();
		return 0;
	}
	event_begin(e, skb, kind);
	event_keysN(e, &w->packet.key, &w->rev);
	e->rules_generation = w->outcome.rules_generation;
	e->rule = w->outcome.rule;
	e->verdict = w->outcome.verdict;
	e->reason = w->outcome.reason;
	e->served = w->outcome.served;
	e->packets[DIR_FORWARD] = 1;
	e->bytes[DIR_FORWARD] = skb->len;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* The packet at hand as it is now, w->packet.key and w->rev being the keys of its flow, w->slot its place, which is
 * none where it has no flow. */
__noinline int tell_packetN(struct __sk_buff *skb, __u32 kind, __u32 stage)
{
	struct workN *w = this_workN();
	struct event_packet *e;
	__u32 kept = skb->len, arrives;
	struct flowN *f;

	if (!w || (kind == EVENT_DNS && dns_has_its_share()))
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		event_lost();
		return 0;
	}
	event_begin(&e->event, skb, kind);
	arrives = stage != STAGE_OUT && stage != STAGE_OUT_DONE;
	event_keysN(&e->event, arrives ? &w->packet.key : &w->rev, arrives ? &w->rev : &w->packet.key);
	f = slotN(w->slot);
	if (f) {
		e->event.rules_generation = f->rules_generation;
		e->event.rule = f->rule;
	} else if (stage >= STAGE_DENIED) {
		e->event.rules_generation = w->outcome.rules_generation;
		e->event.rule = w->outcome.rule;
		e->event.verdict = w->outcome.verdict;
		e->event.reason = w->outcome.reason;
	}
	e->time = bpf_ktime_get_ns();
	e->length = kept;
	e->stage = stage;
	__builtin_memset(e->pad, 0, sizeof(e->pad));
	if (kept > EVENT_SNAP)
		kept = EVENT_SNAP;
	/* The bounds are checked on the register that is used, the lower one so that kernels before 6.8 learn of it. */
	asm volatile("" : "+r"(kept));
	if ((__s32)kept < 1 || kept > EVENT_SNAP || bpf_skb_load_bytes(skb, 0, e->data, kept)) {
		bpf_ringbuf_discard(e, 0);
		return 0;
	}
	e->kept = kept;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* For a reader that wants packets of the flow that was found. */
static __always_inline void show_packetN(struct __sk_buff *skb, struct workN *w, const struct foundN *found,
                                         enum packet_stage stage)
{
	w->rev = found->other;
	w->slot = found->slot;
	tell_packetN(skb, EVENT_PACKET, stage);
}

/* A packet that leaves and belongs to no flow: who gets it is the client, who sent it was asked. */
__noinline int tell_passingN(struct __sk_buff *skb, __u32 kind)
{
	struct workN *w = this_workN();

	if (!w)
		return 0;
	w->rev = key_mirrorN(&w->packet.key);
	w->slot = SLOT_NONE;
	return tell_packetN(skb, kind, STAGE_OUT);
}
