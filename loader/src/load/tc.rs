// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns clsact qdiscs and cls_bpf filters into rtnetlink messages, and dumps of them into plain structs.
//!
//! Constants and fields: include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h. What the kernel makes of them:
//! net/sched/{sch_api,sch_ingress,cls_api,cls_bpf}.c.

use super::field::{ethertype, info, Fields, Value};
use super::message::{symbol, Message, CHANGE, DUMP, NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use super::netlink::NetlinkError;
use super::nla::{Attr, Head, Layout, Shape};
use nix::errno::Errno;

/// `tcm_parent` of filters that see what arrives: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`.
pub const INGRESS: u32 = 0xffff_fff2;
/// `tcm_parent` of filters that see what leaves: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)`.
pub const EGRESS: u32 = 0xffff_fff3;
/// `tcm_parent` of the clsact qdisc itself, and of an `ingress` qdisc: TC_H_CLSACT.
pub const CLSACT: u32 = 0xffff_fff1;

/// `tcm_handle` of clsact: the kernel takes no other.
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// The filter sees frames of every protocol.
pub const ETH_P_ALL: u16 = 3;
/// The program's return value is the verdict; without it, it would be a class id and verdicts were ignored.
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

/// `struct tcmsg` and its attributes, of qdiscs and filters alike.
pub(super) static TC: Layout = Layout {
    size: 20,
    head: &[
        Head("tcm_family", 0, Shape::U8),
        Head("tcm_ifindex", 4, Shape::U32),
        Head("tcm_handle", 8, Shape::Handle),
        Head("tcm_parent", 12, Shape::Handle),
        Head("tcm_info", 16, Shape::Info),
    ],
    attrs: &[
        Attr("TCA_KIND", 1, Shape::Kind),
        Attr("TCA_OPTIONS", 2, Shape::ByKind(&[("bpf", &BPF)])),
        Attr("TCA_STATS", 3, Shape::Bytes),
        Attr("TCA_XSTATS", 4, Shape::Bytes),
        Attr("TCA_RATE", 5, Shape::Bytes),
        Attr("TCA_FCNT", 6, Shape::U32),
        Attr("TCA_STATS2", 7, Shape::Bytes),
        Attr("TCA_STAB", 8, Shape::Nest(&STAB)),
        Attr("TCA_CHAIN", 11, Shape::U32),
        Attr("TCA_HW_OFFLOAD", 12, Shape::U8),
        Attr("TCA_INGRESS_BLOCK", 13, Shape::U32),
        Attr("TCA_EGRESS_BLOCK", 14, Shape::U32),
        Attr("TCA_DUMP_FLAGS", 15, Shape::Bytes),
        Attr("TCA_EXT_WARN_MSG", 16, Shape::Text),
    ],
};

/// How long a packet counts when it is queued. Of no effect with clsact, which queues nothing; the kernel keeps and shows it.
static STAB: Layout = Layout {
    size: 0,
    head: &[],
    attrs: &[Attr("TCA_STAB_BASE", 1, Shape::Bytes), Attr("TCA_STAB_DATA", 2, Shape::Bytes)],
};

/// `struct tc_sizespec` {cell_log, size_log, cell_align, overhead, linklayer, mpu, mtu, tsize}: nothing but `mpu`, 0xd370.
const MARK: [u8; 24] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x70, 0xd3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// TCA_OPTIONS of a filter of kind "bpf". cls_bpf_change() reads TCA_BPF_NAME up to 256 bytes, NUL included.
static BPF: Layout = Layout {
    size: 0,
    head: &[],
    attrs: &[
        Attr("TCA_BPF_ACT", 1, Shape::Bytes),
        Attr("TCA_BPF_POLICE", 2, Shape::Bytes),
        Attr("TCA_BPF_CLASSID", 3, Shape::Handle),
        Attr("TCA_BPF_OPS_LEN", 4, Shape::U16),
        Attr("TCA_BPF_OPS", 5, Shape::Bytes),
        Attr("TCA_BPF_FD", 6, Shape::U32),
        Attr("TCA_BPF_NAME", 7, Shape::Text),
        Attr("TCA_BPF_FLAGS", 8, Shape::Flags(&[(TCA_BPF_FLAG_ACT_DIRECT, "TCA_BPF_FLAG_ACT_DIRECT")])),
        Attr(
            "TCA_BPF_FLAGS_GEN",
            9,
            Shape::Flags(&[
                (1, "TCA_CLS_FLAGS_SKIP_HW"),
                (2, "TCA_CLS_FLAGS_SKIP_SW"),
                (4, "TCA_CLS_FLAGS_IN_HW"),
                (8, "TCA_CLS_FLAGS_NOT_IN_HW"),
                (16, "TCA_CLS_FLAGS_VERBOSE"),
            ]),
        ),
        Attr("TCA_BPF_TAG", 10, Shape::Bytes),
        Attr("TCA_BPF_ID", 11, Shape::U32),
    ],
};

/// Where a filter sits: it is unique in this, but for the protocol, which all filters of a priority share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Device.
    pub ifindex: u32,
    /// [`INGRESS`] or [`EGRESS`]; 0 would mean the root qdisc.
    pub parent: u32,
    /// Lower runs first; 0 would let the kernel choose another one each time.
    pub prio: u16,
    /// Unique within the priority; 0 would let the kernel choose, and in a deletion mean all.
    pub handle: u32,
    /// Packets begin in chain 0; another one is where a filter's `goto chain` leads.
    pub chain: u32,
    /// Ethertype of the frames that it sees, in host order; [`ETH_P_ALL`] for every frame.
    pub protocol: u16,
}

