// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Turns questions about devices, addresses and routes, and changes to them, into rtnetlink messages, and the
//! answers into plain structs.
//!
//! `/sys/class/net` shows the namespace of whoever mounted it; a netlink socket always its own. Constants and
//! fields: include/uapi/linux/{rtnetlink,if_link,if_addr}.h; the kernel's side: net/core/rtnetlink.c,
//! net/ipv4/{devinet,fib_frontend}.c, net/ipv6/{addrconf,route}.c, drivers/net/veth.c.

use super::field::{Fields, Value};
use super::message::{symbol, Message, CHANGE, DUMP, NLM_F_CREATE, NLM_F_EXCL};
use super::nla::{Attr, Head, Layout, Shape};
use std::net::IpAddr;

/// Ethernet, in [`Link::arphrd`]: a frame starts with 14 bytes of header.
pub const ARPHRD_ETHER: u16 = 1;
/// Loopback, in [`Link::arphrd`]: framed like Ethernet.
pub const ARPHRD_LOOPBACK: u16 = 772;
/// No link-layer header, in [`Link::arphrd`]: tun, WireGuard.
pub const ARPHRD_NONE: u16 = 0xfffe;
/// The device is switched on, in [`Link::flags`].
pub const IFF_UP: u32 = 0x1;

/// `struct ifinfomsg` and its attributes. `ifi_type` is ARPHRD_*.
pub(super) static LINK: Layout = Layout {
    size: 16,
    head: &[
        Head("ifi_family", 0, Shape::U8),
        Head("ifi_type", 2, Shape::U16),
        Head("ifi_index", 4, Shape::U32),
        Head("ifi_flags", 8, Shape::Flags(&LINK_FLAGS)),
        Head("ifi_change", 12, Shape::Flags(&LINK_FLAGS)),
    ],
    attrs: &[
        Attr("IFLA_ADDRESS", 1, Shape::Mac),
        Attr("IFLA_BROADCAST", 2, Shape::Mac),
        Attr("IFLA_IFNAME", 3, Shape::Text),
        Attr("IFLA_MTU", 4, Shape::U32),
        Attr("IFLA_LINK", 5, Shape::U32),
        Attr("IFLA_MASTER", 10, Shape::U32),
        Attr("IFLA_OPERSTATE", 16, Shape::U8),
        Attr("IFLA_LINKINFO", 18, Shape::Nest(&LINKINFO)),
        Attr("IFLA_NET_NS_FD", 28, Shape::U32),
        Attr("IFLA_EXT_MASK", 29, Shape::Flags(&[(RTEXT_FILTER_SKIP_STATS, "RTEXT_FILTER_SKIP_STATS")])),
        Attr("IFLA_LINK_NETNSID", 37, Shape::U32),
        Attr("IFLA_XDP", 43, Shape::Nest(&XDP)),
        Attr("IFLA_PROP_LIST", 52, Shape::Nest(&PROPERTIES)),
        Attr("IFLA_ALT_IFNAME", 53, Shape::Text),
    ],
};

/// IFLA_XDP: what runs in the driver, before any filter.
static XDP: Layout = Layout {
    size: 0,
    head: &[],
    attrs: &[Attr("IFLA_XDP_ATTACHED", 2, Shape::U8), Attr("IFLA_XDP_PROG_ID", 4, Shape::U32)],
};

/// IFLA_PROP_LIST: further names, each up to 127 bytes.
static PROPERTIES: Layout = Layout { size: 0, head: &[], attrs: &[Attr("IFLA_ALT_IFNAME", 53, Shape::Text)] };

/// IFLA_LINKINFO: what kind of virtual device it is.
static LINKINFO: Layout = Layout {
    size: 0,
    head: &[],
    attrs: &[
        Attr("IFLA_INFO_KIND", 1, Shape::Kind),
        Attr("IFLA_INFO_DATA", 2, Shape::ByKind(&[("veth", &VETH)])),
    ],
};

/// IFLA_INFO_DATA of a veth: the other end, as a whole `struct ifinfomsg` with attributes.
static VETH: Layout = Layout { size: 0, head: &[], attrs: &[Attr("VETH_INFO_PEER", 1, Shape::Nest(&LINK))] };

