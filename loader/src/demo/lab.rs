// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A process to a client and a gateway: two network namespaces, a cable between them, and a private BPF file system.
//!
//! The gateway is where this process is from then on; the client is elsewhere. All of it is made by steps of the same
//! kind as those of `up`, done by the same interpreter.
use crate::demo::netns::{self, Netns};
use crate::load::exec;
use crate::load::explain::explain;
use crate::load::home::BPFFS;
use crate::load::message::Message;
use crate::load::netlink::{NetlinkError, Socket};
use crate::load::plan::Plan;
use crate::load::refusal::{Refusal, Stage};
use crate::load::rtnl::{self, Link};
use crate::load::step::{Effect, Step};
use crate::load::symbols::{Handle, Symbols};
use std::net::{IpAddr, Ipv4Addr};

/// The gateway's address; this and the client's are from a block that documentation is free to use (RFC 5737).
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The gateway's end of the cable.
pub const DEVICE: &str = "gw0";

/// The client's end.
const CLIENT_DEVICE: &str = "eth0";
/// The symbol of the client's namespace.
const CLIENT_NETNS: &str = "%client";
/// Bits of the network that both are in.
const PREFIX: u8 = 24;
/// The number of `lo`, the same in every namespace (LOOPBACK_IFINDEX in include/net/flow.h).
const LOOPBACK: u32 = 1;

/// The client's namespace, and how everything came to be.
#[derive(Debug)]
pub struct Lab {
    /// Where the client lives.
    pub client: Netns,
    /// What was done, in this order, and in whose namespace.
    pub done: Vec<(&'static str, Plan)>,
}

impl Lab {
    /// Makes it. To be called while the process has one thread.
    ///
    /// # Errors
    /// Those of [`netns::leave`], and the kernel's refusal of a step.
    pub fn new() -> Result<Lab, Refusal> {
        netns::leave()?;
        let client = Netns::new().map_err(|e| broken("make the client's namespace", &e))?;
        let opened = client.within(Socket::open).map_err(|e| broken("enter the client's namespace", &e))?;
        let (mut here, mut there) = (Socket::open().map_err(refused)?, opened.map_err(refused)?);
        let mut lab = Lab { client, done: Vec::new() };
        lab.make("gateway", cable(), &mut here)?;
        let (ours, theirs) = (index(&mut here, DEVICE)?, index(&mut there, CLIENT_DEVICE)?);
        lab.make("gateway", host(ours, GATEWAY), &mut here)?;
        let way_out = rtnl::route_add(Ipv4Addr::UNSPECIFIED.into(), 0, theirs, Some(GATEWAY.into()));
        let mut client = host(theirs, CLIENT);
        client.push(Effect::Netlink(way_out).into());
        lab.make("client", client, &mut there)?;
        lab.let_ping();
        Ok(lab)
    }

    /// Does steps in the namespace that `socket` belongs to. None of them is undone: all go with the namespaces.
    fn make(&mut self, place: &'static str, steps: Vec<Step>, socket: &mut Socket) -> Result<(), Refusal> {
        let descriptor =
            self.client.descriptor().map_err(|e| broken("keep hold of the client's namespace", &e))?;
        let mut symbols = Symbols::default();
        symbols.set_handle(CLIENT_NETNS, Handle::Other(descriptor));
        let plan = Plan { steps, notes: Vec::new() };
        exec::run_with(symbols, &plan, socket, &mut |_| {})
            .map_err(|failure| explain(&plan, &failure, None, false))?;
        self.done.push((place, plan));
        Ok(())
    }

    /// A new namespace allows nobody to open a socket for echo requests; this one allows it to everybody. Where /proc/sys
    /// cannot be written to, the client will say so.
    fn let_ping(&mut self) {
        const RANGE: &str = "/proc/sys/net/ipv4/ping_group_range";
        let _ = self.client.within(|| std::fs::write(RANGE, "0 2147483647"));
        if let Some((_, plan)) = self.done.last_mut() {
            plan.notes.push(format!("{RANGE} there is opened to everybody, for the ping"));
        }
    }
}

/// What `up` wants to find, and the cable to the client.
fn cable() -> Vec<Step> {
    let cable = rtnl::veth_add(DEVICE, CLIENT_DEVICE, Some(CLIENT_NETNS));
    vec![Effect::MountBpffs(BPFFS.to_string()).into(), Effect::Netlink(cable).into()]
}

/// What makes a host of a namespace.
fn host(index: u32, address: Ipv4Addr) -> Vec<Step> {
    let address = rtnl::addr_add(index, IpAddr::V4(address), PREFIX);
    let messages: [Message; 3] = [rtnl::link_up(LOOPBACK), address, rtnl::link_up(index)];
    messages.map(|message| Effect::Netlink(message).into()).into()
}

/// The number that the kernel gave to a device.
fn index(socket: &mut Socket, name: &str) -> Result<u32, Refusal> {
    let reply = socket.request(&rtnl::link_named(name)).map_err(refused)?;
    let link = reply.read(Link::read).into_iter().next();
    link.map(|link| link.index)
        .ok_or_else(|| Refusal::new(Stage::Kernel, format!("{name} has no number"), ""))
}

fn refused(error: NetlinkError) -> Refusal {
    Refusal::new(Stage::Kernel, error.to_string(), "")
}

fn broken(what: &str, error: &std::io::Error) -> Refusal {
    Refusal::new(Stage::Kernel, format!("cannot {what}: {error}"), "")
}
