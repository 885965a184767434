// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Options, rules and facts -> what `up` sets, sizes and writes in the object's maps, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::load::create::Write;
use crate::load::facts::Facts;
use crate::load::rtnl::Addr;

use super::abi::Cfg;
use super::classify::{self, Own, TableError};
use super::clock::{a_tick, tick_shift, ticks};
use super::codes;
use super::link;
use super::options::{Options, WhenFull};
use super::rules::{self, Family, Rule, Verdict};

/// What the object is given before it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Assignments to frozen variables, `cfg.hz=250`, for `Object::set`.
    pub settings: Vec<String>,
    /// Maps and their numbers of entries.
    pub sizes: Vec<(String, u32)>,
    /// Elements to write.
    pub writes: Vec<Write>,
}

/// Why there is nothing to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// The rules do not become a table.
    Table(TableError),
    /// The device's frames cannot be read: its link type, and why.
    Device(u16, &'static str),
    /// A rule masquerades towards a server that is not behind the device: the server, and where it is.
    Masquerade(IpAddr, &'static str),
    /// Sealed, but flows that find no room shall pass.
    Leak,
    /// An option is 0 or makes a map larger than any map can be.
    Option(&'static str),
}

/// All of it for one device. The rule table goes into `rules_0`, which the object's outer map names.
///
/// # Errors
/// As [`ControlError`] says.
pub fn control(options: &Options, rules: &[Rule], facts: &Facts) -> Result<Control, ControlError> {
    masquerade(options, rules, facts)?;
    let cfg = cfg(options, facts)?;
    let own = own(facts);
    let table = classify::table(rules, own, FIRST_GENERATION).map_err(ControlError::Table)?;
    let locals = locals(rules, facts);
    let sizes = sizes(options, &cfg, locals.len()).ok_or(ControlError::Option("the number of flows"))?;
    let mut writes = vec![Write { map: "rules_0".to_owned(), key: vec![0; 4], value: table }];
    writes.extend(locals);
    Ok(Control { settings: settings(&cfg), sizes, writes })
}

/// Whoever masquerades sends packets back through the device they came from, so the server must be there.
fn masquerade(options: &Options, rules: &[Rule], facts: &Facts) -> Result<(), ControlError> {
    for rule in rules {
        let Verdict::Dnat { to, masquerade: true, .. } = rule.verdict else { continue };
        if options.vlan {
            return Err(ControlError::Masquerade(to, "perhaps behind a VLAN of --vlan any"));
        }
        if facts.addresses.iter().any(|a| a.ip == to) {
            return Err(ControlError::Masquerade(to, "an address of this machine"));
        }
        let near = facts.addresses.iter().filter(|a| on_link(a, to)).max_by_key(|a| a.prefix);
        if near.is_some_and(|a| a.index != facts.device.ifindex) {
            return Err(ControlError::Masquerade(to, "behind another device"));
        }
    }
    Ok(())
}

/// Whether `to` is in the network of this address.
fn on_link(address: &Addr, to: IpAddr) -> bool {
    let family = Family::of(to);
    let host_bits = family.bits().saturating_sub(address.prefix.into());
    let network = |ip| rules::number(ip).checked_shr(host_bits).unwrap_or(0);
    Family::of(address.ip) == family && network(address.ip) == network(to)
}

/// Where `redirect` leads on this device: its primary address of each family; on lo 127.0.0.1 and ::1, as nft's does for
/// what this machine sends.
pub fn own(facts: &Facts) -> Own {
    if facts.device.arphrd == link::LOOPBACK {
        return Own { v4: Some(Ipv4Addr::LOCALHOST), v6: Some(Ipv6Addr::LOCALHOST) };
    }
    let mut own = Own::default();
    for address in [false, true].into_iter().filter_map(|ipv6| facts.own_address(ipv6)) {
        match address {
            IpAddr::V4(v4) => own.v4 = Some(v4),
            IpAddr::V6(v6) => own.v6 = Some(v6),
        }
    }
    own
}

/// The frozen configuration.
fn cfg(options: &Options, facts: &Facts) -> Result<Cfg, ControlError> {
    let choices = [
        (options.half_open, "the number of half-open flows"),
        (options.confirmed, "the number of flows"),
        (options.asked, "the number of rows of asked"),
    ];
    if options.sealed && options.when_full == WhenFull::Pass {
        return Err(ControlError::Leak);
    }
    if let Some((_, name)) = choices.iter().find(|(number, _)| *number == 0) {
        return Err(ControlError::Option(name));
    }
    let (hz, tick_shift) = (facts.machine.hz, tick_shift(facts.machine.hz));
    let idle = |seconds| ticks(seconds, hz, tick_shift);
    let arphrd = facts.device.arphrd;
    let l2_len = link::header_len(arphrd).map_err(|reason| ControlError::Device(arphrd, reason))?;
    if options.vlan && l2_len == 0 {
        return Err(ControlError::Device(arphrd, "its frames have no VLAN tags"));
    }
    let half_slots6 = (options.half_open / IPV6_SHARE).max(1);
    let confirmed_slots6 =
        confirmed6(facts.machine.possible_cpus, half_slots6, (options.confirmed / IPV6_SHARE).max(1));
    let lo = arphrd == link::LOOPBACK;
    // On lo answers arrive, too: nothing there tells a client's segment in mid-stream.
    let pickup = |forwards: bool| !lo && !options.monitor && options.pickup.unwrap_or(!forwards);
    // Only where no packet comes in elsewhere and leaves here was every SYN seen that is answered here.
    let tracked = |ipv6: bool, forwards: bool| {
        let elsewhere = |a: &Addr| a.index != facts.device.ifindex && !a.ip.is_loopback();
        let elsewhere = facts.addresses.iter().any(|a| a.ip.is_ipv6() == ipv6 && elsewhere(a));
        !lo && !options.monitor && !forwards && !elsewhere
    };
    let choices = [
        (options.monitor, codes::CFG_MONITOR),
        (pickup(facts.ip_forward), codes::CFG_PICKUP4),
        (tracked(false, facts.ip_forward), codes::CFG_SYN_TRACKED4),
        (pickup(facts.ip6_forward), codes::CFG_PICKUP6),
        (tracked(true, facts.ip6_forward), codes::CFG_SYN_TRACKED6),
        (options.vlan, codes::CFG_VLAN),
        (lo, codes::CFG_LOOPBACK),
        (options.sealed, codes::CFG_SEALED),
        (options.when_full == WhenFull::Drop, codes::CFG_FULL_DROP),
        (options.when_full == WhenFull::Reject, codes::CFG_FULL_REJECT),
        (options.when_full == WhenFull::Pass, codes::CFG_FULL_PASS),
    ];
    Ok(Cfg {
        schema: codes::SCHEMA,
        flags: choices.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag),
        l2_len,
        hz,
        tick_shift,
        cpus: facts.machine.possible_cpus,
        half_slots4: options.half_open,
        confirmed_slots4: options.confirmed,
        half_slots6,
        confirmed_slots6,
        asked_rows: (options.asked / CLIENT_SHARE).max(1),
        tcp_established: idle(options.timeouts.tcp_established),
        tcp_transitory: idle(options.timeouts.tcp_transitory),
        udp: idle(options.timeouts.udp),
        icmp: idle(options.timeouts.icmp),
        port_first: PORT_FIRST,
        port_count: PORT_COUNT,
        ip_frag: idle(options.timeouts.ip_frag),
        generic: idle(options.timeouts.generic),
        client_new: a_tick(options.client_new, hz, tick_shift),
        client_live: options.client_live,
    })
}

/// Confirmed slots of IPv6, at least its `share`: a hash table has a power of two of buckets, and where the index would
/// leave more than a quarter of them unused, as many slots as it has buckets for are worth more than the memory they take.
/// Not where that would more than double the share: who wants a small table gets one.
fn confirmed6(cpus: u32, half: u32, share: u32) -> u32 {
    let fuller = || {
        let half = cpus.checked_mul(half)?;
        let entries = index_entries(half.checked_add(share)?)?;
        let filled = (entries.checked_next_power_of_two()? / 4).saturating_mul(3);
        (filled.saturating_sub(INDEX_SPARE) / 2).checked_sub(half)
    };
    fuller().filter(|more| (share..=share.saturating_mul(2)).contains(more)).unwrap_or(share)
}

/// Two keys a flow, and room for keys of flows that several CPUs are about to open.
fn index_entries(slots: u32) -> Option<u32> {
    slots.checked_mul(2)?.checked_add(INDEX_SPARE)
}

/// Assignments of every field, `cfg.hz=250`.
pub fn settings(cfg: &Cfg) -> Vec<String> {
    let fields = [
        ("schema", cfg.schema),
        ("flags", cfg.flags),
        ("l2_len", cfg.l2_len),
        ("hz", cfg.hz),
        ("tick_shift", cfg.tick_shift),
        ("cpus", cfg.cpus),
        ("half_slots4", cfg.half_slots4),
        ("confirmed_slots4", cfg.confirmed_slots4),
        ("half_slots6", cfg.half_slots6),
        ("confirmed_slots6", cfg.confirmed_slots6),
        ("asked_rows", cfg.asked_rows),
        ("tcp_established", cfg.tcp_established),
        ("tcp_transitory", cfg.tcp_transitory),
        ("udp", cfg.udp),
        ("icmp", cfg.icmp),
        ("port_first", cfg.port_first),
        ("port_count", cfg.port_count),
        ("ip_frag", cfg.ip_frag),
        ("generic", cfg.generic),
        ("client_new", cfg.client_new),
        ("client_live", cfg.client_live),
    ];
    fields.iter().map(|(name, value)| format!("cfg.{name}={value}")).collect()
}

/// Sizes that agree with the configuration; `None` when one is beyond 32 bits.
fn sizes(options: &Options, cfg: &Cfg, locals: usize) -> Option<Vec<(String, u32)>> {
    let slots = |half: u32, confirmed| cfg.cpus.checked_mul(half)?.checked_add(confirmed);
    let slots4 = slots(cfg.half_slots4, cfg.confirmed_slots4)?;
    let slots6 = slots(cfg.half_slots6, cfg.confirmed_slots6)?;
    // Addresses and targets may be added later.
    let locals = u32::try_from(locals).ok()?.checked_mul(2)?.max(1024);
    let clients = (options.asked / 4).max(1);
    // Nobody is counted without a limit.
    let counted = if cfg.client_new == 0 && cfg.client_live == 0 { 1 } else { options.clients };
    let sizes = [
        ("idx4", index_entries(slots4)?),
        ("slots4", slots4),
        ("local4", locals),
        ("idx6", index_entries(slots6)?),
        ("slots6", slots6),
        ("local6", locals),
        ("asked", options.asked),
        ("asked_clients", clients),
        ("clients", counted),
    ];
    Some(sizes.map(|(map, entries)| (map.to_owned(), entries)).to_vec())
}

/// Elements of `local4` and `local6`: what each address is to us, in the order of the addresses.
pub fn locals(rules: &[Rule], facts: &Facts) -> Vec<Write> {
    let mut flags: BTreeMap<IpAddr, u32> = BTreeMap::new();
    let mut mark = |address: IpAddr, flag| *flags.entry(address).or_default() |= flag;
    for address in &facts.addresses {
        mark(address.ip, codes::LOCAL_OWN);
        if let Some(everybody) = everybody(address) {
            mark(everybody, codes::LOCAL_BROADCAST);
        }
    }
    let own = own(facts);
    for rule in rules {
        match rule.verdict {
            Verdict::Dnat { to, .. } => mark(to, codes::LOCAL_TARGET),
            Verdict::Redirect { .. } => {
                let own = own.v4.map(IpAddr::V4).into_iter().chain(own.v6.map(IpAddr::V6));
                own.for_each(|target| mark(target, codes::LOCAL_TARGET));
            }
            _ => {}
        }
    }
    let write = |(address, flags): (IpAddr, u32)| {
        let key = octets(address);
        Write { map: local_map(&key).to_owned(), key, value: flags.to_ne_bytes().to_vec() }
    };
    flags.into_iter().map(write).collect()
}

/// The map that holds a local address, `key` in network order.
pub fn local_map(key: &[u8]) -> &'static str {
    if key.len() == 4 {
        "local4"
    } else {
        "local6"
    }
}

