/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: finds the first rule that matches a packet, in the same time for one rule or 1,024; in less where no
 * rule is about its protocol and port. */
#define advanceN     F(advance)
#define vectorN      F(vector)
#define hostN        F(host)
#define usedN        F(used)
#define placesN      F(places)
#define rules_matchN F(rules_match)
#define rules_aboutN F(rules_about)

/* Where in three dimensions a packet's values are. */
struct placesN {
	__u32 src;
	__u32 dst;
	__u32 from;
};

/* The three at once, so that the processor need not wait for one load after the other. Unused bounds are 0, so where
 * FEW is one in all three, the upper steps would lead nowhere. Loops that stay loops: most packets that open something
 * find this code in no near cache. */
static __always_inline struct placesN placesN(const struct rules *table, const struct keyN *key, __u32 from)
{
	hostN src = addr_hostN(key->src), dst = addr_hostN(key->dst);
	struct placesN at = {};
	__u32 step = first_step(usedN(&table->saddrN, FEW) | usedN(&table->daddrN, FEW) | used4(&table->sport, FEW));

#pragma clang loop unroll(disable)
	for (; step; step /= 2) {
		at.src += advanceN(&table->saddrN, at.src, step, src);
		at.dst += advanceN(&table->daddrN, at.dst, step, dst);
		at.from += advance4(&table->sport, at.from, step, from);
	}
	return at;
}

/* The rule's number; RULE_NONE if there is none, RULE_NEVER if none matches from other source ports, either. The
 * destination port comes first: most packets that match nothing fail there. */
static __always_inline __u32 rules_matchN(const struct rules *table, const struct keyN *key)
{
	__u32 to = port_value(key->proto, key->dport), to_at = 0, word;
	const __u64 *saddr, *daddr, *sport, *dport;
	__u64 words = 0, any = 0; /* bit i: word i is not empty */
	struct placesN at;

#pragma clang loop unroll(disable)
	for (__u32 step = first_step(used4(&table->dport, FEW)); step; step /= 2)
		to_at += advance4(&table->dport, to_at, step, to);
	if (!table->dport.vec[to_at & (RULE_BOUNDS - 1)])
		return RULE_NEVER;
	at = placesN(table, key, port_value(key->proto, key->sport));
	saddr = vectorN(table, &table->saddrN, at.src);
	daddr = vectorN(table, &table->daddrN, at.dst);
	sport = vector4(table, &table->sport, at.from);
	dport = vector4(table, &table->dport, to_at);
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < RULE_WORDS && i * 64 < table->count; i++) {
		__u64 both = saddr[i] & daddr[i] & dport[i];

		any |= both;
		both &= sport[i];
		words |= top_bit(both | -both) << i;
	}
	if (!any)
		return RULE_NEVER;
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
	struct workN *w = this_workN();
	const __u64 *saddr, *daddr, *sport;
	__u64 words = 0, any;
	struct placesN at;
	__u32 next, from;

	if (!table || !w)
		return 1;
	from = port_value(w->packet.key.proto, 0);
	at = placesN(table, &w->packet.key, from);
	saddr = vectorN(table, &table->saddrN, at.src);
	daddr = vectorN(table, &table->daddrN, at.dst);
	sport = vector4(table, &table->sport, at.from);
	next = table->sport.bound[(at.from + 1) & (RULE_BOUNDS - 1)];
	any = -(__u64)(FAMILY == 6 || (from >> 16 && next > from && next <= (from | 0xffff)));
	for (__u32 i = 0; i < RULE_WORDS; i++)
		words |= saddr[i] & daddr[i] & (sport[i] | any);
	return !!words;
}
