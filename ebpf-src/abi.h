/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * The layouts that the programs and user space share: every byte of every map.
 *
 * Addresses and ports in keys are in network order, everything else is in host order. All padding is explicit and
 * zero. A change of any size or meaning below is a new DETOUR_SCHEMA. loader/src/dnat/abi.rs is the other side; a test
 * compares the two through the BTF of elf/abi.bpf.o.
 */
#ifndef DETOUR_ABI_H
#define DETOUR_ABI_H

#include "uapi.h"

#define DETOUR_SCHEMA 4

#define ABI_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has changed its size")

/* ---- flows --------------------------------------------------------------------------------------------------------
 */

/* Which way a packet goes. It is a part of every key: both directions of a flow live in one index. */
enum dir {
	DIR_FORWARD = 0, /* client to the original destination, as it arrives */
	DIR_REVERSE = 1, /* server to the client, as the server sends it */
};

typedef __be32 ip4;
typedef struct {
	__be32 word[4];
} ip6;

/* One direction of a flow as it is on the wire before we rewrite it. ICMP echo: the identifier is the client's port
 * (sport forward, dport reverse), the other port is 0. */
struct key4 {
	ip4 src;
	ip4 dst;
	__be16 sport;
	__be16 dport;
	__u8 proto; /* IPPROTO_* */
	__u8 dir;   /* enum dir */
	__u16 pad;
} __attribute__((aligned(8)));
ABI_SIZE(struct key4, 16);

struct key6 {
	ip6 src;
	ip6 dst;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 dir;
	__u16 pad;
} __attribute__((aligned(8)));
ABI_SIZE(struct key6, 40);

/* How keys are compared, and best written: what was stored in pieces a processor cannot read whole before all of it has
 * reached its cache. */
typedef __u64 __attribute__((may_alias)) key_word;

static inline __attribute__((always_inline)) __u64 both_halves(__u32 first, __u32 second)
{
	union {
		__u32 half[2];
		__u64 word;
	} whole = {{first, second}};

	return whole.word;
}

/* Keys in idx4 and idx6 (index.h). */
typedef struct key4 index4;
typedef __u64 index6;

/* Key of the hash that makes index6 of key6: a constant and a factor for each 32 bits, twice. The programs draw it when
 * the first flow opens; then it lives as long as the map. */
#define SECRET_WORDS (2 * (1 + sizeof(struct key6) / 4))
struct secret {
	struct bpf_spin_lock lock; /* decides whose draw counts */
	__u32 drawn;               /* 1: no word changes any more */
	__u64 words[SECRET_WORDS];
};
ABI_SIZE(struct secret, 184);

enum flow_state {
	FLOW_FREE = 0,      /* nobody's; keys are leftovers */
	FLOW_OPENING = 1,   /* half-open: the client spoke */
	FLOW_ANSWERED = 2,  /* half-open: the server answered, the client has not shown that it heard it */
	FLOW_MOVED = 3,     /* half-open slot whose flow now lives in a confirmed slot; still right for a late reader */
	FLOW_TAKEN = 4,     /* confirmed slot that one CPU is filling */
	FLOW_CONFIRMED = 5, /* the client acknowledged what it was sent */
	FLOW_CLOSING = 6,   /* confirmed TCP after a FIN from both sides, or a RST */
	FLOW_ENDING = 7,    /* its keys leave the index; found until they have, so that nobody claims them meanwhile */
};

/* Set when a flow is opened. */
enum flow_marks {
	MARK_DIRECT = 1 << 0,     /* addressed to the server itself: tracked so that it owns its tuple */
	MARK_PICKED_UP = 1 << 1,  /* opened in mid-stream */
	MARK_ANY_SOURCE = 1 << 2, /* UDP, the server is an address of ours: it may answer from another one */
	MARK_MASQUERADE = 1 << 3, /* the server sees us as its client; both keys are DIR_FORWARD: so they arrive */
};

#define RULE_NONE 0xffff

/* A slot: all there is to know about one flow. The first cfg.cpus * cfg.half_slots4 slots are rings of half-open flows,
 * one per CPU, the others are confirmed flows. What is rewritten follows from the keys:
 * forward: dst:dport becomes rev.src:rev.sport and sport becomes rev.dport; reverse: src:sport becomes
 * fwd.dst:fwd.dport and dport becomes fwd.sport. */
