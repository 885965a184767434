/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: changes one address and the ports of a packet, with checksums that stay right whatever the offload
 * state:
 *
 * - address: fix_addressN, with the pseudo header flag of bpf_l4_csum_replace. Where the device will finish the sum
 *   (CHECKSUM_PARTIAL) only this part is in the field, where the device has summed (CHECKSUM_COMPLETE) its sum is kept.
 * - ports: a second call without that flag, both ports as one 32-bit word. One call for both would be wrong for
 *   PARTIAL.
 * - header: by hand. What it changes in a COMPLETE sum cancels out, as do transport checksum and ports, hence the plain
 *   stores.
 * - UDP without checksum stays so; only a COMPLETE sum must then learn of what changed.
 */
#define sums_addressesN F(sums_addresses)
#define check_offsetN   F(check_offset)
#define fix_transportN  F(fix_transport)
#define readdressN      F(readdress)
#define rewriteN        F(rewrite)

/* Where the checksum is in the transport header. */
static __always_inline __u32 check_offsetN(__u8 proto)
{
	if (proto == ICMP_PROTON)
		return __builtin_offsetof(struct icmphdr, checksum);
	return proto == IPPROTO_UDP ? __builtin_offsetof(struct udphdr, check)
	                            : __builtin_offsetof(struct tcphdr, check);
}

/* Does the protocol's checksum cover the addresses? */
static __always_inline int sums_addressesN(__u8 proto)
{
	return !HEADER_SUMMEDN || proto != ICMP_PROTON;
}

/* The words as they are summed: an ICMP identifier lies elsewhere than ports do, which is no matter to a sum. */
static __always_inline long fix_transportN(struct __sk_buff *skb, const struct packetN *p, ipN addr, ipN new_addr,
                                           __u32 ports, __u32 new_ports)
{
	__u64 zero_stays = p->key.proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 at = p->l4 + check_offsetN(p->key.proto);

	if (p->unsummed) {
		csum_changed(skb, (HEADER_SUMMEDN ? 0 : addr_changeN(addr, new_addr)) + (__u32)~ports + new_ports);
		return 0;
	}
	if (sums_addressesN(p->key.proto) && fix_addressN(skb, at, addr, new_addr, zero_stays))
		return -1;
	if (ports == new_ports)
		return 0;
	return bpf_l4_csum_replace(skb, at, ports, new_ports, sizeof(ports) | zero_stays);
}

/* An address becomes another one, and no checksum of a transport header knows. */
static __always_inline long readdressN(struct __sk_buff *skb, enum dir dir, ipN from, ipN to)
{
	if (!HEADER_SUMMEDN)
		csum_changed(skb, addr_changeN(from, to));
	return set_addressN(skb, dir, from, to);
}

/* The packet becomes what a packet of key `to` would look like: forward the destination changes, reverse the source,
 * and the ports in both. 0, or -1 when the kernel refused, with the packet half done: drop it then. */
static __always_inline int rewriteN(struct __sk_buff *skb, const struct packetN *p, enum dir dir, const struct keyN *to)
{
	const struct keyN *from = &p->key;
	ipN addr = dir == DIR_FORWARD ? from->dst : from->src;
	ipN new_addr = dir == DIR_FORWARD ? to->dst : to->src;
	__u32 ports = port_word(from->sport, from->dport);
	__u32 new_ports = port_word(to->sport, to->dport);
	void *l4;

	if (addr_equalN(addr, new_addr) && ports == new_ports)
		return 0;
	if (!portsN(from->proto))
		return readdressN(skb, dir, addr, new_addr);
	if (fix_transportN(skb, p, addr, new_addr, ports, new_ports))
		return -1;

	/* The helpers made all pointers void, and the verifier wants its bounds anew. */
	if (set_addressN(skb, dir, addr, new_addr))
		return -1;
	l4 = bytes_at(skb, p->l4, sizeof(struct udphdr));
	if (!l4)
		return -1;
	if (from->proto == ICMP_PROTON)
		((struct icmphdr *)l4)->id = to->sport | to->dport; /* one of them is 0 */
	else
		*(__u32 *)l4 = new_ports;
	return 0;
}
