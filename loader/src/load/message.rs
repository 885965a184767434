// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns one rtnetlink message, type, flags and fields, into the bytes that are sent, text and JSON, and back.

use super::field::{flags, Fields, Value};
use super::nla::{Layout, WireError};
use super::{rtnl, tc};
use netlink_packet_core::NetlinkBuffer;
use serde_json::{json, Value as Json};
use std::fmt;

/// `nlmsg_flags` (include/uapi/linux/netlink.h): a request, as every message of ours is.
pub const NLM_F_REQUEST: u16 = 0x1;
/// More messages follow, up to NLMSG_DONE.
pub const NLM_F_MULTI: u16 = 0x2;
/// Asks for an NLMSG_ERROR also on success.
pub const NLM_F_ACK: u16 = 0x4;
/// Asks for a copy of what was made.
pub const NLM_F_ECHO: u16 = 0x8;
/// In a reply: what is dumped changed meanwhile.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// RTM_NEW*: what exists is replaced.
pub const NLM_F_REPLACE: u16 = 0x100;
/// RTM_NEW*: EEXIST for what exists.
pub const NLM_F_EXCL: u16 = 0x200;
/// RTM_NEW*: what does not exist is made.
pub const NLM_F_CREATE: u16 = 0x400;
/// RTM_GET*: everything, NLM_F_ROOT | NLM_F_MATCH.
pub const NLM_F_DUMP: u16 = 0x300;

/// Bytes of `struct nlmsghdr`.
pub(super) const HEADER: usize = 16;
/// What every change asks for.
pub(super) const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;
/// What every dump asks for. No ACK: the end of a dump is NLMSG_DONE.
pub(super) const DUMP: u16 = NLM_F_REQUEST | NLM_F_DUMP;

/// One message to or from the kernel, without sequence number and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`, RTM_*.
    pub kind: u16,
    /// `nlmsg_flags`, NLM_F_*.
    pub flags: u16,
    /// The header behind `struct nlmsghdr` and the attributes.
    pub fields: Fields,
}

/// Type and name of every message we send or read, and what it consists of (include/uapi/linux/rtnetlink.h).
static TYPES: [(u16, &str, &Layout); 12] = [
    (16, "RTM_NEWLINK", &rtnl::LINK),
    (17, "RTM_DELLINK", &rtnl::LINK),
    (18, "RTM_GETLINK", &rtnl::LINK),
    (20, "RTM_NEWADDR", &rtnl::ADDR),
    (22, "RTM_GETADDR", &rtnl::ADDR),
    (24, "RTM_NEWROUTE", &rtnl::ROUTE),
    (36, "RTM_NEWQDISC", &tc::TC),
    (37, "RTM_DELQDISC", &tc::TC),
    (38, "RTM_GETQDISC", &tc::TC),
    (44, "RTM_NEWTFILTER", &tc::TC),
    (45, "RTM_DELTFILTER", &tc::TC),
    (46, "RTM_GETTFILTER", &tc::TC),
];

/// Kernel name of a message type.
pub fn type_name(kind: u16) -> Option<&'static str> {
    TYPES.iter().find(|entry| entry.0 == kind).map(|entry| entry.1)
}

/// What a message of this type consists of.
pub fn layout(kind: u16) -> Result<&'static Layout, WireError> {
    TYPES.iter().find(|entry| entry.0 == kind).map(|entry| entry.2).ok_or(WireError::Type(kind))
}

/// Names of `nlmsg_flags`: bits from 0x100 on mean something else in RTM_NEW*, RTM_DEL* and RTM_GET*.
fn flag_names(kind: u16) -> &'static [(u32, &'static str)] {
    match kind & 3 {
        0 => &[
            (0x1, "NLM_F_REQUEST"),
            (0x2, "NLM_F_MULTI"),
            (0x4, "NLM_F_ACK"),
            (0x8, "NLM_F_ECHO"),
            (0x10, "NLM_F_DUMP_INTR"),
            (0x20, "NLM_F_DUMP_FILTERED"),
            (0x100, "NLM_F_REPLACE"),
            (0x200, "NLM_F_EXCL"),
            (0x400, "NLM_F_CREATE"),
            (0x800, "NLM_F_APPEND"),
        ],
        2 => &[(0x1, "NLM_F_REQUEST"), (0x4, "NLM_F_ACK"), (0x300, "NLM_F_DUMP")],
        _ => &[(0x1, "NLM_F_REQUEST"), (0x4, "NLM_F_ACK"), (0x8, "NLM_F_ECHO")],
    }
}