struct flow4 {
	struct bpf_spin_lock lock; /* decides who takes or moves the slot; readers do without. User space reads 0 */
	__u32 generation;          /* + 1 with each tenant; unchanged after reading means that one tenant was read */
	struct key4 fwd;           /* DIR_FORWARD */
	struct key4 rev;           /* DIR_REVERSE */
	__u8 state;                /* enum flow_state */
	__u8 marks;                /* enum flow_marks */
	__u16 rule;                /* index in rules.actions of that generation, or RULE_NONE */
	__u32 rules_generation;    /* rules.generation when it was opened */
	__u32 first;               /* tick of the first packet; in state FLOW_MOVED the slot where the flow lives now */
	__u32 last;                /* tick of the newest packet, either direction */
	__u32 expect;              /* TCP: the acknowledgement number that proves the client heard the server */
	__u8 closed[2];            /* by enum dir; TCP: FIN and RST flags seen from that side */
	__u16 pad;
	__u64 packets[2]; /* by enum dir */
	__u64 bytes[2];   /* by enum dir; whole frames as the program saw them (a GSO packet is one) */
};
ABI_SIZE(struct flow4, 96);

struct flow6 {
	struct bpf_spin_lock lock;
	__u32 generation;
	struct key6 fwd;
	struct key6 rev;
	__u8 state;
	__u8 marks;
	__u16 rule;
	__u32 rules_generation;
	__u32 first;
	__u32 last;
	__u32 expect;
	__u8 closed[2];
	__u16 pad;
	__u64 packets[2];
	__u64 bytes[2];
};
ABI_SIZE(struct flow6, 144);

/* Where this CPU goes on: in its ring of half-open slots, and in the confirmed slots. */
struct hands {
	__u32 half;      /* 0 .. half_slots4 - 1 */
	__u32 confirmed; /* 0 .. confirmed_slots4 - 1, from where this CPU's part begins */
};
ABI_SIZE(struct hands, 8);

/* Value of local4 and local6: what an address is to us. */
enum local_flags {
	LOCAL_OWN = 1 << 0,       /* an address of this machine, on any device: never redirected */
	LOCAL_TARGET = 1 << 1,    /* a rule sends traffic here: direct flows to it must own their tuple */
	LOCAL_BROADCAST = 1 << 2, /* the broadcast address of one of our networks */
};

/* ---- fragments -----------------------------------------------------------------------------------------------------
 */

/* What the fragments of one packet have in common, as on the wire. IPv4 addresses are written as ::ffff:a.b.c.d. */
struct frag_key {
	__u8 src[16];
	__u8 dst[16];
	__u32 id; /* as on the wire; 16 bits in IPv4 */
	__u8 proto;
	__u8 dir; /* enum dir */
	__u16 pad;
};
ABI_SIZE(struct frag_key, 40);

/* What became of the first one. */
struct frag {
	__u8 addr[16];    /* the destination that it has now, in reverse the source */
	__u8 source[16];  /* of a masqueraded flow, the source as well */
	__u32 seen;       /* tick */
	__u8 dropped;     /* 1: all of them are */
	__u8 masqueraded; /* 1: sent on, through the device it came from */
	__u16 pad;
};
ABI_SIZE(struct frag, 40);

/* ---- configuration: `const volatile struct cfg cfg` in .rodata, frozen before the programs are loaded ---------------
 */

enum cfg_flags {
	CFG_PICKUP4 = 1 << 0,      /* a TCP packet without flow opens one: only where the device does not forward */
	CFG_SYN_TRACKED4 = 1 << 1, /* each SYN to a target address was seen: a SYN-ACK without flow is dropped */
	CFG_MONITOR = 1 << 6,      /* nothing is translated, dropped or refused, everything is recorded */
	CFG_SEALED = 1 << 2,       /* what is neither translated nor for this machine is dropped at ingress */
	/* What becomes of new flows that find no room. Without any of the three they are kept half-open. */
	CFG_FULL_DROP = 1 << 3,
	CFG_FULL_REJECT = 1 << 4,
	CFG_FULL_PASS = 1 << 5,
	CFG_VLAN = 1 << 8,     /* tagged frames are served, too */
	CFG_LOOPBACK = 1 << 9, /* the device is lo: what arrives is what left, and its source is always ours */
	CFG_PICKUP6 = 1 << 16, /* the first two for IPv6 */
	CFG_SYN_TRACKED6 = 1 << 17,
};

