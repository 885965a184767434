// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The structs of ebpf-src/abi.h, offset by offset: the other side of every map.
//!
//! Addresses and ports in keys are in network order in memory, everything else is in host order. [`LAYOUTS`]
//! lists all of it for the test that compares it with the BTF of the object.

use super::wire::{at, put, shared_struct, Be16, Be32, Layout, Shared};

shared_struct! {
    /// One IPv4 direction of a flow as it is on the wire before it is rewritten.
    Key4, "key4", 16, {
        /// Source address.
        src: Be32 = 0,
        /// Destination address.
        dst: Be32 = 4,
        /// Source port; of an ICMP echo request the identifier.
        sport: Be16 = 8,
        /// Destination port; of an ICMP echo reply the identifier.
        dport: Be16 = 10,
        /// IPPROTO_*.
        proto: u8 = 12,
        /// 0 client to original destination, 1 server to client.
        dir: u8 = 13,
    }
}

shared_struct! {
    /// As [`Key4`], for IPv6.
    Key6, "key6", 40, {
        /// Source address.
        src: [u8; 16] = 0,
        /// Destination address.
        dst: [u8; 16] = 16,
        /// Source port.
        sport: Be16 = 32,
        /// Destination port.
        dport: Be16 = 34,
        /// IPPROTO_*.
        proto: u8 = 36,
        /// As in `key4`.
        dir: u8 = 37,
    }
}

shared_struct! {
    /// A slot of `slots4`: one flow.
    Flow4, "flow4", 96, {
        /// + 1 with each tenant of the slot.
        generation: u32 = 4,
        /// Client to original destination.
        fwd: Key4 = 8,
        /// Server to client.
        rev: Key4 = 24,
        /// `enum flow_state`.
        state: u8 = 40,
        /// `enum flow_marks`.
        marks: u8 = 41,
        /// Index of the rule, or [`RULE_NONE`](super::codes::RULE_NONE).
        rule: u16 = 42,
        /// Generation of the rules that the index belongs to.
        rules_generation: u32 = 44,
        /// Tick of the first packet.
        first: u32 = 48,
        /// Tick of the newest packet.
        last: u32 = 52,
        /// The TCP acknowledgement number that proves the client heard the server.
        expect: u32 = 56,
        /// TCP FIN and RST flags seen from the client, and from the server.
        closed: [u8; 2] = 60,
        /// Forward and reverse.
        packets: [u64; 2] = 64,
        /// Forward and reverse, whole frames.
        bytes: [u64; 2] = 80,
    }
}

shared_struct! {
    /// A slot of `slots6`, as [`Flow4`].
    Flow6, "flow6", 144, {
        /// + 1 with each tenant of the slot.
        generation: u32 = 4,
        /// Client to original destination.
        fwd: Key6 = 8,
        /// Server to client.
        rev: Key6 = 48,
        /// `enum flow_state`.
        state: u8 = 88,
        /// `enum flow_marks`.
        marks: u8 = 89,
        /// Index of the rule, or [`RULE_NONE`](super::codes::RULE_NONE).
        rule: u16 = 90,
        /// Generation of the rules that the index belongs to.
        rules_generation: u32 = 92,
        /// Tick of the first packet.
        first: u32 = 96,
        /// Tick of the newest packet.
        last: u32 = 100,
        /// The TCP acknowledgement number that proves the client heard the server.
        expect: u32 = 104,
        /// TCP FIN and RST flags seen from the client, and from the server.
        closed: [u8; 2] = 108,
        /// Forward and reverse.
        packets: [u64; 2] = 112,
        /// Forward and reverse, whole frames.
        bytes: [u64; 2] = 128,
    }
}

shared_struct! {
    /// The one element of `secret`: what the keys of `idx6` are hashed with.
    Secret, "secret", 184, {
        /// 1: no word changes any more.
        drawn: u32 = 4,
        /// Of each half of the hash a constant and a factor for each 32 bits of the key.
        words: [u64; 22] = 8,
    }
}

shared_struct! {
    /// Frozen configuration in `.rodata`.
    Cfg, "cfg", 88, {
        /// [`SCHEMA`](super::codes::SCHEMA).
        schema: u32 = 0,
        /// `enum cfg_flags`.
        flags: u32 = 4,
        /// Bytes before the IP header: 14, or 0 on layer-3 devices.
        l2_len: u32 = 8,
        /// Jiffies a second.
        hz: u32 = 12,
        /// A tick is 2^this jiffies.
        tick_shift: u32 = 16,
        /// Highest possible CPU number + 1.
        cpus: u32 = 20,
        /// Half-open IPv4 slots of each CPU.
        half_slots4: u32 = 24,
        /// Confirmed IPv4 slots.
        confirmed_slots4: u32 = 28,
        /// Half-open IPv6 slots of each CPU.
        half_slots6: u32 = 32,
        /// Confirmed IPv6 slots.
        confirmed_slots6: u32 = 36,
        /// Rows of `asked` that one client may own.
        asked_rows: u32 = 40,
        /// Idle time of established TCP, in ticks.
        tcp_established: u32 = 44,
        /// Idle time of opening and closing TCP, in ticks.
        tcp_transitory: u32 = 48,
        /// Idle time of UDP, in ticks.
        udp: u32 = 52,
        /// Idle time of ICMP echo, in ticks.
        icmp: u32 = 56,
        /// Where a free client port is looked for.
        port_first: u32 = 60,
        /// How many ports there are from `port_first` on.
        port_count: u32 = 64,
        /// How long a first fragment is remembered, in ticks.
        ip_frag: u32 = 68,
        /// Idle time of SCTP and of protocols without ports, in ticks.
        generic: u32 = 72,
        /// Flows that one client may open in a tick; 0: any number.
        client_new: u32 = 76,
        /// Confirmed flows that one client may have; 0: any number.
        client_live: u32 = 80,
    }
}