/// What we do to qdiscs and filters. Each is one [`Message`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tc {
    /// Makes clsact; EEXIST "Exclusivity flag on, cannot modify" where it, or an `ingress` qdisc, is.
    ClsactAdd {
        /// Device.
        ifindex: u32,
        /// It says itself that it is ours: for who can say so nowhere else.
        marked: bool,
    },
    /// Removes clsact with all its filters; EINVAL "Invalid handle" where none is.
    ClsactDel {
        /// Device.
        ifindex: u32,
    },
    /// Attaches a program; EEXIST "Filter already exists" where one sits in its place.
    FilterAdd {
        /// Where.
        place: Place,
        /// The symbol that stands for the program's descriptor, `%detour_in`.
        program: String,
        /// What `tc filter show` prints, up to 255 bytes.
        name: String,
    },
    /// Attaches a program, in one step instead of the one that may sit in its place.
    FilterReplace {
        /// Where.
        place: Place,
        /// The symbol that stands for the program's descriptor.
        program: String,
        /// What `tc filter show` prints, up to 255 bytes.
        name: String,
    },
    /// Detaches; ENOENT "Specified filter handle not found".
    FilterDel {
        /// Where.
        place: Place,
    },
}

impl Tc {
    /// The message that does it. A [`Tc::FilterAdd`] needs [`Message::resolved`] before it is sent, and is
    /// answered by an echo that [`Filter::read`] reads.
    pub fn message(&self) -> Message {
        match self {
            Self::ClsactAdd { ifindex, marked } => {
                let mut fields = header(*ifindex, CLSACT_HANDLE, CLSACT, 0).with("TCA_KIND", "clsact");
                if *marked {
                    fields = fields.with(
                        "TCA_STAB",
                        Fields::default().with("TCA_STAB_BASE", Value::Bytes(MARK.to_vec())),
                    );
                }
                Message::new(RTM_NEWQDISC, CHANGE | NLM_F_CREATE | NLM_F_EXCL, fields)
            }
            Self::ClsactDel { ifindex } => {
                // With the kind, an `ingress` qdisc is refused: "Invalid qdisc name".
                let fields = header(*ifindex, CLSACT_HANDLE, CLSACT, 0).with("TCA_KIND", "clsact");
                Message::new(RTM_DELQDISC, CHANGE, fields)
            }
            Self::FilterAdd { place, program, name } => {
                let flags = CHANGE | NLM_F_ECHO | NLM_F_CREATE | NLM_F_EXCL;
                Message::new(RTM_NEWTFILTER, flags, place.program(program, name))
            }
            Self::FilterReplace { place, program, name } => {
                Message::new(RTM_NEWTFILTER, CHANGE | NLM_F_ECHO | NLM_F_CREATE, place.program(program, name))
            }
            Self::FilterDel { place } => Message::new(RTM_DELTFILTER, CHANGE, place.header()),
        }
    }