/* A tick is 2^tick_shift jiffies. User space computes the present tick from the monotonic clock:
 * (2^32 - 300 * hz + CLOCK_MONOTONIC seconds * hz) >> tick_shift, all in 64 bits, then the low 32 bits. */
struct cfg {
	__u32 schema; /* DETOUR_SCHEMA */
	__u32 flags;  /* enum cfg_flags */
	__u32 l2_len; /* bytes before the IP header, tags not counted: 14, or 0 on layer-3 devices */
	__u32 hz;     /* jiffies a second */
	__u32 tick_shift;
	__u32 cpus;             /* highest possible CPU number + 1 */
	__u32 half_slots4;      /* half-open slots per CPU */
	__u32 confirmed_slots4; /* slots4 has cpus * half_slots4 + confirmed_slots4 entries, idx4 twice that and 1024 */
	__u32 half_slots6;      /* the same for IPv6 */
	__u32 confirmed_slots6;
	__u32 asked_rows;      /* rows of `asked` that one client may own */
	__u32 tcp_established; /* idle times, in ticks */
	__u32 tcp_transitory;
	__u32 udp;
	__u32 icmp;
	__u32 port_first;  /* where a client port is looked for when its own is taken; host order */
	__u32 port_count;  /* a power of two is not needed; at least 16 */
	__u32 ip_frag;     /* how long a first fragment is remembered, in ticks */
	__u32 generic;     /* idle time of SCTP and of what has no ports, in ticks */
	__u32 client_new;  /* flows that one client may open in a tick; 0: any number */
	__u32 client_live; /* confirmed flows that one client may have; 0: any number */
	__u32 pad;
};
ABI_SIZE(struct cfg, 88);

/* ---- rules: one array value, so that a reload is one pointer -------------------------------------------------------
 */

#define RULES_MAX    1024
#define RULE_WORDS   16 /* RULES_MAX / 64 */
#define RULE_BOUNDS  2048
#define RULE_VECTORS 4096
#define RULE_TEXT    65536

/* Class of a port dimension value: class << 16 | port. Class 0 holds all other protocols, and the low bits are the
 * protocol number then (ICMP echo: 1). */
enum rule_class {
	CLASS_OTHER = 0,
	CLASS_TCP = 1,
	CLASS_UDP = 2,
	CLASS_SCTP = 3,
};

/* Entry i covers bound[i] up to, not including, bound[i + 1]; bound[0] is 0, bounds increase strictly, unused entries
 * are 0. vec[i] is the number of the vector of rules that match there. Addresses as host-order values. */
struct rule_dim4 {
	__u32 bound[RULE_BOUNDS];
	__u16 vec[RULE_BOUNDS];
};
ABI_SIZE(struct rule_dim4, 12288);

/* The same for 128-bit values: bound i is hi[i] << 64 | lo[i]. */
struct rule_dim6 {
	__u64 hi[RULE_BOUNDS];
	__u64 lo[RULE_BOUNDS];
	__u16 vec[RULE_BOUNDS];
};
ABI_SIZE(struct rule_dim6, 36864);

enum verdict {
	VERDICT_NONE = 0, /* no rule matched: the packet passes */
	VERDICT_DNAT = 1,
	VERDICT_ACCEPT = 2,
	VERDICT_DROP = 3,
	VERDICT_REJECT = 4,
};

enum action_flags {
	ACTION_MASQUERADE = 1 << 0, /* the source is rewritten, too */
};

/* What a refused client is told; all others are the code of an ICMP destination unreachable + 1. */
enum reject {
	REJECT_NONE = 0, /* the rule is not about this family */
	REJECT_RESET = 255,
};

struct rule_action {
	__u8 verdict; /* enum verdict */
	__u8 flags;   /* enum action_flags */
	__be16 port;  /* 0 keeps the destination port */
	ip4 addr4;    /* 0: this rule has no IPv4 target, IPv4 packets pass */
	ip6 addr6;    /* the same for IPv6 */
	__u32 line;   /* in the rules file, from 1; 0 when there is none */
	__u8 reject4; /* enum reject */
	__u8 reject6;
	__u16 pad;
};
ABI_SIZE(struct rule_action, 32);

