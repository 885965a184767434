// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/*
 * getsockopt(SO_ORIGINAL_DST) for servers behind a running instance, whose maps it is loaded with: transparent proxies
 * that were written for iptables ask it. Runs after the kernel's own answer, for every getsockopt in its cgroup; what
 * it does not know it leaves as it is.
 */
#include "asked.h"
#include "maps.h"
#include "names.h"
#include "sums.h"

#define SOL_IP   0
#define SOL_IPV6 41
/* IP6T_SO_ORIGINAL_DST is the same number. */
#define SO_ORIGINAL_DST 80

/* include/uapi/linux/bpf.h: pointers are 64 bits, read by the verifier's leave. */
struct bpf_sockopt {
	__u64 sk;
	__u64 optval;
	__u64 optval_end;
	__u32 level;
	__u32 optname;
	__u32 optlen;
	__u32 retval;
};
_Static_assert(__builtin_offsetof(struct bpf_sockopt, retval) == 36, "bpf_sockopt");

static __u64 (*const bpf_get_netns_cookie)(void *ctx) = (void *)122;

/* The namespace of the instance: another one's sockets may have the same addresses. 0: not known, all are taken. */
const volatile __u64 netns_cookie = 0;

/* The kernel's error becomes an answer of so many bytes. Written out, for the compiler would merge the two stores, and
 * the verifier knows each by its place. */
static __always_inline void answer(struct bpf_sockopt *ctx, __u32 bytes)
{
	asm volatile("*(u32 *)(%0 + 32) = %1\n"
	             "*(u32 *)(%0 + 36) = %2\n"
	             :
	             : "r"(ctx), "r"(bytes), "r"(0)
	             : "memory");
}

#define FAMILY 4
#include "shared.h"
#include "look.h"
#include "original.h"
#undef FAMILY
#define FAMILY 6
#include "shared.h"
#include "look.h"
#include "original.h"
#undef FAMILY

char _license[] SEC("license") = "Dual MIT/GPL";

/* A program sees at most this much of an answer. A longer one is refused unless the length is 0, which means: as the
 * kernel gave it. */
#define OPTLEN_MAX 4096

SEC("cgroup/getsockopt")
int detour_orig(struct bpf_sockopt *ctx)
{
	if (ctx->optname == SO_ORIGINAL_DST && (ctx->level == SOL_IP || ctx->level == SOL_IPV6) &&
	    (!netns_cookie || bpf_get_netns_cookie(ctx) == netns_cookie) &&
	    (ctx->level == SOL_IP ? original4(ctx) : original6(ctx)))
		return 1;
	if ((__s32)ctx->optlen > OPTLEN_MAX)
		asm volatile("*(u32 *)(%0 + 32) = %1\n" : : "r"(ctx), "r"(0) : "memory");
	return 1;
}
