/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: the original destination of a connected socket, as nf_conntrack would answer for it. */
#define sock_keyN F(sock_key)
#define sockaddrN F(sockaddr)
#define originalN F(original)

#ifndef DETOUR_ORIGINAL_H
#define DETOUR_ORIGINAL_H

#define AF_INET  2
#define AF_INET6 10

struct sockaddr4 {
	__u16 family;
	__be16 port;
	ip4 addr;
	__u64 zero;
};
_Static_assert(sizeof(struct sockaddr4) == 16, "sockaddr_in");

struct sockaddr6 {
	__u16 family;
	__be16 port;
	__u32 flowinfo;
	ip6 addr;
	__u32 scope_id;
};
_Static_assert(sizeof(struct sockaddr6) == 28, "sockaddr_in6");

/* What a socket sends: the reverse key of its flow. An IPv6 socket speaks IPv4 with a client whose address it shows as
 * ::ffff:a.b.c.d. */
static __always_inline int sock_key4(struct bpf_sock *sk, struct key4 *key)
{
	if (sk->family != AF_INET && (sk->family != AF_INET6 || sk->dst_ip6[2] != bpf_htonl(0xffff)))
		return 0;
	key->src = sk->src_ip4;
	key->dst = sk->dst_ip4;
	return 1;
}

static __always_inline int sock_key6(struct bpf_sock *sk, struct key6 *key)
{
	if (sk->family != AF_INET6)
		return 0;
	for (__u32 i = 0; i < 4; i++) {
		key->src.word[i] = sk->src_ip6[i];
		key->dst.word[i] = sk->dst_ip6[i];
	}
	return 1;
}

#endif

/* Writes the address to `optval` and says that this is all; 1 if there is one, and room for it. */
static __always_inline int originalN(struct bpf_sockopt *ctx)
{
	struct sockaddrN *to = (void *)(long)ctx->optval;
	struct bpf_sock *sk = (void *)(long)ctx->sk;
	struct keyN key = {.dir = DIR_REVERSE};
	struct foundN found;

	if ((void *)(to + 1) > (void *)(long)ctx->optval_end || !sk)
		return 0;
	if ((sk->protocol != IPPROTO_TCP && sk->protocol != IPPROTO_SCTP) || !sock_keyN(sk, &key))
		return 0;
	key.proto = sk->protocol;
	key.sport = bpf_htons(sk->src_port);
	key.dport = sk->dst_port;
	if (!flow_findN(&key, DIR_REVERSE, now_tick(), &found))
		return 0;
	*to = (struct sockaddrN){
		.family = FAMILY == 4 ? AF_INET : AF_INET6,
		.port = found.other.dport,
		.addr = found.other.dst,
	};
	answer(ctx, sizeof(*to));
	return 1;
}