/* A packet's rule: the four vectors of its dimensions and-ed word by word; the lowest bit set is the first rule that
 * matches. Vector 0 is all zero. */
struct rules {
	__u32 count;
	__u32 generation;
	ip6 masquerade6; /* the device's own addresses, which servers see as their client where a rule masquerades */
	ip4 masquerade4;
	__u32 pad1;
	struct rule_dim4 saddr4;
	struct rule_dim4 daddr4;
	struct rule_dim4 sport;
	struct rule_dim4 dport;
	struct rule_dim6 saddr6;
	struct rule_dim6 daddr6;
	__u64 vectors[RULE_VECTORS][RULE_WORDS];
	struct rule_action actions[RULES_MAX];
	__u32 text_len;
	__u32 pad;
	char text[RULE_TEXT]; /* canonical text of the rules, one a line */
};
ABI_SIZE(struct rules, 745512);

/* Per rule and CPU: the packets that this rule decided, that is those that open something (as nft counts in a nat
 * chain), not those that follow. */
struct rule_stats {
	__u64 packets;
	__u64 bytes;
};
ABI_SIZE(struct rule_stats, 16);

/* ---- asked: what clients wanted ------------------------------------------------------------------------------------
 */

/* IPv4 addresses are written as ::ffff:a.b.c.d. ICMP echo has dport 0. */
struct asked_key {
	__u8 client[16];
	__u8 dst[16];
	__be16 dport;
	__u8 proto;
	__u8 pad[5];
};
ABI_SIZE(struct asked_key, 40);

/* Is anyone listening where the packet goes in the end? */
enum served {
	SERVED_UNKNOWN = 0, /* not on this machine, or not TCP or UDP */
	SERVED_YES = 1,
	SERVED_NO = 2,
};

struct asked {
	__u64 packets; /* packets that open something or match nothing; what follows in a flow is counted there */
	__u64 bytes;
	__u32 first; /* ticks */
	__u32 last;
	/* These two are written and read as one word: two CPUs may have different rules. */
	__u32 rules_generation;
	__u32 settled; /* in this tick each packet of the row passes, as long as the rules are of that generation */
	__u16 rule;    /* of the newest packet; index in rules.actions of that generation, or RULE_NONE */
	__u8 verdict;  /* enum verdict */
	__u8 reason;   /* enum reason: REASON_NONE when translated */
	__u8 served;   /* enum served, of the newest packet */
	__u8 pad[3];
};
_Static_assert(!(__builtin_offsetof(struct asked, rules_generation) & 7), "not one word");
_Static_assert(__builtin_offsetof(struct asked, settled) == __builtin_offsetof(struct asked, rules_generation) + 4,
               "not one word");
ABI_SIZE(struct asked, 40);

/* Key of asked_clients: the client's address, 16 bytes as above. At the address ::, which no client has, stands how
 * many rows and clients there are. */
struct asked_client {
	__u32 rows;  /* rows of `asked` this client owns */
	__u32 known; /* 1: it has confirmed a flow, so that it is there and may use what is kept free; of ::, clients */
	__u64 packets; /* what did not get a row of its own: `others` */
	__u64 bytes;
	__u32 first; /* ticks of others; 0 when there were none */
	__u32 last;
};
ABI_SIZE(struct asked_client, 32);

/* Per CPU, one entry: packets of clients that are not even in asked_clients. */
struct asked_others {
	__u64 packets;
	__u64 bytes;
};
ABI_SIZE(struct asked_others, 16);

/* Value of `clients`. Key: a client's address, 16 bytes as above; of IPv6 only the first eight, the rest 0. */
struct client {
	__u32 tick;   /* of the newest flow */
	__u32 opened; /* flows in that tick */
	__u32 live;   /* confirmed flows; those that wait for somebody who needs their slot count */
	__u32 pad;
};
ABI_SIZE(struct client, 16);

/* ---- reasons: why a packet was left alone (index of the per-CPU counters in `reasons`) ------------------------------
 */

