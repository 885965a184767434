// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/*
 * Ends a flow of a running instance, whose maps it is loaded with. Attached nowhere: user space runs it
 * (BPF_PROG_TEST_RUN) on a frame that holds the flow's forward key behind an Ethernet header. User space alone could
 * not: an element of an array is written whole, and nobody can say "only if it is still this flow".
 */
#include "asked.h"
#include "maps.h"
#include "names.h"
#include "sums.h"

#define FAMILY 4
#include "shared.h"
#include "leave.h"
#include "end.h"
#undef FAMILY
#define FAMILY 6
#include "shared.h"
#include "leave.h"
#include "end.h"
#undef FAMILY

char _license[] SEC("license") = "Dual MIT/GPL";

static __always_inline int look(struct __sk_buff *skb)
{
	if (skb->len == ETH_HLEN + sizeof(struct key4))
		return end4(skb);
	return skb->len == ETH_HLEN + sizeof(struct key6) ? end6(skb) : ENDED_GONE;
}

/* Not in a loop: without CAP_PERFMON the verifier takes it for one without end. */
static __always_inline int look_4_times(struct __sk_buff *skb)
{
	int ended = look(skb);

	ended = ended == ENDED_MOVING ? look(skb) : ended;
	ended = ended == ENDED_MOVING ? look(skb) : ended;
	return ended == ENDED_MOVING ? look(skb) : ended;
}

/* Looks 16 times at a flow that another CPU is moving to its confirmed slot, or ends: that takes a microsecond. */
SEC("classifier")
int flush(struct __sk_buff *skb)
{
	int ended = look_4_times(skb);

	ended = ended == ENDED_MOVING ? look_4_times(skb) : ended;
	ended = ended == ENDED_MOVING ? look_4_times(skb) : ended;
	return ended == ENDED_MOVING ? look_4_times(skb) : ended;
}
