/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * What can be translated, by protocol number: the one place that knows. TCP and UDP have ports and a checksum that we
 * mend, ICMP echo an identifier in place of a port. Of all others the address is translated and nothing else, which is
 * right where nothing but the IP header covers it; of SCTP the rules and flows know the ports, but they stay as they
 * are, because its CRC32c covers them (and not the addresses). The rest passes as it is, counted as REASON_PROTOCOL.
 */
#ifndef DETOUR_PROTOCOLS_H
#define DETOUR_PROTOCOLS_H

#include "uapi.h"

/* 1: an address that changes makes the packet wrong. */
static const __u8 covers_addresses[256] = {
	[2] = 1,   /* IGMP: is about this link alone */
	[33] = 1,  /* DCCP: pseudo header (RFC 4340, 9.1) */
	[51] = 1,  /* AH: authenticates the IP header (RFC 4302, 3.3.3) */
	[89] = 1,  /* OSPF: is about this link alone */
	[103] = 1, /* PIM: pseudo header in IPv6 (RFC 7761, 4.9) */
	[112] = 1, /* VRRP: pseudo header (RFC 9568, 5.2.8) */
	[135] = 1, /* Mobility: pseudo header (RFC 6275, 6.1.1) */
	[136] = 1, /* UDP-Lite: pseudo header (RFC 3828, 3.1) */
	[139] = 1, /* HIP: pseudo header (RFC 7401, 5.1.1) */
};

static __always_inline int translatable(__u8 proto)
{
	return !covers_addresses[proto];
}

/* Are there ports that may become others? */
static __always_inline int has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP;
}

/* Does a first packet look otherwise than later ones? In SCTP an INIT has no verification tag; the parser calls that
 * SYN. */
static __always_inline int has_syn(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_SCTP;
}

#endif