impl Message {
    /// A message of this type and these flags.
    pub fn new(kind: u16, flags: u16, fields: Fields) -> Self {
        Self { kind, flags, fields }
    }

    /// Name of the type, for errors and plans.
    pub fn name(&self) -> &'static str {
        type_name(self.kind).unwrap_or("netlink message")
    }

    /// Whether it only asks: RTM_GET*, which are the kinds that divide by 4 with a rest of 2.
    pub fn asks(&self) -> bool {
        self.kind & 3 == 2
    }

    /// Names of the flags set, in the order of their bits.
    pub fn flags_text(&self) -> String {
        flags(self.flags.into(), flag_names(self.kind))
    }

    /// This message with numbers in the place of its symbols.
    #[must_use]
    pub fn resolved(mut self, number: &dyn Fn(&str) -> Option<u32>) -> Self {
        self.fields.resolve(number);
        self
    }

    /// The bytes that are sent, `struct nlmsghdr` included. The port is 0, for the kernel knows the sender's.
    pub fn encode(&self, seq: u32) -> Result<Vec<u8>, WireError> {
        let mut body = Vec::new();
        layout(self.kind)?.encode(&self.fields, &mut body)?;
        let mut bytes = vec![0; HEADER];
        bytes.append(&mut body);
        let length = u32::try_from(bytes.len()).map_err(|_| WireError::Unfit("nlmsg_len".into()))?;
        // The header is there, so none of the setters can fail.
        let mut header = NetlinkBuffer::new(&mut bytes);
        header.set_length(length);
        header.set_message_type(self.kind);
        header.set_flags(self.flags);
        header.set_sequence_number(seq);
        Ok(bytes)
    }

    /// Reads one message, `struct nlmsghdr` included; bytes behind `nlmsg_len` are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let header = NetlinkBuffer::new_checked(bytes).map_err(|_| WireError::Short)?;
        let (kind, flags) = (header.message_type(), header.flags());
        Ok(Self { kind, flags, fields: layout(kind)?.decode(header.payload())? })
    }

    /// Every field that is no nest, with its path and its text: `("TCA_OPTIONS.TCA_BPF_FD", "%prog")`.
    pub fn pairs(&self) -> Vec<(String, String)> {
        layout(self.kind).map(|layout| self.fields.pairs(layout)).unwrap_or_default()
    }

    /// `{"nlmsg_type":"RTM_NEWQDISC","nlmsg_flags":"NLM_F_REQUEST|NLM_F_ACK","fields":[{"tcm_ifindex":3},…]}`
    pub fn to_json(&self) -> Json {
        let fields = layout(self.kind).map(|layout| self.fields.to_json(layout));
        json!({
            "nlmsg_type": self.name(),
            "nlmsg_flags": self.flags_text(),
            "fields": fields.unwrap_or_default(),
        })
    }

    /// The reverse of [`Message::to_json`].
    pub fn from_json(json: &Json) -> Result<Self, WireError> {
        let unfit = |name: &str| WireError::Unfit(name.into());
        let text = |name| json.get(name).and_then(Json::as_str).ok_or_else(|| unfit(name));
        let name = text("nlmsg_type")?;
        let entry = TYPES.iter().find(|entry| entry.1 == name);
        let (kind, _, layout) = entry.ok_or_else(|| unfit("nlmsg_type"))?;
        let flags = super::field::parse_flags(text("nlmsg_flags")?, flag_names(*kind));
        let flags = flags.and_then(|flags| u16::try_from(flags).ok()).ok_or_else(|| unfit("nlmsg_flags"))?;
        let fields = json.get("fields").ok_or_else(|| unfit("fields"))?;
        Ok(Self { kind: *kind, flags, fields: Fields::from_json(fields, layout)? })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let fields = layout(self.kind).map(|layout| self.fields.line(layout)).unwrap_or_default();
        write!(f, "{} {} {fields}", self.name(), self.flags_text())
    }
}