    /// The reverse of [`Tc::message`]: `None` for a message that does anything else.
    pub fn read(message: &Message) -> Option<Self> {
        let ifindex = message.fields.number("tcm_ifindex")?;
        let place = Place::read(&message.fields)?;
        let tc = match (message.kind, message.flags & NLM_F_EXCL != 0) {
            (RTM_NEWQDISC, _) => {
                Self::ClsactAdd { ifindex, marked: message.fields.get("TCA_STAB").is_some() }
            }
            (RTM_DELQDISC, _) => Self::ClsactDel { ifindex },
            (RTM_DELTFILTER, _) => Self::FilterDel { place },
            (RTM_NEWTFILTER, exclusive) => {
                let options = message.fields.nest("TCA_OPTIONS")?;
                let Value::Symbol(program) = options.get("TCA_BPF_FD")?.clone() else { return None };
                let name = options.text("TCA_BPF_NAME")?;
                match exclusive {
                    true => Self::FilterAdd { place, program, name },
                    false => Self::FilterReplace { place, program, name },
                }
            }
            _ => return None,
        };
        (tc.message() == *message).then_some(tc)
    }
}

impl Place {
    /// In chain 0, for frames of every protocol.
    pub fn new(ifindex: u32, parent: u32, prio: u16, handle: u32) -> Self {
        Self { ifindex, parent, prio, handle, chain: 0, protocol: ETH_P_ALL }
    }

    fn header(&self) -> Fields {
        let info = info(self.prio, self.protocol);
        let fields = header(self.ifindex, self.handle, self.parent, info).with("TCA_KIND", "bpf");
        match self.chain {
            0 => fields,
            chain => fields.with("TCA_CHAIN", chain),
        }
    }

    fn program(&self, program: &str, name: &str) -> Fields {
        let options = Fields::default()
            .with("TCA_BPF_FD", symbol(program))
            .with("TCA_BPF_NAME", name)
            .with("TCA_BPF_FLAGS", TCA_BPF_FLAG_ACT_DIRECT);
        self.header().with("TCA_OPTIONS", options)
    }

    fn read(fields: &Fields) -> Option<Self> {
        let head = |name| fields.number(name).unwrap_or(0);
        let prio = u16::try_from(head("tcm_info") >> 16).ok()?;
        Some(Self {
            ifindex: head("tcm_ifindex"),
            parent: head("tcm_parent"),
            prio,
            handle: head("tcm_handle"),
            chain: head("TCA_CHAIN"),
            protocol: ethertype(head("tcm_info")),
        })
    }
}

/// Asks for every qdisc of the namespace: the kernel does not filter this dump by device.
pub fn qdisc_dump() -> Message {
    Message::new(RTM_GETQDISC, DUMP, Fields::default())
}

/// Asks for every filter, of any kind and chain, at one parent. A device without clsact gives none.
pub fn filter_dump(ifindex: u32, parent: u32) -> Message {
    Message::new(RTM_GETTFILTER, DUMP, header(ifindex, 0, parent, 0))
}

/// Asks for the filter of one place; ENOENT where none is.
pub fn filter_get(place: Place) -> Message {
    Message::new(RTM_GETTFILTER, CHANGE, place.header())
}

/// A qdisc as dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qdisc {
    /// Device.
    pub ifindex: u32,
    /// `clsact`, `ingress`, `noqueue` …
    pub kind: String,
    /// `major << 16`.
    pub handle: u32,
    /// [`CLSACT`] for clsact and ingress, 0xffffffff for the root.
    pub parent: u32,
    /// Shared block its ingress filters live in, if any.
    pub ingress_block: Option<u32>,
    /// Shared block its egress filters live in, if any.
    pub egress_block: Option<u32>,
    /// Of clsact: whether it was made by [`Tc::ClsactAdd`] with a mark.
    pub marked: bool,
}

impl Qdisc {
    /// Reads an RTM_NEWQDISC; `None` for any other message.
    pub fn read(message: &Message) -> Option<Self> {
        let fields = &message.fields;
        (message.kind == RTM_NEWQDISC).then_some(Self {
            ifindex: fields.number("tcm_ifindex").unwrap_or(0),
            kind: fields.text("TCA_KIND")?,
            handle: fields.number("tcm_handle").unwrap_or(0),
            parent: fields.number("tcm_parent").unwrap_or(0),
            ingress_block: fields.number("TCA_INGRESS_BLOCK"),
            egress_block: fields.number("TCA_EGRESS_BLOCK"),
            marked: fields.nest("TCA_STAB").and_then(|stab| stab.bytes("TCA_STAB_BASE")) == Some(&MARK),
        })
    }
}

