/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * For each family: what no rule is about is found out once a tick for each row of `asked`, and not for each packet.
 *
 * A row knows all that rules look at but the source port, and its mark says that this makes no difference. It ends with
 * the tick and with the rules, so that all else that may change needs no thought.
 */
#define asked_keyN F(asked_key)
#define rowN       F(row)
#define settlesN   F(settles)
#define settledN   F(settled)

static __always_inline void asked_keyN(struct asked_key *asked, const struct keyN *key)
{
	union {
		struct {
			__be16 dport;
			__u8 proto;
			__u8 pad[5];
		};
		__u64 word;
	} tail = {{.dport = key->dport, .proto = key->proto}};

	addr_mappedN(asked->client, key->src);
	addr_mappedN(asked->dst, key->dst);
	*(volatile key_word *)&asked->dport = tail.word;
}

/* The row of the packet with this key, if it has one. A function for its stack's sake. */
static __noinline struct asked *rowN(const struct keyN *key)
{
	struct asked_key asked_key __attribute__((aligned(8)));

	asked_keyN(&asked_key, key);
	return bpf_map_lookup_elem(&asked, &asked_key);
}

/* Is what becomes of the packet at hand settled for its row? Not where the server is a target (opens_directN), and
 * where another source port would make it DHCP. On lo it may be an answer. */
static __always_inline int settlesN(const struct workN *w, __u32 dst)
{
	struct keyN key = {.proto = w->packet.key.proto, .sport = w->packet.key.dport, .dport = w->packet.key.dport};

	return w->never && w->outcome.reason == REASON_NO_RULE && !dst && !(cfg.flags & CFG_LOOPBACK) && !dhcpN(&key);
}

/* Is it settled what becomes of the packets of this row? */
static __always_inline int settledN(const struct asked *row, __u32 now)
{
	union settling settling = settling_of(row);
	const struct rules *table;

	if (settling.settled != now)
		return 0;
	table = rules_in_force();
	return table && settling.rules_generation == table->generation;
}