/// A symbol as a value: `symbol("%prog")`.
pub fn symbol(name: &str) -> Value {
    Value::Symbol(name.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::load::tc::{Place, Tc, INGRESS};

    const PLACE: Place =
        Place { ifindex: 3, parent: INGRESS, prio: 100, handle: 0xd370, chain: 0, protocol: 3 };

    /// One message of every sort, with symbols where descriptors go.
    fn every() -> Vec<Message> {
        let (program, name) = (String::from("%in"), String::from("detour_in"));
        let tcs = [
            Tc::ClsactAdd { ifindex: 3, marked: false },
            Tc::ClsactAdd { ifindex: 3, marked: true },
            Tc::ClsactDel { ifindex: 3 },
            Tc::FilterAdd { place: PLACE, program: program.clone(), name: name.clone() },
            Tc::FilterReplace { place: PLACE, program, name },
            Tc::FilterDel { place: PLACE },
        ];
        for tc in &tcs {
            assert_eq!(Tc::read(&tc.message()).as_ref(), Some(tc));
        }
        let mut all: Vec<Message> = tcs.iter().map(Tc::message).collect();
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        all.extend([tc::qdisc_dump(), tc::filter_dump(3, INGRESS), tc::filter_get(PLACE)]);
        all.extend([rtnl::link_dump(), rtnl::link_get(3), rtnl::link_named("hex:eth0"), rtnl::addr_dump(3)]);
        all.extend([rtnl::veth_add("v0", "v1", Some("%ns")), rtnl::veth_add("%v", "v1", None)]);
        all.extend([rtnl::link_up(3), rtnl::link_del(3), rtnl::link_address(3, [2, 0, 0, 0, 0, 1])]);
        all.extend([rtnl::addr_add(3, v4, 24), rtnl::addr_add(3, v6, 64)]);
        all.extend([rtnl::route_add(v4, 8, 3, None), rtnl::route_add(v6, 0, 3, Some(v6))]);
        all
    }

    #[test]
    fn bytes_and_json_come_back_as_the_same_message() {
        for message in every() {
            let json = message.to_json();
            assert_eq!(Message::from_json(&json).as_ref(), Ok(&message), "{json}");
            let text = serde_json::to_string(&json).unwrap();
            assert_eq!(Message::from_json(&serde_json::from_str(&text).unwrap()), Ok(message.clone()));
            let sent = message.resolved(&|_| Some(9));
            assert_eq!(Message::decode(&sent.encode(1).unwrap()), Ok(sent));
        }
    }

    #[test]
    fn broken_bytes_never_panic() {
        for message in every() {
            let bytes = message.resolved(&|_| Some(9)).encode(1).unwrap();
            for at in 0..bytes.len() {
                let _ = Message::decode(&bytes[..at]);
                for value in [0, 1, 3, 4, 5, 0x7f, 0x80, 0xff] {
                    let mut broken = bytes.clone();
                    broken[at] = value;
                    // What can be read can be sent: the same fields come back.
                    if let Ok(message) = Message::decode(&broken) {
                        assert_eq!(Message::decode(&message.encode(1).unwrap()), Ok(message.clone()));
                        assert_eq!(Message::from_json(&message.to_json()), Ok(message));
                    }
                    let _ = crate::load::ack::Ack::decode(&broken);
                }
            }
        }
    }

    /// Bytes written as 32-bit groups in the order in which they are sent.
    fn image(groups: &str) -> Vec<u8> {
        let digits: String = groups.split_whitespace().filter(|word| word.len() == 8).collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn messages_are_the_bytes_the_headers_of_linux_say() {
        let bytes = |message: Message| message.resolved(&|_| Some(5)).encode(0x11).unwrap();
        // len 48, RTM_NEWQDISC, EXCL|CREATE|ACK|REQUEST, seq, pid | family, ifindex, handle ffff:, parent, info
        let clsact = "30000000 24000506 11000000 00000000 | 00000000 03000000 0000ffff f1ffffff 00000000
            0b000100 636c7361 63740000"; // TCA_KIND "clsact"
        assert_eq!(bytes(Tc::ClsactAdd { ifindex: 3, marked: false }.message()), image(clsact));
        let marked = "50000000 24000506 11000000 00000000 | 00000000 03000000 0000ffff f1ffffff 00000000
            0b000100 636c7361 63740000 | 20000880
            1c000100 00000000 00000000 00000000 70d30000 00000000 00000000"; // TCA_STAB, nested: BASE, mpu
        assert_eq!(bytes(Tc::ClsactAdd { ifindex: 3, marked: true }.message()), image(marked));
        // the same with ECHO; handle, parent fff2, htons(ETH_P_ALL) and prio 100; TCA_KIND "bpf"
        let filter = "50000000 2c000d06 11000000 00000000 | 00000000 03000000 70d30000 f2ffffff 00036400
            08000100 62706600 | 24000280
            08000600 05000000
            0e000700 6465746f 75725f69 6e000000
            08000800 01000000"; // TCA_OPTIONS, nested: FD 5, NAME "detour_in", FLAGS ACT_DIRECT
        let add = Tc::FilterAdd { place: PLACE, program: "%in".into(), name: "detour_in".into() };
        assert_eq!(bytes(add.message()), image(filter));
        // RTM_DELTFILTER, ACK|REQUEST
        let del = "2c000000 2d000500 11000000 00000000 | 00000000 03000000 70d30000 f2ffffff 00036400
            08000100 62706600";
        assert_eq!(bytes(Tc::FilterDel { place: PLACE }.message()), image(del));
        // RTM_GETTFILTER, DUMP|REQUEST
        let dump = "24000000 2e000103 11000000 00000000 | 00000000 03000000 00000000 f2ffffff 00000000";
        assert_eq!(bytes(tc::filter_dump(3, INGRESS)), image(dump));
        // RTM_NEWLINK: struct ifinfomsg { family, pad, type; index; flags; change }
        let up = "20000000 10000500 11000000 00000000 | 00000000 03000000 01000000 01000000";
        assert_eq!(bytes(rtnl::link_up(3)), image(up));
        // IFLA_IFNAME "v0"; LINKINFO { KIND "veth", DATA { PEER { ifinfomsg, IFNAME "v1", NET_NS_FD 5 } } }
        let veth = "60000000 10000506 11000000 00000000 | 00000000 00000000 00000000 00000000
            07000300 76300000 | 38001280 09000100 76657468 00000000 | 28000280 | 24000180
            00000000 00000000 00000000 00000000 | 07000300 76310000 | 08001c00 05000000";
        assert_eq!(bytes(rtnl::veth_add("v0", "v1", Some("%ns"))), image(veth));
        // RTM_NEWADDR: struct ifaddrmsg { family 2, prefixlen 24, flags, scope; index }, LOCAL, ADDRESS
        let addr =
            "28000000 14000506 11000000 00000000 | 02180000 03000000 | 08000200 0a000001 | 08000100 0a000001";
        assert_eq!(bytes(rtnl::addr_add(3, "10.0.0.1".parse().unwrap(), 24)), image(addr));
        // RTM_NEWROUTE: struct rtmsg { family, dst_len, src_len, tos; table, protocol, scope, type; flags }
        let route = "2c000000 18000506 11000000 00000000 | 02000000 fe040001 00000000
            08000500 0a000001 | 08000400 03000000"; // RTA_GATEWAY, RTA_OIF
        let (any, gateway) = ("0.0.0.0".parse().unwrap(), "10.0.0.1".parse().ok());
        assert_eq!(bytes(rtnl::route_add(any, 0, 3, gateway)), image(route));
    }

    #[test]
    fn a_plan_shows_names_and_symbols() {
        let add = Tc::FilterAdd { place: PLACE, program: "%in".into(), name: "a\u{1b}\"b".into() };
        assert_eq!(
            add.message().to_string(),
            "RTM_NEWTFILTER NLM_F_REQUEST|NLM_F_ACK|NLM_F_ECHO|NLM_F_EXCL|NLM_F_CREATE tcm_ifindex=3 \
             tcm_handle=0:d370 tcm_parent=ffff:fff2 tcm_info=prio:100,protocol:0x0003 TCA_KIND=\"bpf\" \
             TCA_OPTIONS={TCA_BPF_FD=%in TCA_BPF_NAME=\"a\\u{1b}\\\"b\" TCA_BPF_FLAGS=TCA_BPF_FLAG_ACT_DIRECT}"
        );
        let pairs = add.message().pairs();
        assert!(pairs.contains(&("TCA_OPTIONS.TCA_BPF_FD".into(), "%in".into())), "{pairs:?}");
        assert_eq!(add.message().encode(1), Err(WireError::Unresolved("%in".into())));
    }

    #[test]
    fn json_that_is_no_message_says_where() {
        let of = |json: &str| Message::from_json(&serde_json::from_str(json).unwrap()).unwrap_err();
        assert_eq!(of("[]"), WireError::Unfit("nlmsg_type".into()));
        assert_eq!(of(r#"{"nlmsg_type":"RTM_NEWTCLASS"}"#), WireError::Unfit("nlmsg_type".into()));
        let with = |field: &str| {
            of(&format!(r#"{{"nlmsg_type":"RTM_NEWQDISC","nlmsg_flags":"0x5","fields":[{field}]}}"#))
        };
        assert_eq!(with(r#"{"TCA_BPF_FD":1}"#), WireError::Unknown("TCA_BPF_FD".into()));
        assert_eq!(with(r#"{"tcm_parent":"x"}"#), WireError::Unfit("tcm_parent".into()));
        assert_eq!(with(r#"{"tcm_ifindex":-1}"#), WireError::Unfit("tcm_ifindex".into()));
        assert_eq!(with(r#"{"TCA_KIND":7}"#), WireError::Unfit("TCA_KIND".into()));
        assert_eq!(with("{}"), WireError::Unfit("fields".into()));
    }
}
