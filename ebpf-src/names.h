/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * One text for IPv4 and IPv6. A name that ends in N stands for two: flow_findN is flow_find4 where FAMILY is 4, and
 * flow_find6 where it is 6. Headers that use such names have no include guard: family.h reads them once for each
 * family, and each begins with the list of the names that it makes. What the families do not share is in ipv4.h and
 * ipv6.h, under the same names with 4 and 6.
 */
#ifndef DETOUR_NAMES_H
#define DETOUR_NAMES_H

#define F(name)              F_OF(name, FAMILY)
#define F_OF(name, family)   F_JOIN(name, family)
#define F_JOIN(name, family) name##family

/* abi.h */
#define CFG_PICKUPN      F(CFG_PICKUP)
#define CFG_SYN_TRACKEDN F(CFG_SYN_TRACKED)
#define keyN             F(key)
#define flowN            F(flow)
#define indexN           F(index)
#define half_slotsN      F(half_slots)
#define confirmed_slotsN F(confirmed_slots)
#define saddrN           F(saddr)
#define daddrN           F(daddr)
#define ipN              F(ip)

/* ipv4.h and ipv6.h */
#define ICMP_PROTON     F(ICMP_PROTO)
#define ICMP_ASKN       F(ICMP_ASK)
#define ICMP_ANSWERN    F(ICMP_ANSWER)
#define HEADER_SUMMEDN  F(HEADER_SUMMED)
#define LONGEST_ERRORN  F(LONGEST_ERROR)
#define addr_equalN     F(addr_equal)
#define addr_changeN    F(addr_change)
#define addr_hashN      F(addr_hash)
#define addr_mappedN    F(addr_mapped)
#define addr_unmappedN  F(addr_unmapped)
#define addr_hostN      F(addr_host)
#define has_targetN     F(has_target)
#define target_ofN      F(target_of)
#define specialN        F(special)
#define dhcpN           F(dhcp)
#define headerN         F(header)
#define fix_addressN    F(fix_address)
#define get_addressN    F(get_address)
#define set_addressN    F(set_address)
#define masqueradeN     F(masquerade)
#define ICMP_UNREACHN   F(ICMP_UNREACH)
#define is_errorN       F(is_error)
#define quoted_headerN  F(quoted_header)
#define requote_headerN F(requote_header)

#endif
