/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: finds the first rule that matches a packet, in the same time for one rule or 1,024; in less where no
 * rule is about its protocol and port. */
#define advanceN     F(advance)
#define vectorN      F(vector)
#define hostN        F(host)
#define rules_matchN F(rules_match)
#define rules_aboutN F(rules_about)

/* The rule's number; RULE_NONE if there is none, RULE_NEVER if none matches from other source ports, either. */
static __always_inline __u32 rules_matchN(const struct rules *table, const struct keyN *key)
{
	hostN src = addr_hostN(key->src), dst = addr_hostN(key->dst);
	__u32 from = port_value(key->proto, key->sport), to = port_value(key->proto, key->dport);
	__u32 src_at = 0, dst_at = 0, from_at = 0, to_at = 0;
	const __u64 *saddr, *daddr, *sport, *dport;
	__u64 words = 0; /* bit i: word i is not empty */
	__u32 word;

	for (__u32 step = RULE_BOUNDS / 2; step; step /= 2)
		to_at += advance4(&table->dport, to_at, step, to);
	if (!table->dport.vec[to_at & (RULE_BOUNDS - 1)])
		return RULE_NEVER;
	/* The others at once, so that the processor need not wait for one load after the other. */
	for (__u32 step = RULE_BOUNDS / 2; step; step /= 2) {
		src_at += advanceN(&table->saddrN, src_at, step, src);
		dst_at += advanceN(&table->daddrN, dst_at, step, dst);
		from_at += advance4(&table->sport, from_at, step, from);
	}
	saddr = vectorN(table, &table->saddrN, src_at);
	daddr = vectorN(table, &table->daddrN, dst_at);
	sport = vector4(table, &table->sport, from_at);
	dport = vector4(table, &table->dport, to_at);
	for (__u32 i = 0; i < RULE_WORDS; i++)
		words |= saddr[i] & daddr[i] & dport[i];
	if (!words)
		return RULE_NEVER;
	words = 0;
	for (__u32 i = 0; i < RULE_WORDS; i++) {
		__u64 both = saddr[i] & daddr[i] & sport[i] & dport[i];

		words |= top_bit(both | -both) << i;
	}
	if (!words)
		return RULE_NONE;
	word = lowest_bit(words) & (RULE_WORDS - 1);
	return word * 64 + lowest_bit(saddr[word] & daddr[word] & sport[word] & dport[word]);
}

/* Could a rule be about a packet of which the ports are not known? A rule is about all source ports of its protocols
 * unless it names some, and then all rules count. So they do in IPv6, where later fragments do not say their protocol
 * (RFC 8200, 4.5). A function that the verifier follows by itself. */
__noinline int rules_aboutN(void)
{
	const struct rules *table = rules_in_force();
	__u32 src_at = 0, dst_at = 0, from_at = 0, next, from;
	struct workN *w = this_workN();
	const __u64 *saddr, *daddr, *sport;
	__u64 words = 0, any;
	hostN src, dst;

	if (!table || !w)
		return 1;
	src = addr_hostN(w->packet.key.src);
	dst = addr_hostN(w->packet.key.dst);
	from = port_value(w->packet.key.proto, 0);
	for (__u32 step = RULE_BOUNDS / 2; step; step /= 2) {
		src_at += advanceN(&table->saddrN, src_at, step, src);
		dst_at += advanceN(&table->daddrN, dst_at, step, dst);
		from_at += advance4(&table->sport, from_at, step, from);
	}
	saddr = vectorN(table, &table->saddrN, src_at);
	daddr = vectorN(table, &table->daddrN, dst_at);
	sport = vector4(table, &table->sport, from_at);
	next = table->sport.bound[(from_at + 1) & (RULE_BOUNDS - 1)];
	any = -(__u64)(FAMILY == 6 || (from >> 16 && next > from && next <= (from | 0xffff)));
	for (__u32 i = 0; i < RULE_WORDS; i++)
		words |= saddr[i] & daddr[i] & (sport[i] | any);
	return !!words;
}