shared_struct! {
    /// What the fragments of one packet have in common; IPv4 as ::ffff:a.b.c.d.
    FragKey, "frag_key", 40, {
        /// Source, as on the wire.
        src: [u8; 16] = 0,
        /// Destination, as on the wire.
        dst: [u8; 16] = 16,
        /// Identification, as on the wire.
        id: [u8; 4] = 32,
        /// IPPROTO_*.
        proto: u8 = 36,
        /// As in `key4`.
        dir: u8 = 37,
    }
}

shared_struct! {
    /// What became of the first fragment.
    Frag, "frag", 40, {
        /// The address that it was given.
        addr: [u8; 16] = 0,
        /// Of a masqueraded flow, the source that it was given.
        source: [u8; 16] = 16,
        /// Tick.
        seen: u32 = 32,
        /// 1: all of them are dropped.
        dropped: u8 = 36,
        /// 1: sent on, through the device it came from.
        masqueraded: u8 = 37,
    }
}

shared_struct! {
    /// What a rule does; `actions[i]` of the table.
    Action, "rule_action", 32, {
        /// `enum verdict`.
        verdict: u8 = 0,
        /// `enum action_flags`.
        flags: u8 = 1,
        /// New destination port, 0 keeps it.
        port: Be16 = 2,
        /// New IPv4 destination; 0: IPv4 packets pass.
        addr4: Be32 = 4,
        /// New IPv6 destination; ::: IPv6 packets pass.
        addr6: [u8; 16] = 8,
        /// Line of the rule in its file, from 1.
        line: u32 = 24,
        /// `enum reject`, for IPv4 clients.
        reject4: u8 = 28,
        /// `enum reject`, for IPv6 clients.
        reject6: u8 = 29,
    }
}

shared_struct! {
    /// Packets that a rule decided, of one CPU.
    RuleStats, "rule_stats", 16, {
        /// Packets that open something.
        packets: u64 = 0,
        /// Their bytes.
        bytes: u64 = 8,
    }
}

shared_struct! {
    /// Key of `asked`; IPv4 as ::ffff:a.b.c.d.
    AskedKey, "asked_key", 40, {
        /// Who asked.
        client: [u8; 16] = 0,
        /// For which address.
        dst: [u8; 16] = 16,
        /// And which port; 0 of ICMP echo.
        dport: Be16 = 32,
        /// IPPROTO_*.
        proto: u8 = 34,
    }
}

shared_struct! {
    /// Value of `asked`.
    AskedRow, "asked", 40, {
        /// Packets that open something or match nothing.
        packets: u64 = 0,
        /// Their bytes.
        bytes: u64 = 8,
        /// Tick of the first.
        first: u32 = 16,
        /// Tick of the newest.
        last: u32 = 20,
        /// Generation of the rules that `rule` belongs to.
        rules_generation: u32 = 24,
        /// The tick in which the programs need not ask these rules again.
        settled: u32 = 28,
        /// Rule of the newest packet, or [`RULE_NONE`](super::codes::RULE_NONE).
        rule: u16 = 32,
        /// `enum verdict`.
        verdict: u8 = 34,
        /// `enum reason`.
        reason: u8 = 35,
        /// `enum served`.
        served: u8 = 36,
    }
}

shared_struct! {
    /// Value of `asked_clients`, whose key is an address as in [`AskedKey`].
    AskedClient, "asked_client", 32, {
        /// Rows of `asked` that this client owns; at the address `::` all of them.
        rows: u32 = 0,
        /// 1 when it has confirmed a flow; at the address `::` how many clients there are.
        known: u32 = 4,
        /// Packets that got no row of their own.
        packets: u64 = 8,
        /// Their bytes.
        bytes: u64 = 16,
        /// Tick of the first of them; 0 when there is none.
        first: u32 = 24,
        /// Tick of the newest of them.
        last: u32 = 28,
    }
}

shared_struct! {
    /// Packets of clients that are not even in `asked_clients`, of one CPU.
    AskedOthers, "asked_others", 16, {
        /// Packets.
        packets: u64 = 0,
        /// Their bytes.
        bytes: u64 = 8,
    }
}

shared_struct! {
    /// The one element of `event_control`: what a reader wants, and until when.
    EventControl, "event_control", 8, {
        /// 1 << `enum event_kind`.
        wanted: u32 = 0,
        /// Tick.
        until: u32 = 4,
    }
}

