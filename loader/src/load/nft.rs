// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The chains of nftables that translate what arrives -> their names. Reads only; the kernel may load nf_tables for it.
//!
//! One dump, NFT_MSG_GETCHAIN (include/uapi/linux/netfilter/nf_tables.h), on a socket of its own; needs CAP_NET_ADMIN.
use crate::load::nla::{Attr, Layout, Shape};
use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{protocols::NETLINK_NETFILTER, Socket, SocketAddr};
use std::io;

/// NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN.
const GETCHAIN: u16 = 10 << 8 | 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// NLM_F_REQUEST | NLM_F_DUMP.
const DUMP: u16 = 0x301;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const REQUEST: usize = 20;
/// A dump of chains comes in datagrams of at most this, and more of them than this nobody has.
const DATAGRAM: usize = 1 << 16;
const DATAGRAMS: usize = 10_000;

static CHAIN: Layout = Layout {
    size: 4,
    head: &[],
    attrs: &[
        Attr("NFTA_CHAIN_TABLE", 1, Shape::Text),
        Attr("NFTA_CHAIN_NAME", 3, Shape::Text),
        Attr("NFTA_CHAIN_HOOK", 4, Shape::Nest(&HOOK)),
        Attr("NFTA_CHAIN_TYPE", 7, Shape::Text),
    ],
};

/// Numbers are in network order here; the one that is asked for, prerouting, is 0.
static HOOK: Layout = Layout { size: 0, head: &[], attrs: &[Attr("NFTA_HOOK_HOOKNUM", 1, Shape::U32)] };

/// `table chain` of every chain of type nat at prerouting, in the network namespace of this thread.
pub fn nat_chains() -> io::Result<Vec<String>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    let mut request = vec![0; REQUEST];
    let mut header = NetlinkBuffer::new(&mut request);
    header.set_length(20);
    header.set_message_type(GETCHAIN);
    header.set_flags(DUMP);
    header.set_sequence_number(1);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    let mut chains = Vec::new();
    for _ in 0..DATAGRAMS {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        socket.recv(&mut datagram, 0)?;
        if take(&datagram, &mut chains)? {
            return Ok(chains);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Reads one datagram; whether the dump ends with it.
fn take(datagram: &[u8], chains: &mut Vec<String>) -> io::Result<bool> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut rest = datagram;
    while !rest.is_empty() {
        let header = NetlinkBuffer::new_checked(rest).map_err(|_| broken())?;
        let (kind, payload) = (header.message_type(), header.payload());
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let errno = payload.first_chunk().map(|b| i32::from_ne_bytes(*b)).ok_or_else(broken)?;
                return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
            }
            _ => chains.extend(nat_chain(payload)),
        }
        let length = usize::try_from(header.length()).map_err(|_| broken())?.next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(false)
}

fn nat_chain(payload: &[u8]) -> Option<String> {
    let fields = CHAIN.decode(payload).ok()?;
    let prerouting = fields.nest("NFTA_CHAIN_HOOK")?.number("NFTA_HOOK_HOOKNUM").unwrap_or(0) == 0;
    let nat = fields.text("NFTA_CHAIN_TYPE")? == "nat";
    let name = format!("{} {}", fields.text("NFTA_CHAIN_TABLE")?, fields.text("NFTA_CHAIN_NAME")?);
    (nat && prerouting).then_some(name)
}