/// What rules ask for that this machine would not do as it is set, one sentence each with its mend.
pub fn notes(rules: &[Rule], facts: &Facts) -> Vec<String> {
    let mut notes = Vec::new();
    if rules.is_empty() {
        notes.push("no rules: nothing is translated, everything is recorded in 'asked'".to_owned());
    }
    let here = |to: IpAddr| facts.addresses.iter().any(|a| a.ip == to);
    let device = &facts.device.name;
    for rule in rules {
        let Verdict::Dnat { to, masquerade: false, .. } = rule.verdict else { continue };
        let (forwards, sysctl) = match to {
            IpAddr::V4(_) => (facts.ip_forward, "net.ipv4.ip_forward=1"),
            IpAddr::V6(_) => (facts.ip6_forward, "net.ipv6.conf.all.forwarding=1"),
        };
        if to.is_loopback() && facts.device.arphrd == link::LOOPBACK {
            continue;
        }
        if to == IpAddr::V6(Ipv6Addr::LOCALHOST) {
            notes.push(format!(
                "'{rule}': the kernel drops packets to ::1 that come from {device}, whatever its settings: \
                 take an address of this machine"
            ));
        } else if to.is_loopback() && !facts.route_localnet {
            notes.push(format!(
                "'{rule}': the kernel drops packets to {to} that come from {device}: \
                 sysctl net.ipv4.conf.{device}.route_localnet=1 (it opens every loopback service to them), or another address"
            ));
        } else if !to.is_loopback() && !here(to) && !forwards {
            notes.push(format!(
                "'{rule}': {to} is another host, and this one does not forward: sysctl {sysctl}, \
                 and its answers must come back through this device"
            ));
        }
    }
    notes
}

