// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/* Drops every packet: the smallest program there is to load, and a hook whose effect is plain to see. */
#include "uapi.h"

char _license[] SEC("license") = "Dual MIT/GPL";

SEC("classifier")
int drop(__attribute__((unused)) struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}