/// A filter as dumped, ours or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Where it sits.
    pub place: Place,
    /// `bpf`, `u32`, `flower` …
    pub kind: String,
    /// What a filter of kind `bpf` runs.
    pub bpf: Option<BpfFilter>,
}

/// The program of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BpfFilter {
    /// TCA_BPF_NAME.
    pub name: Option<String>,
    /// Program id; `None` for classic BPF.
    pub id: Option<u32>,
    /// The kernel's digest of the instructions.
    pub tag: Option<[u8; 8]>,
    /// The return value is the verdict.
    pub direct_action: bool,
    /// TCA_CLS_FLAGS_*: 4 in hardware, 8 not in hardware.
    pub flags_gen: u32,
}

impl Filter {
    /// Reads an RTM_NEWTFILTER, dumped or echoed. `None` for any other message and for the record without
    /// handle and options that a dump has once per priority of kind `bpf`.
    pub fn read(message: &Message) -> Option<Self> {
        let fields = &message.fields;
        let place = Place::read(fields).filter(|_| message.kind == RTM_NEWTFILTER)?;
        if place.handle == 0 && fields.get("TCA_OPTIONS").is_none() {
            return None;
        }
        Some(Self {
            place,
            kind: fields.text("TCA_KIND")?,
            bpf: fields.nest("TCA_OPTIONS").map(|options| BpfFilter {
                name: options.text("TCA_BPF_NAME"),
                id: options.number("TCA_BPF_ID"),
                tag: options.bytes("TCA_BPF_TAG").and_then(|tag| tag.try_into().ok()),
                direct_action: options.number("TCA_BPF_FLAGS").unwrap_or(0) & TCA_BPF_FLAG_ACT_DIRECT != 0,
                flags_gen: options.number("TCA_BPF_FLAGS_GEN").unwrap_or(0),
            }),
        })
    }
}

/// Ethertypes that have a name in `tc filter … protocol NAME`.
const PROTOCOLS: [(&str, u16); 6] = [
    ("all", ETH_P_ALL),
    ("ip", 0x0800),
    ("ipv6", 0x86dd),
    ("arp", 0x0806),
    ("802.1Q", 0x8100),
    ("802.1ad", 0x88a8),
];

/// An ethertype as `tc` calls it, or `0x88cc`.
pub fn protocol_name(protocol: u16) -> String {
    let known = PROTOCOLS.iter().find(|(_, number)| *number == protocol);
    known.map_or_else(|| format!("{protocol:#06x}"), |(name, _)| (*name).to_string())
}

/// The reverse of [`protocol_name`]; 0 is none, the kernel takes it for "whichever is there".
pub fn protocol_number(text: &str) -> Option<u16> {
    let known = PROTOCOLS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    let number = || u16::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    known.map(|(_, number)| *number).or_else(number).filter(|number| *number != 0)
}

/// What an error means where the kernel gives no words for it, and how to mend it.
pub fn hint(error: &NetlinkError) -> Option<&'static str> {
    match (error.request, Errno::from_raw(error.errno), error.text.is_some()) {
        (_, Errno::EPERM, _) => Some("needs CAP_NET_ADMIN in the device's network namespace"),
        (_, Errno::ENODEV, false) => Some("the device is gone"),
        ("RTM_NEWQDISC", Errno::ENOENT, _) => {
            Some("this kernel has no clsact: CONFIG_NET_SCH_INGRESS, or `modprobe sch_ingress`")
        }
        ("RTM_NEWTFILTER", Errno::ENOENT, _) => {
            Some("this kernel has no cls_bpf: CONFIG_NET_CLS_BPF, or `modprobe cls_bpf`")
        }
        ("RTM_NEWTFILTER", Errno::EBADF, false) => Some("the descriptor is none of a program"),
        ("RTM_NEWTFILTER", Errno::EINVAL, false) => {
            Some("the program is not of type sched_cls, or its name is longer than 255 bytes")
        }
        _ => None,
    }
}

fn header(ifindex: u32, handle: u32, parent: u32, info: u32) -> Fields {
    Fields::default()
        .head("tcm_ifindex", ifindex)
        .head("tcm_handle", handle)
        .head("tcm_parent", parent)
        .head("tcm_info", info)
}

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;