/// `struct ifaddrmsg` and its attributes. The scope is RT_SCOPE_*: 0 everywhere, 253 the link, 254 this host.
pub(super) static ADDR: Layout = Layout {
    size: 8,
    head: &[
        Head("ifa_family", 0, Shape::U8),
        Head("ifa_prefixlen", 1, Shape::U8),
        Head("ifa_flags", 2, Shape::U8),
        Head("ifa_scope", 3, Shape::U8),
        Head("ifa_index", 4, Shape::U32),
    ],
    attrs: &[
        Attr("IFA_ADDRESS", 1, Shape::Ip),
        Attr("IFA_LOCAL", 2, Shape::Ip),
        Attr("IFA_LABEL", 3, Shape::Text),
        Attr("IFA_BROADCAST", 4, Shape::Ip),
        Attr("IFA_FLAGS", 8, Shape::Flags(&ADDR_FLAGS)),
    ],
};

/// `struct rtmsg` and its attributes.
pub(super) static ROUTE: Layout = Layout {
    size: 12,
    head: &[
        Head("rtm_family", 0, Shape::U8),
        Head("rtm_dst_len", 1, Shape::U8),
        Head("rtm_src_len", 2, Shape::U8),
        Head("rtm_tos", 3, Shape::U8),
        Head("rtm_table", 4, Shape::U8),
        Head("rtm_protocol", 5, Shape::U8),
        Head("rtm_scope", 6, Shape::U8),
        Head("rtm_type", 7, Shape::U8),
        Head("rtm_flags", 8, Shape::U32),
    ],
    attrs: &[
        Attr("RTA_DST", 1, Shape::Ip),
        Attr("RTA_OIF", 4, Shape::U32),
        Attr("RTA_GATEWAY", 5, Shape::Ip),
        Attr("RTA_PRIORITY", 6, Shape::U32),
        Attr("RTA_PREFSRC", 7, Shape::Ip),
        Attr("RTA_TABLE", 15, Shape::U32),
    ],
};

static LINK_FLAGS: [(u32, &str); 11] = [
    (IFF_UP, "IFF_UP"),
    (0x2, "IFF_BROADCAST"),
    (0x8, "IFF_LOOPBACK"),
    (0x10, "IFF_POINTOPOINT"),
    (0x40, "IFF_RUNNING"),
    (0x80, "IFF_NOARP"),
    (0x100, "IFF_PROMISC"),
    (0x200, "IFF_ALLMULTI"),
    (0x1000, "IFF_MULTICAST"),
    (0x10000, "IFF_LOWER_UP"),
    (0x20000, "IFF_DORMANT"),
];

/// IFA_F_TEMPORARY of IPv6 has the bit of IFA_F_SECONDARY.
static ADDR_FLAGS: [(u32, &str); 8] = [
    (IFA_F_SECONDARY, "IFA_F_SECONDARY"),
    (IFA_F_NODAD, "IFA_F_NODAD"),
    (IFA_F_DADFAILED, "IFA_F_DADFAILED"),
    (IFA_F_DEPRECATED, "IFA_F_DEPRECATED"),
    (IFA_F_TENTATIVE, "IFA_F_TENTATIVE"),
    (0x80, "IFA_F_PERMANENT"),
    (0x100, "IFA_F_MANAGETEMPADDR"),
    (0x200, "IFA_F_NOPREFIXROUTE"),
];

/// A device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Number in its namespace; reused after the device is gone.
    pub index: u32,
    /// Name, up to 15 bytes; those that are no UTF-8 are replaced.
    pub name: String,
    /// Further names.
    pub altnames: Vec<String>,
    /// Link-layer address: 6 bytes for Ethernet, none where there is no such thing.
    pub mac: Vec<u8>,
    /// ARPHRD_*, from which follows the length of the link-layer header.
    pub arphrd: u16,
    /// Bytes of a packet without link-layer header.
    pub mtu: u32,
    /// IFF_*.
    pub flags: u32,
    /// IF_OPER_*: 0 unknown, 2 down, 6 up.
    pub operstate: u8,
    /// `veth`, `vlan`, `bridge` …; none for hardware.
    pub kind: Option<String>,
    /// The device below: the trunk of a VLAN, the other end of a veth.
    pub lower: Option<u32>,
    /// Where `lower` is, if in another namespace: the number this namespace has for that one.
    pub lower_netns: Option<u32>,
    /// The bridge, bond or VRF this device is a port of.
    pub master: Option<u32>,
    /// The XDP program that sees what arrives first.
    pub xdp: Option<u32>,
}

