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
#include "end.h"
#undef FAMILY
#define FAMILY 6
#include "shared.h"
#include "end.h"
#undef FAMILY

char _license[] SEC("license") = "Dual MIT/GPL";

SEC("classifier")
int flush(struct __sk_buff *skb)
{
	struct key4 key4;
	struct key6 key6;

	if (skb->len == ETH_HLEN + sizeof(key4) && !bpf_skb_load_bytes(skb, ETH_HLEN, &key4, sizeof(key4)))
		return end4(&key4);
	if (skb->len == ETH_HLEN + sizeof(key6) && !bpf_skb_load_bytes(skb, ETH_HLEN, &key6, sizeof(key6)))
		return end6(&key6);
	return ENDED_GONE;
}