enum reason {
	REASON_NONE = 0,
	REASON_NOT_IP = 1,     /* ARP and other non-IP protocols */
	REASON_EXTENSION = 2,  /* IPv6: too many extension headers, too long, or on its way to another hop */
	REASON_VLAN = 3,       /* tagged frame on the parent device, without CFG_VLAN */
	REASON_NOT_FOR_US = 4, /* broadcast, multicast or other host by link-layer address */
	REASON_MALFORMED = 5,  /* headers that contradict themselves or the packet's length */
	REASON_FRAGMENT = 6,   /* later fragment of a packet that passed, or of what is not translated */
	REASON_PROTOCOL = 7,   /* its checksum covers the addresses (protocols.h), or no target in this family */
	REASON_ICMP = 8,       /* ICMP other than an echo request in, an echo reply out, an error about a flow */
	REASON_SOURCE = 9,     /* the source is ours, or no address a client can have */
	REASON_OWN = 10,       /* addressed to this machine */
	REASON_SPECIAL = 11,   /* broadcast, multicast, link-local, loopback or unspecified destination */
	REASON_DHCP = 12,
	REASON_NO_FLOW = 13,     /* TCP that opens nothing and belongs to no flow */
	REASON_NO_RULE = 14,     /* opens something, no rule matches */
	REASON_ACCEPT = 15,      /* a rule says accept */
	REASON_REPLY = 16,       /* arriving answer of a server behind this device: rewritten when it leaves */
	REASON_OUT_NO_FLOW = 17, /* leaving, belongs to no flow */
	REASON_DIRECT = 18,      /* direct flow to a target that could not be tracked: passed */
	/* From 19 to 23 the packet is dropped; for NO_PORT and NO_SPACE cfg.flags may say otherwise. */
	REASON_DROP = 19,          /* a rule says so */
	REASON_SYN_ACK = 20,       /* a SYN-ACK that would leave untranslated */
	REASON_NO_PORT = 21,       /* no free client port towards this server, or its protocol has none */
	REASON_NO_SPACE = 22,      /* the index or this CPU's ring is not usable */
	REASON_REWRITE = 23,       /* the kernel refused a part of the rewriting */
	REASON_FULL = 24,          /* translated, stays half-open: no confirmed slot was free */
	REASON_FRAGMENT_LOST = 25, /* dropped: later fragment, and the first one has not been seen */
	REASON_FRAGMENT_DROP = 26, /* dropped: later fragment, as the first one was */
	REASON_MONITOR = 27,       /* passed: nothing is translated on this device, only recorded */
	REASON_SEALED = 28,        /* dropped: neither translated nor for us, on a sealed device */
	REASON_REJECT = 29,        /* dropped: a rule rejects it, and the client was told */
	REASON_SILENT = 30,        /* dropped: a rule rejects it, but there was nobody to tell, or too many */
	/* New flows without room, like NO_PORT and NO_SPACE: what becomes of them is in cfg.flags. */
	REASON_NO_ROOM = 31,     /* all confirmed slots are in use */
	REASON_CLIENT_NEW = 32,  /* the client opened cfg.client_new in this tick */
	REASON_CLIENT_LIVE = 33, /* the client has cfg.client_live */
	REASON_COUNT = 34,
};
#define REASONS_MAX 64 /* entries of `reasons`: room for later versions */

#include "abi_events.h"

/* ---- record: written by the loader for each instance (also of foreign objects), read by the next command ------------
 */

#define RECORD_PROGS 16

struct record_prog {
	__u32 id;
	__u32 parent; /* TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS or TC_H_MIN_EGRESS) */
	__u16 prio;
	__u16 protocol; /* ethertype in host order; 0: every frame */
	__u32 handle;
	__u8 tag[8];
	char name[16];
};
ABI_SIZE(struct record_prog, 40);

struct record {
	__u32 schema; /* 1: of the record, so that any version can tell whose it is */
	__u32 ifindex;
	__u8 object_sha256[32];
	char ifname[16];
	char name[16]; /* of the instance */
	__u16 count;   /* of progs */
	__u16 flags;   /* 1: nothing is pinned, it is found by its filters */
	__u32 chain;   /* of all their filters */
	struct record_prog progs[RECORD_PROGS];
};
ABI_SIZE(struct record, 720);

#endif
