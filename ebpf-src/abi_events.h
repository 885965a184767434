/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* What the programs tell while somebody listens: the records of the ring buffer. A part of abi.h, which includes it. */
#ifndef DETOUR_ABI_EVENTS_H
#define DETOUR_ABI_EVENTS_H

enum event_kind {
	EVENT_FLOW_NEW = 1,
	EVENT_FLOW_CONFIRMED = 2,
	EVENT_FLOW_CLOSED = 3, /* FIN from both sides, or RST; a flow that only falls silent has no event */
	EVENT_REFUSED = 4,     /* reason says why */
	EVENT_DENIED = 5,      /* a rule's drop or reject */
	EVENT_FULL = 6,        /* no confirmed slot is free; once a tick and CPU */
	EVENT_ASKED = 7,       /* something new was asked for that no rule translates */
	EVENT_PACKET = 8,      /* struct event_packet: a packet, at one of enum packet_stage */
	EVENT_DNS = 9,         /* struct event_packet: a datagram that leaves from port 53 */
};

/* What a reader wants. It writes it anew every few seconds: a reader that was killed costs nothing after that. */
struct event_control {
	__u32 wanted; /* 1 << enum event_kind */
	__u32 until;  /* tick */
};
ABI_SIZE(struct event_control, 8);

/* Of each CPU. */
struct event_state {
	__u64 lost; /* events that found no room in the ring buffer */
	__u32 full; /* tick of the newest EVENT_FULL */
	__u32 dns;  /* DNS answers that were not told, to leave room for the rest */
};
ABI_SIZE(struct event_state, 16);

struct event {
	__u32 kind; /* enum event_kind */
	__u32 tick;
	__u32 ifindex;
	__u32 rules_generation;
	__u8 client[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 dst[16];
	__u8 server[16]; /* 0 where there is none */
	__be16 client_port;
	__be16 dst_port;
	__be16 server_port;
	__be16 server_client_port; /* the client's port as the server sees it */
	__u16 rule;
	__u8 proto;
	__u8 reason;  /* enum reason */
	__u8 verdict; /* enum verdict, of EVENT_FLOW_NEW, REFUSED, DENIED, ASKED and packets of no flow */
	__u8 served;  /* enum served, of the first four */
	__u8 pad[2];
	__u64 packets[2];
	__u64 bytes[2];
};
ABI_SIZE(struct event, 112);

#define EVENT_SNAP 1536

/* What a packet is. */
enum packet_stage {
	STAGE_IN = 0,      /* as it arrived */
	STAGE_IN_DONE = 1, /* translated, towards the server */
	STAGE_OUT = 2,     /* as the server sent it */
	STAGE_OUT_DONE = 3,
	/* As it arrived, belonging to no flow: event.rule, event.verdict and event.reason say why (a rule, a limit, for
	 * want of room). */
	STAGE_DENIED = 4, /* dropped or rejected; or a later fragment of such a one */
	STAGE_PASSED = 5, /* passed, as a monitor does, or where there is no room for it */
};

struct event_packet {
	struct event event;
	__u64 time;   /* nanoseconds since the machine started */
	__u32 length; /* of the packet */
	__u32 kept;   /* bytes of it here */
	__u8 stage;   /* enum packet_stage */
	__u8 pad[7];
	__u8 data[EVENT_SNAP]; /* the frame */
};
ABI_SIZE(struct event_packet, 1672);

#endif
