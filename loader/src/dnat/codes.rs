// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The numbers of ebpf-src/abi.h that stand for something, and what they are called in front of people.

macro_rules! enumerators {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: $type = $value;)*

        /// Every enumerator named here, for the comparison with the BTF of the object.
        pub const ENUMERATORS: &[(&str, u32)] = &[$((stringify!($name), $name as u32),)*];
    };
}

enumerators! {
    /// Nobody's slot.
    FLOW_FREE: u8 = 0;
    /// Half-open: the client spoke.
    FLOW_OPENING: u8 = 1;
    /// Half-open: the server answered.
    FLOW_ANSWERED: u8 = 2;
    /// A slot whose flow moved to a confirmed one.
    FLOW_MOVED: u8 = 3;
    /// A slot that is being filled.
    FLOW_TAKEN: u8 = 4;
    /// The client acknowledged what it was sent.
    FLOW_CONFIRMED: u8 = 5;
    /// TCP that ended, kept for late packets.
    FLOW_CLOSING: u8 = 6;
    /// A flow whose keys leave the index.
    FLOW_ENDING: u8 = 7;

    /// Addressed to the server itself: tracked so that it owns its tuple.
    MARK_DIRECT: u8 = 1 << 0;
    /// Opened in mid-stream.
    MARK_PICKED_UP: u8 = 1 << 1;
    /// UDP whose server is an address of ours: it may answer from another one.
    MARK_ANY_SOURCE: u8 = 1 << 2;
    /// The server sees one of our addresses as its client.
    MARK_MASQUERADE: u8 = 1 << 3;

    /// An address of this machine, on any device.
    LOCAL_OWN: u32 = 1 << 0;
    /// A rule sends traffic here.
    LOCAL_TARGET: u32 = 1 << 1;
    /// The broadcast address of one of our networks.
    LOCAL_BROADCAST: u32 = 1 << 2;

    /// A TCP packet without flow opens one.
    CFG_PICKUP4: u32 = 1 << 0;
    /// A SYN-ACK without flow is dropped.
    CFG_SYN_TRACKED4: u32 = 1 << 1;
    /// What is neither translated nor for this machine is dropped.
    CFG_SEALED: u32 = 1 << 2;
    /// New flows that find no room are dropped.
    CFG_FULL_DROP: u32 = 1 << 3;
    /// They are refused.
    CFG_FULL_REJECT: u32 = 1 << 4;
    /// They pass untranslated.
    CFG_FULL_PASS: u32 = 1 << 5;
    /// Nothing is translated, everything is recorded.
    CFG_MONITOR: u32 = 1 << 6;
    /// Tagged frames are served, too.
    CFG_VLAN: u32 = 1 << 8;
    /// The device is lo.
    CFG_LOOPBACK: u32 = 1 << 9;
    /// As `CFG_PICKUP4`, for IPv6.
    CFG_PICKUP6: u32 = 1 << 16;
    /// As `CFG_SYN_TRACKED4`, for IPv6.
    CFG_SYN_TRACKED6: u32 = 1 << 17;

    /// A flow was opened.
    EVENT_FLOW_NEW: u32 = 1;
    /// Its client heard the server.
    EVENT_FLOW_CONFIRMED: u32 = 2;
    /// It was closed by both sides or reset.
    EVENT_FLOW_CLOSED: u32 = 3;
    /// No flow could be opened.
    EVENT_REFUSED: u32 = 4;
    /// A rule drops or rejects.
    EVENT_DENIED: u32 = 5;
    /// No confirmed slot is free.
    EVENT_FULL: u32 = 6;
    /// Something new was asked for.
    EVENT_ASKED: u32 = 7;
    /// A packet.
    EVENT_PACKET: u32 = 8;
    /// A DNS answer.
    EVENT_DNS: u32 = 9;
    /// As the server sent it.
    STAGE_OUT: u8 = 2;
    /// The same translated, to the client.
    STAGE_OUT_DONE: u8 = 3;
    /// As it arrived, for a rule's `drop` or `reject`.
    STAGE_DENIED: u8 = 4;
    /// As it arrived, and passed: it has no flow.
    STAGE_PASSED: u8 = 5;

    /// Nobody knows whether anyone listens.
    SERVED_UNKNOWN: u8 = 0;
    /// Somebody listens.
    SERVED_YES: u8 = 1;
    /// Nobody listens.
    SERVED_NO: u8 = 2;

    /// Class of port values: neither TCP, UDP nor SCTP; the low bits are the protocol.
    CLASS_OTHER: u8 = 0;
    /// TCP ports.
    CLASS_TCP: u8 = 1;
    /// UDP ports.
    CLASS_UDP: u8 = 2;
    /// SCTP ports.
    CLASS_SCTP: u8 = 3;

    /// No rule matched: passed.
    VERDICT_NONE: u8 = 0;
    /// Rewritten.
    VERDICT_DNAT: u8 = 1;
    /// Passed.
    VERDICT_ACCEPT: u8 = 2;
    /// Thrown away.
    VERDICT_DROP: u8 = 3;
    /// Thrown away, and the client is told.
    VERDICT_REJECT: u8 = 4;

    /// A refusal that is not for clients of this family.
    REJECT_NONE: u8 = 0;
    /// Refused by a TCP RST; other numbers are ICMP codes + 1.
    REJECT_RESET: u8 = 255;

    /// The source is rewritten, too.
    ACTION_MASQUERADE: u8 = 1 << 0;
}

