/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* Records what a client asked for, within what one client may occupy. */
#ifndef DETOUR_ASKED_H
#define DETOUR_ASKED_H

#include "maps.h"

/* Added to a tick: one that is as far from it as can be. Ticks of two CPUs may differ by one, and rows are old. */
#define NEVER 0x80000000

/* What was decided about a packet without flow. */
struct outcome {
	__u32 rules_generation;
	__u32 settled; /* the tick, if no rule matches whatever the source port; else one that is not now on any CPU */
	__u16 rule;    /* or RULE_NONE */
	__u8 verdict;  /* enum verdict */
	__u8 reason;   /* enum reason */
	__u8 served;   /* enum served */
	__u8 pad[3];
};

/* The rules of a row and its mark, which must never be seen with those of another packet. */
union settling {
	struct {
		__u32 rules_generation;
		__u32 settled;
	};
	__u64 whole;
};

typedef __u64 __attribute__((may_alias)) settling_word;

static __always_inline union settling settling_of(const struct asked *row)
{
	union settling s = {.whole = *(const volatile settling_word *)&row->rules_generation};

	return s;
}

static __always_inline void settle(struct asked *row, const struct outcome *outcome)
{
	union settling s = {{.rules_generation = outcome->rules_generation, .settled = outcome->settled}};

	*(volatile settling_word *)&row->rules_generation = s.whole;
}

static __always_inline void asked_more(struct asked *row, __u32 bytes, __u32 now)
{
	__sync_fetch_and_add(&row->packets, 1);
	__sync_fetch_and_add(&row->bytes, bytes);
	row->last = now;
}

static __always_inline void asked_add(struct asked *row, __u32 bytes, __u32 now, const struct outcome *outcome)
{
	asked_more(row, bytes, now);
	settle(row, outcome);
	row->rule = outcome->rule;
	row->verdict = outcome->verdict;
	row->reason = outcome->reason;
	row->served = outcome->served;
}

static __always_inline void others_add(struct asked_client *client, __u32 bytes, __u32 now)
{
	if (!client->first)
		client->first = now;
	client->last = now;
	__sync_fetch_and_add(&client->packets, 1);
	__sync_fetch_and_add(&client->bytes, bytes);
}

static __always_inline void overflow_add(__u32 bytes)
{
	__u32 zero = 0;
	struct asked_others *others = bpf_map_lookup_elem(&asked_others, &zero);

	if (!others)
		return;
	others->packets += 1;
	others->bytes += bytes;
}

/* The client's own entry, made when missing; none when there is no room for one more client. */
static __always_inline struct asked_client *client_of(const struct asked_key *key)
{
	struct asked_client *client = bpf_map_lookup_elem(&asked_clients, key->client);
	struct asked_client none = {};

	if (client)
		return client;
	bpf_map_update_elem(&asked_clients, key->client, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&asked_clients, key->client);
}

static __always_inline int asked_new(const struct asked_key *key, __u32 bytes, __u32 now, const struct outcome *outcome)
{
	struct asked_client *client = client_of(key);
	struct asked row = {
		.packets = 1,
		.bytes = bytes,
		.first = now,
		.last = now,
		.rules_generation = outcome->rules_generation,
		.settled = outcome->settled,
		.rule = outcome->rule,
		.verdict = outcome->verdict,
		.reason = outcome->reason,
		.served = outcome->served,
	};

	if (!client) {
		overflow_add(bytes);
		return 0;
	}
	if (client->rows >= cfg.asked_rows || bpf_map_update_elem(&asked, key, &row, BPF_NOEXIST)) {
		others_add(client, bytes, now);
		return 0;
	}
	__sync_fetch_and_add(&client->rows, 1);
	return 1;
}

/* Counts it in a row that was there. 1 if something else becomes of it now. */
static __always_inline int asked_again(struct asked *row, __u32 bytes, __u32 now, const struct outcome *outcome)
{
	int news = row->reason != outcome->reason || row->verdict != outcome->verdict;

	asked_add(row, bytes, now, outcome);
	return news;
}

/* Counts it. 1 if nobody had asked for it before, or if something else becomes of it now. */
static __always_inline int asked_count(const struct asked_key *key, __u32 bytes, __u32 now,
                                       const struct outcome *outcome)
{
	struct asked *row = bpf_map_lookup_elem(&asked, key);

	return row ? asked_again(row, bytes, now, outcome) : asked_new(key, bytes, now, outcome);
}

#endif
