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

SEC("classifier")
int flush(struct __sk_buff *skb)
{
	int ended = ENDED_MOVING;

	for (int look = 0; look < END_LOOKS && ended == ENDED_MOVING; look++) {
		if (skb->len == ETH_HLEN + sizeof(struct key4))
			ended = end4(skb);
		else
			ended = skb->len == ETH_HLEN + sizeof(struct key6) ? end6(skb) : ENDED_GONE;
	}
	return ended;
}