shared_struct! {
    /// `event_state` of one CPU.
    EventState, "event_state", 16, {
        /// Events that found no room.
        lost: u64 = 0,
        /// Tick of the newest `EVENT_FULL`.
        full: u32 = 8,
        /// DNS answers that were not told, to leave room for the rest.
        dns: u32 = 12,
    }
}

shared_struct! {
    /// A record of the ring buffer; addresses as in [`AskedKey`].
    EventRecord, "event", 112, {
        /// `enum event_kind`.
        kind: u32 = 0,
        /// Tick.
        tick: u32 = 4,
        /// Device.
        ifindex: u32 = 8,
        /// Generation of the rules that `rule` belongs to.
        rules_generation: u32 = 12,
        /// Who asked.
        client: [u8; 16] = 16,
        /// For which address.
        dst: [u8; 16] = 32,
        /// Who answers; 0 where nobody does.
        server: [u8; 16] = 48,
        /// The client's port.
        client_port: Be16 = 64,
        /// The port that was asked for.
        dst_port: Be16 = 66,
        /// The server's.
        server_port: Be16 = 68,
        /// The client's, as the server sees it.
        server_client_port: Be16 = 70,
        /// Index of the rule, or [`RULE_NONE`](super::codes::RULE_NONE).
        rule: u16 = 72,
        /// IPPROTO_*.
        proto: u8 = 74,
        /// `enum reason`.
        reason: u8 = 75,
        /// `enum verdict`, of what opens a flow or has none.
        verdict: u8 = 76,
        /// `enum served`, likewise.
        served: u8 = 77,
        /// From the client, and to it.
        packets: [u64; 2] = 80,
        /// Likewise.
        bytes: [u64; 2] = 96,
    }
}

/// EVENT_SNAP: bytes of a packet that are kept.
pub const EVENT_SNAP: usize = 1536;
/// `struct event_packet`.
pub const EVENT_PACKET: Layout = Layout {
    name: "event_packet",
    size: 1672,
    fields: &[
        ("event", 0, 112),
        ("time", 112, 8),
        ("length", 120, 4),
        ("kept", 124, 4),
        ("stage", 128, 1),
        ("data", 136, EVENT_SNAP),
    ],
};

shared_struct! {
    /// Value of `clients`, whose key is an address as in [`AskedKey`], of IPv6 only its first half.
    Client, "client", 16, {
        /// Tick of the newest flow.
        tick: u32 = 0,
        /// Flows opened in that tick.
        opened: u32 = 4,
        /// Confirmed flows.
        live: u32 = 8,
    }
}

/// RULES_MAX.
pub const RULES_MAX: usize = 1024;
/// RULE_WORDS: 64-bit words of a vector.
pub const RULE_WORDS: usize = 16;
/// RULE_BOUNDS: intervals of a dimension.
pub const RULE_BOUNDS: usize = 2048;
/// RULE_VECTORS.
pub const RULE_VECTORS: usize = 4096;
/// RULE_TEXT: bytes of text.
pub const RULE_TEXT: usize = 65536;

/// `struct rule_dim4`: host-order bounds and the vector of each interval.
pub const RULE_DIM4: Layout =
    Layout { name: "rule_dim4", size: 12288, fields: &[("bound", 0, 8192), ("vec", 8192, 4096)] };
/// `struct rule_dim6`.
pub const RULE_DIM6: Layout = Layout {
    name: "rule_dim6",
    size: 36864,
    fields: &[("hi", 0, 16384), ("lo", 16384, 16384), ("vec", 32768, 4096)],
};
/// `struct rules`: the whole rule table, one value of a map.
pub const RULES: Layout = Layout {
    name: "rules",
    size: 745_512,
    fields: &[
        ("count", 0, 4),
        ("generation", 4, 4),
        ("masquerade6", 8, 16),
        ("masquerade4", 24, 4),
        ("saddr4", 32, 12288),
        ("daddr4", 12320, 12288),
        ("sport", 24608, 12288),
        ("dport", 36896, 12288),
        ("saddr6", 49184, 36864),
        ("daddr6", 86048, 36864),
        ("vectors", 122_912, 524_288),
        ("actions", 647_200, 32768),
        ("text_len", 679_968, 4),
        ("text", 679_976, 65536),
    ],
};

/// Every struct that the programs and this program share; `struct record` is read in `load`.
pub const LAYOUTS: [Layout; 22] = [
    Key4::LAYOUT,
    Key6::LAYOUT,
    Flow4::LAYOUT,
    Flow6::LAYOUT,
    Secret::LAYOUT,
    FragKey::LAYOUT,
    Frag::LAYOUT,
    Cfg::LAYOUT,
    Action::LAYOUT,
    RuleStats::LAYOUT,
    AskedKey::LAYOUT,
    AskedRow::LAYOUT,
    AskedClient::LAYOUT,
    AskedOthers::LAYOUT,
    EventControl::LAYOUT,
    EventState::LAYOUT,
    EventRecord::LAYOUT,
    EVENT_PACKET,
    Client::LAYOUT,
    RULE_DIM4,
    RULE_DIM6,
    RULES,
];
