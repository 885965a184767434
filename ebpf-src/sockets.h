/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: which socket of this machine a packet would reach, if any. */
#define tupleN         F(bpf_sock_tuple)
#define sock_stateN    F(sock_state)
#define socket_existsN F(socket_exists)
#define asks_socketsN  F(asks_sockets)
#define servedN        F(served)

/* The state of the socket that a packet of `key` would reach; 0 if there is none. Each branch reads for itself, and
 * the barrier keeps it so: the verifier takes no one instruction that reads from both kinds of socket. */
static __always_inline __u32 sock_stateN(struct __sk_buff *skb, const struct keyN *key)
{
	struct tupleN tuple = {
		.saddr = key->src,
		.daddr = key->dst,
		.sport = key->sport,
		.dport = key->dport,
	};
	struct bpf_sock *sk;
	__u32 state;

	if (key->proto == IPPROTO_TCP) {
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return 0;
		state = sk->state;
		barrier();
	} else if (key->proto == IPPROTO_UDP) {
		sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple), BPF_F_CURRENT_NETNS, 0);
		if (!sk)
			return 0;
		state = sk->state;
	} else {
		return 0;
	}
	bpf_sk_release(sk);
	return state;
}

/* Does this machine hold a TCP socket for the tuple, connected, half-open or waiting? After a loss of our state, or
 * from before we came. A listener does not count; but either says that w->rev is served. Of UDP one that is connected
 * to the client, where no other one takes what else comes to its port: then it asked, and waits for an answer. Beside
 * a server's socket it is that server's, which lost our state. */
static __always_inline int socket_existsN(struct __sk_buff *skb, struct workN *w)
{
	struct keyN key = key_mirrorN(&w->rev);
	__u32 state = sock_stateN(skb, &key);

	w->outcome.served = state ? SERVED_YES : SERVED_NO;
	if (key.proto == IPPROTO_TCP)
		return state && state != TCP_LISTEN;
	if (state != TCP_ESTABLISHED)
		return 0;
	key.sport = 0;
	return !sock_stateN(skb, &key);
}

/* May a socket be in the way? Not where the flow is the connection itself: a direct one, or one picked up in mid-stream
 * which keeps its port. */
static __always_inline int asks_socketsN(const struct workN *w, __u32 try)
{
	if (w->rev.proto == IPPROTO_UDP)
		return (w->marks & (MARK_ANY_SOURCE | MARK_DIRECT)) == MARK_ANY_SOURCE;
	return w->rev.proto == IPPROTO_TCP && (try || !w->marks);
}

/* Is anyone on this machine listening where the packet at hand, which would go to w->rev, goes in the end? A global
 * function: two helpers that the verifier follows once. Returns enum served. */
__noinline int servedN(struct __sk_buff *skb)
{
	struct workN *w = this_workN();
	struct keyN key;

	if (!w)
		return SERVED_UNKNOWN;
	if (!(local_flagsN(w->rev.src) & LOCAL_OWN) || (w->rev.proto != IPPROTO_TCP && w->rev.proto != IPPROTO_UDP))
		return SERVED_UNKNOWN;
	key = key_mirrorN(&w->rev);
	return sock_stateN(skb, &key) ? SERVED_YES : SERVED_NO;
}
