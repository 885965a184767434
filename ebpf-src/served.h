/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: is anyone on this machine listening where a packet goes in the end? */
#define servedN F(served)

/* For the packet at hand, which would go to w->rev. A global function: two helpers that the verifier follows once.
 * Returns enum served. */
__noinline int servedN(struct __sk_buff *skb)
{
	struct workN *w = this_workN();
	struct tupleN tuple;
	struct bpf_sock *sk;
	__u8 proto;

	if (!w)
		return SERVED_UNKNOWN;
	proto = w->rev.proto;
	if (!(local_flagsN(w->rev.src) & LOCAL_OWN) || (proto != IPPROTO_TCP && proto != IPPROTO_UDP))
		return SERVED_UNKNOWN;
	tuple = (struct tupleN){
		.saddr = w->rev.dst,
		.daddr = w->rev.src,
		.sport = w->rev.dport,
		.dport = w->rev.sport,
	};
	if (proto == IPPROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return SERVED_NO;
	bpf_sk_release(sk);
	return SERVED_YES;
}