/// DETOUR_SCHEMA: a change of any size or meaning is a new one.
pub const SCHEMA: u32 = 4;
/// RULE_NONE, in place of the index of a rule.
pub const RULE_NONE: u16 = 0xffff;

/// `enum reason` by number: the name without `REASON_` in small letters, and what it means.
pub const REASONS: [(&str, &str); 34] = [
    ("none", "translated"),
    ("not_ip", "passed: neither IPv4 nor IPv6"),
    ("extension", "passed: IPv6 extension headers that cannot be read, or lead on to another hop"),
    ("vlan", "passed: VLAN-tagged frame, without --vlan any"),
    ("not_for_us", "passed: broadcast, multicast or another host's frame"),
    ("malformed", "passed: headers contradict themselves or the length"),
    ("fragment", "passed: later fragment of what passed or is not translated"),
    ("protocol", "passed: the protocol covers its addresses, or the rule has no target of the family"),
    ("icmp", "passed: ICMP other than echo, and errors about no flow of ours"),
    ("source", "passed: the source is ours or no client's"),
    ("own", "passed: addressed to this machine"),
    ("special", "passed: destination is broadcast, multicast, link-local or loopback"),
    ("dhcp", "passed: DHCP"),
    ("no_flow", "passed: TCP that opens nothing and belongs to no flow"),
    ("no_rule", "passed: no rule matches"),
    ("accept", "passed: a rule says accept"),
    ("reply", "passed: answer of a server behind this device"),
    ("out_no_flow", "passed: leaving, belongs to no flow"),
    ("direct", "passed: direct flow that could not be tracked"),
    ("drop", "dropped: a rule says so"),
    ("syn_ack", "dropped: SYN-ACK that would leave untranslated"),
    ("no_port", "not opened: no free client port towards this server, or a protocol without ports"),
    ("no_space", "not opened: no room for another flow"),
    ("rewrite", "dropped: the kernel refused a part of the rewriting"),
    ("full", "translated, half-open: no confirmed slot was free, or none for this client"),
    ("fragment_lost", "dropped: later fragment, and the first one has not been seen"),
    ("fragment_drop", "dropped: later fragment, as the first one was"),
    ("monitor", "passed: nothing is translated on this device, only recorded"),
    ("sealed", "dropped: neither translated nor for this machine"),
    ("reject", "refused: a rule says so"),
    ("silent", "dropped: a rule rejects it, but the client could not be told"),
    ("no_room", "not opened: all confirmed slots are in use"),
    ("client_new", "not opened: more new flows than one client may open in a second"),
    ("client_live", "not opened: as many confirmed flows as one client may have"),
];

/// Name and meaning of a reason; numbers of later versions have none.
pub fn reason(number: u8) -> Option<(&'static str, &'static str)> {
    REASONS.get(usize::from(number)).copied()
}

/// Whether anyone listens, of `enum served`; `None` where that is not known.
pub fn served(number: u8) -> Option<bool> {
    match number {
        SERVED_YES => Some(true),
        SERVED_NO => Some(false),
        _ => None,
    }
}

/// nft's word for a verdict.
pub fn verdict(number: u8) -> Option<&'static str> {
    match number {
        VERDICT_NONE => Some("none"),
        VERDICT_DNAT => Some("dnat"),
        VERDICT_ACCEPT => Some("accept"),
        VERDICT_DROP => Some("drop"),
        VERDICT_REJECT => Some("reject"),
        _ => None,
    }
}