impl Link {
    /// Reads an RTM_NEWLINK; `None` for any other message.
    pub fn read(message: &Message) -> Option<Self> {
        let fields = &message.fields;
        (message.kind == RTM_NEWLINK).then_some(Self {
            index: fields.number("ifi_index")?,
            name: fields.text("IFLA_IFNAME")?,
            altnames: fields.nest("IFLA_PROP_LIST").map(altnames).unwrap_or_default(),
            mac: fields.bytes("IFLA_ADDRESS").unwrap_or_default().to_vec(),
            arphrd: fields.number("ifi_type").and_then(|kind| kind.try_into().ok()).unwrap_or(0),
            mtu: fields.number("IFLA_MTU").unwrap_or(0),
            flags: fields.number("ifi_flags").unwrap_or(0),
            operstate: fields.number("IFLA_OPERSTATE").and_then(|state| state.try_into().ok()).unwrap_or(0),
            kind: fields.nest("IFLA_LINKINFO").and_then(|info| info.text("IFLA_INFO_KIND")),
            lower: fields.number("IFLA_LINK").filter(|index| *index != 0),
            lower_netns: fields.number("IFLA_LINK_NETNSID"),
            master: fields.number("IFLA_MASTER"),
            xdp: fields.nest("IFLA_XDP").and_then(|xdp| xdp.number("IFLA_XDP_PROG_ID")),
        })
    }
}

