/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: an ICMP error about a packet of a flow is translated outside and inside, so that it quotes to its
 * receiver what the receiver sent. It neither refreshes nor ends the flow (RFC 4787 REQ-12, RFC 5508 REQ-6), and is not
 * counted in it.
 *
 * What is quoted went the other way, in the form that the error's sender saw: an error that arrives quotes an answer
 * that we restored, one that leaves quotes a packet that we had sent to the server.
 */
#define quoted_portsN F(quoted_ports)
#define requoteN      F(requote)
#define translateN    F(translate)
#define echo_returnsN F(echo_returns)
#define icmp_otherN   F(icmp_other)

/* The ports of a quoted packet. */
static __always_inline enum reason quoted_portsN(struct __sk_buff *skb, struct packetN *quoted)
{
	struct udphdr *udp = bytes_at(skb, quoted->l4, sizeof(*udp));
	struct icmphdr *icmp = (void *)udp;

	if (!udp || (__s32)quoted->room < (__s32)sizeof(*udp))
		return REASON_MALFORMED;
	if (!translatable(quoted->key.proto))
		return REASON_ICMP;
	if (has_ports(quoted->key.proto) || quoted->key.proto == IPPROTO_SCTP) {
		quoted->key.sport = udp->source;
		quoted->key.dport = udp->dest;
		return REASON_NONE;
	}
	if (quoted->key.proto != ICMP_PROTON)
		return REASON_NONE;
	if (icmp->type == ICMP_ANSWERN)
		quoted->key.dport = icmp->id;
	else if (icmp->type == ICMP_ASKN)
		quoted->key.sport = icmp->id;
	else
		return REASON_ICMP;
	return REASON_NONE;
}

/* The quoted packet becomes one of key `to`, as far as it is quoted. Returns what that adds to the sum of the error. */
static __always_inline __u64 requoteN(struct __sk_buff *skb, const struct packetN *p, const struct packetN *quoted,
                                      const struct keyN *to, __u64 *addresses)
{
	void *l4 = bytes_at(skb, quoted->l4, sizeof(struct udphdr)), *end = (void *)(long)skb->data_end;
	struct tcphdr *tcp = l4;
	__u64 change = 0, covered;

	*addresses = requote_headerN(skb, p, to);
	if (!l4 || !portsN(quoted->key.proto))
		return 0;
	if (quoted->key.proto == ICMP_PROTON)
		put16(&((struct icmphdr *)l4)->id, to->sport | to->dport, &change); /* one of them is 0 */
	else
		put32(l4, port_word(to->sport, to->dport), &change);
	covered = change + (sums_addressesN(quoted->key.proto) ? *addresses : 0);
	if (quoted->key.proto == ICMP_PROTON)
		mend(&((struct icmphdr *)l4)->checksum, covered, 0, &change);
	else if (quoted->key.proto == IPPROTO_UDP)
		mend(&((struct udphdr *)l4)->check, covered, 1, &change);
	else if (quoted->room >= sizeof(*tcp) && (void *)(tcp + 1) <= end)
		mend(&tcp->check, covered, 0, &change);
	return change;
}

/* The error at hand, which goes in direction `dir`, if a flow of ours is meant, with the marks w->marks. */
static __always_inline enum reason translateN(struct __sk_buff *skb, struct workN *w, enum dir dir, __u32 now)
{
	const struct packetN *p = &w->packet;
	struct packetN *quoted = &w->quoted;
	struct icmphdr *icmp = bytes_at(skb, p->l4, sizeof(*icmp));
	struct foundN found;
	enum reason reason;
	struct keyN key;
	__u64 change, addresses;
	ipN from, to;

	if (!icmp)
		return REASON_MALFORMED;
	if (!is_errorN(icmp->type))
		return REASON_ICMP;
	reason = quoted_headerN(skb, p, !dir, quoted);
	if (reason)
		return reason;
	reason = quoted_portsN(skb, quoted);
	if (reason)
		return reason;
	if (!addr_equalN(p->key.dst, quoted->key.src))
		return REASON_MALFORMED;

	/* The key of the answers to the quoted packet names the flow in the direction in which the error goes. */
	key = key_mirrorN(&quoted->key);
	if (dir == DIR_REVERSE)
		key = index_keyN(&key, any_sourceN(&key));
	if (!flow_lookN(&key, dir, 1, now, &found))
		return REASON_ICMP;
	/* In reverse also where a router spoke: the client must not learn what lies behind the address that it knows.
	 */
	from = dir == DIR_FORWARD ? p->key.dst : p->key.src;
	to = dir == DIR_FORWARD ? found.other.src : found.other.dst;
	/* Where that is no other one, routers speak for themselves. */
	if (dir == DIR_REVERSE && addr_equalN(to, quoted->key.dst))
		to = from;
	change = requoteN(skb, p, quoted, &found.other, &addresses);
	w->marks = found.marks;
	if (!HEADER_SUMMEDN)
		change += addresses + addr_changeN(from, to);
	if (!HEADER_SUMMEDN && found.marks & MARK_MASQUERADE)
		change += addr_changeN(p->key.src, found.other.dst);
	icmp->checksum = csum_mend(icmp->checksum, change);
	set_addressN(skb, dir, from, to);
	if (found.marks & MARK_MASQUERADE)
		set_addressN(skb, DIR_REVERSE, p->key.src, found.other.dst);
	return REASON_NONE;
}

/* Is the ICMP at hand the answer to an echo of a masqueraded flow? Then w->slot is where that lives. */
__noinline int echo_returnsN(struct __sk_buff *skb, __u32 now)
{
	struct workN *w = this_workN();
	struct icmphdr *icmp;
	struct foundN found;

	if (!w)
		return 0;
	icmp = bytes_at(skb, w->packet.l4, sizeof(*icmp));
	if (!icmp || icmp->type != ICMP_ANSWERN || icmp->code)
		return 0;
	w->packet.key.dport = icmp->id;
	if (!flow_findN(&w->packet.key, DIR_FORWARD, now, &found) || !(found.marks & MARK_MASQUERADE))
		return 0;
	w->slot = found.slot;
	return 1;
}

/* ICMP that is no echo, in direction `dir`. A function that the verifier follows by itself, once for both programs. */
__noinline int icmp_otherN(struct __sk_buff *skb, __u32 dir, __u32 now)
{
	__u32 reachable = l2_len(skb) + LONGEST_ERRORN;
	struct workN *w = this_workN();
	enum reason reason;

	if (!w)
		return TC_ACT_UNSPEC;
	reach(skb, skb->len < reachable ? skb->len : reachable);
	reason = translateN(skb, w, dir == DIR_FORWARD ? DIR_FORWARD : DIR_REVERSE, now);
	if (!reason && w->marks & MARK_MASQUERADE)
		return redirect_on(skb);
	if (!reason)
		return TC_ACT_UNSPEC;
	return dir == DIR_FORWARD ? pass_inN(skb, reason) : pass(reason);
}
