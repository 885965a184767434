/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: its maps, who writes and reads them and when an entry dies, and what is known of the packet at hand.
 */
#include "asked.h"
#include "maps.h"
#include "names.h"

#define idxN           F(idx)
#define slotsN         F(slots)
#define localN         F(local)
#define hintsN         F(hints)
#define packetN        F(packet)
#define workN          F(work)
#define this_workN     F(this_work)
#define DEFAULT_SLOTSN (DEFAULT_CPUS * F(DEFAULT_HALF) + F(DEFAULT_CONFIRMED))

/* Which slot holds the flow of this packet? Both keys of a flow are in it, as index.h makes them. Written by the
 * programs alone; an entry dies with the tenancy of its slot: when a ring comes round, a confirmed slot is taken anew,
 * or a SYN reopens a closed flow. An entry that was left over by a race points to a slot with other keys, and is
 * ignored. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * DEFAULT_SLOTSN + 1024);
	__type(key, indexN);
	__type(value, __u32);
} idxN SEC(".maps");

/* Where the flow of a packet was last found, by a hash of its key: slot, generation and a part of the hash (look.h).
 * Programs write and read; an entry means nothing without the slot's consent, and gives way to the next key. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << HINT_BITS);
	__type(key, __u32);
	__type(value, __u64);
} hintsN SEC(".maps");

/* All flows. The programs write, user space reads (and takes records older than their idle time for dead). Half-open
 * slots are rings, overwritten in order by their own CPU only; confirmed ones are taken when free or expired. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DEFAULT_SLOTSN);
	__type(key, __u32);
	__type(value, struct flowN);
} slotsN SEC(".maps");

/* What an address is to us (enum local_flags), key in network order. User space writes and deletes, programs read. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, ipN);
	__type(value, __u32);
} localN SEC(".maps");

/* What is known of a packet. */
struct packetN {
	struct keyN key; /* as on the wire */
	__u32 l4;        /* offset of the transport header in the frame, at most L4_MAX */
	__u32 room;      /* bytes of the packet from there on, as the IP header has it */
	__u32 seq;       /* TCP; host order */
	__u32 ack;
	__u32 frag_id; /* of a fragment; as on the wire */
	__u8 flags;    /* TCP */
	__u8 unsummed; /* UDP without checksum */
	__u8 first;    /* the first of several fragments */
};

/* The packet at hand, and what becomes of it if it has no flow. */
struct workN {
	struct packetN packet;
	struct packetN quoted; /* in an ICMP error */
	struct keyN to;        /* at work: a key that is looked up, or is to be on the wire */
	struct keyN rev;       /* of the flow to open: the server that the rules chose */
	struct outcome outcome;
	__u32 slot;   /* where that flow lives */
	__u8 marks;   /* enum flow_marks */
	__u8 how;     /* enum reject, if a rule rejects */
	__u8 never;   /* no rule matches, whatever the source port */
	__s8 verdict; /* enum tc_act or REFUSE, of a first fragment */
};

/* One per CPU; written and read during one run, means nothing between runs. In a map and not on the stack, because what
 * the verifier knows of each stack slot multiplies the paths that it must follow; of a map's value it knows nothing. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct workN);
} workN SEC(".maps");

static __always_inline struct workN *this_workN(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&workN, &zero);
}