fn altnames(properties: &Fields) -> Vec<String> {
    properties.0.iter().filter_map(|field| field.value.text()).collect()
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addr {
    /// Device.
    pub index: u32,
    /// Our address.
    pub ip: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
    /// The other end's address, on a point-to-point device.
    pub peer: Option<IpAddr>,
    /// RT_SCOPE_*: 0 everywhere, 253 the link, 254 this host.
    pub scope: u8,
    /// IFA_F_*.
    pub flags: u32,
}

impl Addr {
    /// Reads an RTM_NEWADDR; `None` for any other message.
    ///
    /// IFA_LOCAL is ours and IFA_ADDRESS the peer's; where there is no peer, IPv4 sends both, equal, and IPv6
    /// only IFA_ADDRESS.
    pub fn read(message: &Message) -> Option<Self> {
        let fields = &message.fields;
        let small = |name| fields.number(name).unwrap_or(0).try_into().ok();
        let address = fields.ip("IFA_ADDRESS");
        let ip = fields.ip("IFA_LOCAL").or(address).filter(|_| message.kind == RTM_NEWADDR)?;
        Some(Self {
            index: fields.number("ifa_index")?,
            ip,
            prefix: small("ifa_prefixlen")?,
            peer: address.filter(|address| *address != ip),
            scope: small("ifa_scope")?,
            flags: fields.number("IFA_FLAGS").or(fields.number("ifa_flags")).unwrap_or(0),
        })
    }
}

/// The address that stands for a device: the first global one that is usable, in the order of the dump, which
/// lists primary addresses before secondary ones. `None` if the device has none of this family.
pub fn primary(addrs: &[Addr], index: u32, ipv6: bool) -> Option<&Addr> {
    const UNUSABLE: u32 = IFA_F_SECONDARY | IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED;
    let ours = addrs.iter().filter(|addr| addr.index == index && addr.ip.is_ipv6() == ipv6);
    ours.into_iter().find(|addr| addr.scope == RT_SCOPE_UNIVERSE && addr.flags & UNUSABLE == 0)
}

/// Asks for every device of the namespace.
pub fn link_dump() -> Message {
    Message::new(RTM_GETLINK, DUMP, Fields::default().with("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS))
}

/// Asks for one device by its number; ENODEV if there is none.
pub fn link_get(index: u32) -> Message {
    let fields = Fields::default().head("ifi_index", index);
    Message::new(RTM_GETLINK, CHANGE, fields.with("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS))
}

/// Asks for one device by its name or one of its further names; ENODEV if there is none.
pub fn link_named(name: &str) -> Message {
    // The kernel takes up to 15 bytes of IFLA_IFNAME and looks there for both sorts of names.
    let attr = if name.len() <= 15 { "IFLA_IFNAME" } else { "IFLA_ALT_IFNAME" };
    let fields = Fields::default().with(attr, name).with("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS);
    Message::new(RTM_GETLINK, CHANGE, fields)
}

/// Asks for every address of both families, of one device or (0) of all.
pub fn addr_dump(index: u32) -> Message {
    Message::new(RTM_GETADDR, DUMP, Fields::default().head("ifa_index", index))
}

/// Makes a pair of virtual devices; `netns` is the symbol of a descriptor of the namespace `peer` goes to, or
/// `None` for our own. EEXIST if one of the names is taken.
pub fn veth_add(name: &str, peer: &str, netns: Option<&str>) -> Message {
    let mut other = Fields::default().with("IFLA_IFNAME", peer);
    if let Some(netns) = netns {
        other.push("IFLA_NET_NS_FD", symbol(netns));
    }
    let data = Fields::default().with("VETH_INFO_PEER", other);
    let info = Fields::default().with("IFLA_INFO_KIND", "veth").with("IFLA_INFO_DATA", data);
    let fields = Fields::default().with("IFLA_IFNAME", name).with("IFLA_LINKINFO", info);
    Message::new(RTM_NEWLINK, CHANGE | NLM_F_CREATE | NLM_F_EXCL, fields)
}

/// Switches a device on.
pub fn link_up(index: u32) -> Message {
    let fields = Fields::default().head("ifi_index", index).head("ifi_flags", IFF_UP);
    Message::new(RTM_NEWLINK, CHANGE, fields.head("ifi_change", IFF_UP))
}

/// Gives a device a link-layer address.
pub fn link_address(index: u32, mac: [u8; 6]) -> Message {
    let fields = Fields::default().head("ifi_index", index);
    Message::new(RTM_NEWLINK, CHANGE, fields.with("IFLA_ADDRESS", Value::Bytes(mac.to_vec())))
}

/// Removes a device; of a veth, both ends.
pub fn link_del(index: u32) -> Message {
    Message::new(RTM_DELLINK, CHANGE, Fields::default().head("ifi_index", index))
}

/// Gives a device an address. IPv6 duplicate detection is skipped: it would keep the address unusable for a
/// second or two.
pub fn addr_add(index: u32, ip: IpAddr, prefix: u8) -> Message {
    let mut fields = Fields::default()
        .head("ifa_family", family(ip))
        .head("ifa_prefixlen", prefix.into())
        .head("ifa_index", index)
        .with("IFA_LOCAL", ip)
        .with("IFA_ADDRESS", ip);
    if ip.is_ipv6() {
        fields.push("IFA_FLAGS", IFA_F_NODAD);
    }
    Message::new(RTM_NEWADDR, CHANGE | NLM_F_CREATE | NLM_F_EXCL, fields)
}

/// Adds a route to the main table: to `destination`/`prefix` (the unspecified address and 0: the default
/// route) through a device, by a gateway or, with `None`, directly.
pub fn route_add(destination: IpAddr, prefix: u8, index: u32, gateway: Option<IpAddr>) -> Message {
    let direct = gateway.is_none() && destination.is_ipv4();
    let mut fields = Fields::default()
        .head("rtm_family", family(destination))
        .head("rtm_dst_len", prefix.into())
        .head("rtm_table", RT_TABLE_MAIN)
        .head("rtm_protocol", RTPROT_STATIC)
        .head("rtm_scope", if direct { RT_SCOPE_LINK } else { 0 })
        .head("rtm_type", RTN_UNICAST);
    if prefix != 0 {
        fields.push("RTA_DST", destination);
    }
    if let Some(gateway) = gateway {
        fields.push("RTA_GATEWAY", gateway);
    }
    Message::new(RTM_NEWROUTE, CHANGE | NLM_F_CREATE | NLM_F_EXCL, fields.with("RTA_OIF", index))
}

fn family(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 10,
    }
}

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;

/// Leaves IFLA_STATS* out of the answer, half of its bytes.
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u32 = 253;
const RT_TABLE_MAIN: u32 = 254;
const RTPROT_STATIC: u32 = 4;
const RTN_UNICAST: u32 = 1;
const IFA_F_SECONDARY: u32 = 0x1;
const IFA_F_NODAD: u32 = 0x2;
const IFA_F_DADFAILED: u32 = 0x8;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
