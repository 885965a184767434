/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: a SYN on a flow that is closing ends it and begins a new one, unless its connection goes on. */
#define connectedN     F(connected)
#define flow_reopenedN F(flow_reopened)

/* Does a server on this machine still hold the connection whose reverse key is w->rev, with neither side gone? Then it
 * was not the client who said FIN or RST, whose sequence numbers we do not know, and the SYN is for the server to
 * challenge (RFC 5961, 4.2). A function that the verifier follows by itself. */
__noinline int connectedN(struct __sk_buff *skb)
{
	const __u32 going_on = 1 << TCP_ESTABLISHED | 1 << TCP_SYN_RECV | 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 |
	                       1 << TCP_CLOSE_WAIT | 1 << TCP_NEW_SYN_RECV;
	struct workN *w = this_workN();
	struct keyN key;

	if (!skb || !w)
		return 0;
	key = key_mirrorN(&w->rev);
	return going_on >> (sock_stateN(skb, &key) & 31) & 1;
}

/* The rules are asked again. One CPU wins; 1 if the flow is gone. */
static __always_inline int flow_reopenedN(struct __sk_buff *skb, struct workN *w, const struct foundN *found)
{
	struct flowN *f = found->flow;
	int won;

	if (found->state != FLOW_CLOSING || (w->packet.flags & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
		return 0;
	w->rev = found->other;
	if (connectedN(skb))
		return 0;
	bpf_spin_lock(&f->lock);
	won = f->state == FLOW_CLOSING && f->generation == found->generation;
	if (won)
		f->state = FLOW_ENDING;
	bpf_spin_unlock(&f->lock);
	return won && leaveN(found->slot, FLOW_FREE, 0);
}
