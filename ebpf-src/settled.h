/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: what no rule is about is found out once a tick for each row of `asked`, and not for each packet.
 *
 * A row knows all that rules look at but the source port, and its mark says that this makes no difference. It ends with
 * the tick and with the rules, so that all else that may change needs no thought.
 */
#define asked_keyN F(asked_key)
#define settlesN   F(settles)
#define settledN   F(settled)

static __always_inline struct asked_key asked_keyN(const struct keyN *key)
{
	struct asked_key asked = {.dport = key->dport, .proto = key->proto};

	addr_mappedN(asked.client, key->src);
	addr_mappedN(asked.dst, key->dst);
	return asked;
}

/* Is what becomes of the packet at hand settled for its row? Not where the server is a target (opens_directN), and
 * where another source port would make it DHCP. On lo it may be an answer. */
static __always_inline int settlesN(const struct workN *w, __u32 dst)
{
	struct keyN key = {.proto = w->packet.key.proto, .sport = w->packet.key.dport, .dport = w->packet.key.dport};

	return w->never && w->outcome.reason == REASON_NO_RULE && !dst && !(cfg.flags & CFG_LOOPBACK) && !dhcpN(&key);
}

/* The packet of this_workN() belongs to no flow: is it settled what becomes of it? It is counted then. A function that
 * the verifier follows by itself. */
__noinline int settledN(struct __sk_buff *skb, __u32 now)
{
	const struct rules *table = rules_in_force();
	struct workN *w = this_workN();
	union settling settling;
	struct asked_key key;
	struct asked *row;

	if (!w || !table)
		return 0;
	key = asked_keyN(&w->packet.key);
	row = bpf_map_lookup_elem(&asked, &key);
	if (!row)
		return 0;
	settling = settling_of(row);
	if (settling.settled != now || settling.rules_generation != table->generation)
		return 0;
	if (opensN(&w->packet))
		asked_more(row, skb->len, now);
	return 1;
}
