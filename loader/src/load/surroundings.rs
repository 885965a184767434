// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! This machine and a device -> what works beside detour or against it; reads only, each read noted.
use crate::load::facts::{Bpffs, Facts};
use crate::load::gather;
use crate::load::netlink::Socket;
use crate::load::nft;
use crate::load::refusal::Refusal;
use crate::load::rtnl::{self, Link};
use detour_sys::ethtool;
use nix::sys::resource::{getrlimit, Resource};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

/// What the whole machine is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// `uname -r`, major and minor number.
    pub release: (String, (u32, u32)),
    /// Effective capabilities, bit by number.
    pub capabilities: u64,
    /// Whether they are of another user namespace than the machine's own.
    pub contained: bool,
    /// The level in brackets in /sys/kernel/security/lockdown.
    pub lockdown: Option<String>,
    /// Security modules in force.
    pub lsm: Option<String>,
    /// kernel.unprivileged_bpf_disabled: 0 anybody may load programs.
    pub unprivileged_bpf: Option<u32>,
    /// net.core.bpf_jit_enable.
    pub jit: Option<u32>,
    /// kernel.bpf_stats_enabled.
    pub stats: Option<u32>,
    /// RLIMIT_MEMLOCK, soft, in bytes.
    pub memlock: u64,
    /// The BPF file system.
    pub bpffs: Bpffs,
    /// Chains of nftables that translate what arrives, or why that is not known.
    pub nat_chains: Result<Vec<String>, String>,
    /// Whether the `nat` table of the older iptables is there.
    pub iptables_nat: bool,
    /// The reads.
    pub reads: Vec<String>,
}

/// What a device is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearby {
    /// As for a plan.
    pub facts: Facts,
    /// The device.
    pub link: Link,
    /// net.ipv4.conf: the greater of `all` and the device's, as the kernel takes it.
    pub rp_filter: u32,
    /// net.ipv6.conf.all.forwarding.
    pub forwards_v6: bool,
    /// Whether the device completes transport checksums of what leaves; None where it does not say.
    pub tx_checksum: Option<bool>,
    /// Whether it merges what arrives for good.
    pub lro: bool,
}

const USER_NAMESPACE: &str = "/proc/self/ns/user";
/// PROC_USER_INIT_INO of include/linux/proc_ns.h.
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// Reads the first.
pub fn machine() -> Result<Surroundings, Refusal> {
    let mut reads = Vec::new();
    let machine = gather::machine()?;
    let mut text = |path: &str| {
        reads.push(format!("read({path})"));
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let mut sysctl = |name: &str| text(&format!("/proc/sys/{name}"))?.parse().ok();
    let (unprivileged_bpf, jit, stats) = (
        sysctl("kernel/unprivileged_bpf_disabled"),
        sysctl("net/core/bpf_jit_enable"),
        sysctl("kernel/bpf_stats_enabled"),
    );
    let status = text(gather::STATUS).unwrap_or_default();
    let lockdown = text("/sys/kernel/security/lockdown").and_then(|levels| in_brackets(&levels));
    let lsm = text("/sys/kernel/security/lsm");
    let tables = text("/proc/net/ip_tables_names").unwrap_or_default();
    reads.push(format!("stat({USER_NAMESPACE})"));
    let user = fs::metadata(USER_NAMESPACE).ok().map(|namespace| namespace.ino());
    reads.push("getrlimit(RLIMIT_MEMLOCK)".into());
    reads.push("NFT_MSG_GETCHAIN".into());
    Ok(Surroundings {
        release: (machine.release.clone(), machine.version()),
        capabilities: gather::capabilities(&status).unwrap_or(0),
        contained: user.is_some_and(|inode| inode != FIRST_USER_NAMESPACE),
        lockdown,
        lsm,
        unprivileged_bpf,
        jit,
        stats,
        memlock: getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft),
        bpffs: gather::bpffs(),
        nat_chains: nft::nat_chains().map_err(|error| error.to_string()),
        iptables_nat: tables.lines().any(|table| table == "nat"),
        reads,
    })
}

/// Reads the second; `facts` are those of the device.
pub fn nearby(socket: &mut Socket, facts: Facts) -> Result<Nearby, Refusal> {
    let refused = |e: crate::load::netlink::NetlinkError| {
        Refusal::new(crate::load::refusal::Stage::Kernel, e.to_string(), "")
    };
    let reply = socket.request(&rtnl::link_get(facts.device.ifindex)).map_err(refused)?;
    let missing = || Refusal::nothing("device", &facts.device.name);
    let link = reply.messages.iter().find_map(Link::read).ok_or_else(missing)?;
    let sysctl =
        |path: String| fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?.trim().parse::<u32>().ok();
    let rp_filter = |of: &str| sysctl(format!("ipv4/conf/{of}/rp_filter")).unwrap_or(0);
    let rp_filter = rp_filter("all").max(rp_filter(&facts.device.name));
    let ask = |command| ethtool::value(socket.as_fd(), &facts.device.name, command).ok();
    Ok(Nearby {
        rp_filter,
        forwards_v6: sysctl("ipv6/conf/all/forwarding".into()) == Some(1),
        tx_checksum: ask(ethtool::TX_CHECKSUM).map(|on| on != 0),
        lro: ask(ethtool::FLAGS).is_some_and(|flags| flags & ethtool::FLAG_LRO != 0),
        facts,
        link,
    })
}

/// `none [integrity] confidentiality` -> `integrity`
fn in_brackets(levels: &str) -> Option<String> {
    Some(levels.split_once('[')?.1.split_once(']')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read_as_they_are_written() {
        let status = "Name:\tx\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n";
        assert_eq!(gather::capabilities(status), Some(0x1ff_ffff_ffff));
        assert_eq!(gather::capabilities("CapEff: none"), None);
        assert_eq!(in_brackets("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(in_brackets("none"), None);
    }
}
