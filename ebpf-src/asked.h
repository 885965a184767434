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

/* Of both tables the last quarter is for clients that have confirmed a flow: whoever forges sources, and hears no
 * answer, cannot take it. Where nothing is translated nobody can prove anything. */
static __always_inline int has_room(__u32 used, __u32 all)
{
	return cfg.flags & CFG_MONITOR || used < all - all / 4;
}

/* What a new client or row begins with, one after the other: the stack is short. Zeros are also the address ::. */
union fresh {
	struct asked_client client;
	struct asked row;
};

/* What is counted of all clients together. */
static __always_inline struct asked_client *everybody(const union fresh *zeros)
{
	struct asked_client *all = bpf_map_lookup_elem(&asked_clients, zeros);

	if (all)
		return all;
	bpf_map_update_elem(&asked_clients, zeros, zeros, BPF_NOEXIST);
	return bpf_map_lookup_elem(&asked_clients, zeros);
}

/* The client's own entry, made when missing; none when there is no room for one more client. */
static __always_inline struct asked_client *client_of(const struct asked_key *key, const union fresh *zeros,
                                                      struct asked_client *all, int known)
{
	struct asked_client *client = bpf_map_lookup_elem(&asked_clients, key->client);

	if (client)
		return client;
	if (!known && !has_room(all->known, cfg.asked_rows * 4))
		return 0;
	if (!bpf_map_update_elem(&asked_clients, key->client, zeros, BPF_NOEXIST))
		__sync_fetch_and_add(&all->known, 1);
	return bpf_map_lookup_elem(&asked_clients, key->client);
}

/* `known`: the packet confirms a flow. Once for all that call it. */
static __noinline int asked_new(const struct asked_key *key, __u32 bytes, __u32 now, const struct outcome *outcome,
                                int known)
{
	union fresh fresh __attribute__((aligned(8))) = {};
	struct asked_client *all = everybody(&fresh);
	struct asked_client *client = all ? client_of(key, &fresh, all, known) : 0;

	if (!client) {
		overflow_add(bytes);
		return 0;
	}
	if (known)
		client->known = 1;
	fresh.row = (struct asked){
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
	if (client->rows >= cfg.asked_rows || (!client->known && !has_room(all->rows, cfg.asked_rows * 16)) ||
	    bpf_map_update_elem(&asked, key, &fresh, BPF_NOEXIST)) {
		others_add(client, bytes, now);
		return 0;
	}
	__sync_fetch_and_add(&client->rows, 1);
	__sync_fetch_and_add(&all->rows, 1);
	return 1;
}

/* Counts it in a row that was there. 1 if something else becomes of it now. */
static __always_inline int asked_again(struct asked *row, __u32 bytes, __u32 now, const struct outcome *outcome)
{
	int news = row->reason != outcome->reason || row->verdict != outcome->verdict;

	asked_add(row, bytes, now, outcome);
	return news;
}

/* A client confirms a flow: from now on it is known. A row that there was no room for when it asked begins with this
 * packet; those before are among `others`. */
static __always_inline void asked_known(const struct asked_key *key, __u32 bytes, __u32 now,
                                        const struct outcome *outcome)
{
	struct asked_client *client = bpf_map_lookup_elem(&asked_clients, key->client);

	if (client && client->known)
		return;
	if (client && bpf_map_lookup_elem(&asked, key))
		client->known = 1;
	else
		asked_new(key, bytes, now, outcome, 1);
}

/* Counts it. 1 if nobody had asked for it before, or if something else becomes of it now. */
static __always_inline int asked_count(const struct asked_key *key, __u32 bytes, __u32 now,
                                       const struct outcome *outcome)
{
	struct asked *row = bpf_map_lookup_elem(&asked, key);

	return row ? asked_again(row, bytes, now, outcome) : asked_new(key, bytes, now, outcome, 0);
}

#endif
