/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: how many flows a client opens and has, where that has a limit; without, nothing of this runs. */
#define client_keyN   F(client_key)
#define client_opensN F(client_opens)
#define client_fullN  F(client_full)
#define client_countN F(client_count)

#ifndef DETOUR_CLIENTS_H
#define DETOUR_CLIENTS_H

/* By client, see struct client. Written and read by the programs alone; the entry that was not used for longest makes
 * room for another: made-up clients make us forget counts, but nobody is refused for lack of an entry. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u8[16]);
	__type(value, struct client);
} clients SEC(".maps");

static __always_inline int clients_limited(void)
{
	return cfg.client_new || cfg.client_live;
}

#endif

/* Over IPv6 a client is a /64 network. */
static __always_inline void client_keyN(__u8 key[16], ipN addr)
{
	addr_mappedN(key, addr);
	if (FAMILY == 6)
		*(__u64 *)(key + 8) = 0;
}

/* The client opens a flow: counted, or why it may not. */
static __always_inline enum reason client_opensN(ipN addr, __u32 now)
{
	struct client none = {.tick = now}, *client;
	__u8 key[16] __attribute__((aligned(8)));

	if (!clients_limited())
		return REASON_NONE;
	client_keyN(key, addr);
	client = bpf_map_lookup_elem(&clients, key);
	if (!client) {
		bpf_map_update_elem(&clients, key, &none, BPF_NOEXIST);
		client = bpf_map_lookup_elem(&clients, key);
	}
	if (!client)
		return REASON_NONE;
	if (cfg.client_live && client->live >= cfg.client_live)
		return REASON_CLIENT_LIVE;
	if (client->tick != now) {
		client->tick = now;
		client->opened = 0;
	}
	if (cfg.client_new && client->opened >= cfg.client_new)
		return REASON_CLIENT_NEW;
	__sync_fetch_and_add(&client->opened, 1);
	return REASON_NONE;
}

/* Has the client as many confirmed flows as it may? */
static __always_inline int client_fullN(ipN addr)
{
	__u8 key[16] __attribute__((aligned(8)));
	struct client *client;

	if (!cfg.client_live)
		return 0;
	client_keyN(key, addr);
	client = bpf_map_lookup_elem(&clients, key);
	/* Signed: two ends at once may take one too many from a count that was forgotten in between. */
	return client && (__s32)client->live >= (__s32)cfg.client_live;
}

/* A flow of the client becomes confirmed (1), or ends to be (-1). */
static __always_inline void client_countN(ipN addr, int change)
{
	__u8 key[16] __attribute__((aligned(8)));
	struct client *client;

	if (!cfg.client_live)
		return;
	client_keyN(key, addr);
	client = bpf_map_lookup_elem(&clients, key);
	if (client && (change > 0 || client->live))
		__sync_fetch_and_add(&client->live, change);
}