/// Whether the machine's addresses are others than those that `locals`, elements of `local4` and `local6`, hold as its own.
pub fn own_changed(locals: &[(Vec<u8>, Vec<u8>)], facts: &Facts) -> bool {
    let is_own = |value: &[u8]| value.first().is_some_and(|flags| u32::from(*flags) & codes::LOCAL_OWN != 0);
    let known: BTreeSet<&[u8]> =
        locals.iter().filter(|(_, v)| is_own(v)).map(|(k, _)| k.as_slice()).collect();
    let present: Vec<Vec<u8>> = facts.addresses.iter().map(|address| octets(address.ip)).collect();
    known != present.iter().map(Vec::as_slice).collect()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The address of a network that is nobody's alone. IPv4: the highest, for broadcast. IPv6: the lowest, for any router (RFC
/// 4291, 2.6.1). Networks of one or two addresses have none (RFC 3021, RFC 6164).
fn everybody(address: &Addr) -> Option<IpAddr> {
    match address.ip {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(address.prefix.into()).filter(|host| *host > 1)?;
            Some(IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() | host)))
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(address.prefix.into()).filter(|host| *host > 1)?;
            Some(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !host)))
        }
    }
}

impl std::error::Error for ControlError {}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Table(error) => error.fmt(f),
            Self::Device(arphrd, reason) => write!(f, "link type {arphrd}: {reason}"),
            Self::Masquerade(to, place) => {
                write!(f, "{to} is {place}: masquerade is for servers that clients share this device with")
            }
            Self::Leak => f.write_str("--sealed lets nothing pass untranslated, --when-full pass does"),
            Self::Option(what) => write!(f, "{what} is 0 or beyond what a map can hold"),
        }
    }
}

/// Of the rules that `up` writes; a reload makes it one more.
pub const FIRST_GENERATION: u32 = 1;
/// One client owns at most a sixteenth of `asked`.
const CLIENT_SHARE: u32 = 16;
/// Elements of an index beyond two for each slot.
const INDEX_SPARE: u32 = 1024;
/// Flows over IPv6 get at least a quarter of the room of those over IPv4.
const IPV6_SHARE: u32 = 4;
/// Ports that Linux clients do not choose by themselves (net.ipv4.ip_local_port_range ends at 60999).
const PORT_FIRST: u32 = 61000;
/// Up to 65535.
const PORT_COUNT: u32 = 4536;

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
