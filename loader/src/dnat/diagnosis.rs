// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a machine and a device are like -> findings: what hinders, what surprises, and how to mend it. Pure.
use crate::load::facts::{Bpffs, Facts};
use crate::load::rtnl::{Link, ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE, IFF_UP};
use crate::load::surroundings::{Nearby, Surroundings};
use crate::load::tc::{Filter, EGRESS, INGRESS};
use crate::load::tcx;
use crate::load::unpinned::{is_mixed, owner};
use nix::errno::Errno;
use std::collections::BTreeSet;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// It works, and may surprise.
    Odd,
    /// Something that `up` needs is missing.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How bad it is.
    pub state: State,
    /// What was found.
    pub what: String,
    /// How to mend it; empty for what is good.
    pub fix: String,
    /// The calls that found it out, where they were more than reads.
    pub calls: Vec<String>,
}

impl Finding {
    /// As it should be.
    pub fn good(check: &str, what: impl Into<String>) -> Finding {
        Finding::new(check, State::Good, what, "")
    }

    /// A finding of any kind.
    pub fn new(check: &str, state: State, what: impl Into<String>, fix: impl Into<String>) -> Finding {
        let (check, what, fix) = (check.to_owned(), what.into(), fix.into());
        Finding { check, state, what, fix, calls: Vec::new() }
    }
}

fn good_or(
    good: bool,
    check: &str,
    what: impl Into<String>,
    (state, bad, fix): (State, &str, &str),
) -> Finding {
    match good {
        true => Finding::good(check, what),
        false => Finding::new(check, state, bad, fix),
    }
}

/// include/uapi/linux/capability.h
const CAPABILITIES: [(u32, &str, State, &str); 4] = [
    (12, "CAP_NET_ADMIN", State::Bad, "nothing can be attached"),
    (38, "CAP_PERFMON", State::Bad, "the verifier refuses variable packet offsets"),
    (39, "CAP_BPF", State::Bad, "no map and no program can be made"),
    (21, "CAP_SYS_ADMIN", State::Odd, "-n, demo, find-by-id and the names of other people's programs"),
];

/// How a container's network is served.
const CONTAINED: &str = "as root outside of it: 'detour -n NETNS up DEV', NETNS such as /proc/PID/ns/net";

/// Of the machine.
pub fn machine(s: &Surroundings) -> Vec<Finding> {
    use State::{Bad, Odd};
    let (release, version) = (&s.release.0, s.release.1);
    let mut all = vec![good_or(
        version >= (5, 10),
        "kernel",
        release.as_str(),
        (Bad, &format!("{release} is older than 5.10"), "a newer kernel"),
    )];
    for (bit, name, state, without) in CAPABILITIES {
        let has = s.capabilities.checked_shr(bit).unwrap_or(0) & 1 == 1;
        if has && s.contained {
            let what = format!("of a user namespace only, for bpf(2) as good as missing: {without}");
            all.push(Finding::new(name, state, what, CONTAINED));
            continue;
        }
        let without = format!("missing: {without}");
        all.push(good_or(has, name, "there", (state, &without, "run as root, or give it to the service")));
    }
    all.push(match s.lockdown.as_deref() {
        Some("confidentiality") => Finding::new(
            "lockdown",
            Odd,
            "confidentiality: programs may not read kernel memory; detour's own never do",
            "for other people's objects that do: lockdown=integrity on the kernel's command line",
        ),
        level => Finding::good("lockdown", level.unwrap_or("none")),
    });
    all.push(Finding::good("security modules", s.lsm.as_deref().unwrap_or("not to be seen here")));
    all.push(good_or(
        s.unprivileged_bpf != Some(0),
        "unprivileged_bpf_disabled",
        s.unprivileged_bpf.map_or("not to be seen here".to_owned(), |n| n.to_string()),
        (Odd, "0: any user may load programs", "sysctl -w kernel.unprivileged_bpf_disabled=2"),
    ));
    all.push(good_or(
        s.jit != Some(0),
        "bpf_jit_enable",
        s.jit.map_or("not to be seen here".to_owned(), |n| n.to_string()),
        (Odd, "0: programs are interpreted, several times slower", "sysctl -w net.core.bpf_jit_enable=1"),
    ));
    all.push(good_or(
        s.stats.unwrap_or(0) == 0,
        "bpf_stats_enabled",
        "off",
        (Odd, "on: each run of a program takes some 40 ns more", "sysctl -w kernel.bpf_stats_enabled=0"),
    ));
    all.push(bpffs(&s.bpffs));
    let charged = version < (5, 11) && s.memlock != u64::MAX;
    all.push(match charged {
        true => Finding::new(
            "memlock",
            Odd,
            format!("maps count against {} bytes before Linux 5.11; 'up' raises it", s.memlock),
            "CAP_SYS_RESOURCE, or LimitMEMLOCK=infinity in the service",
        ),
        false => Finding::good("memlock", "does not limit maps"),
    });
    all.push(translators(s));
    all
}

fn bpffs(bpffs: &Bpffs) -> Finding {
    match bpffs.usable() {
        Ok(()) => Finding::good("bpffs", "mounted, root's alone to write"),
        Err(refusal) => Finding::new("bpffs", State::Bad, refusal.what, refusal.hint),
    }
}

/// Who else translates.
fn translators(s: &Surroundings) -> Finding {
    let chains = match &s.nat_chains {
        Ok(chains) => chains.clone(),
        Err(why) if s.capabilities >> 12 & 1 == 1 => {
            return Finding::good("other NAT", format!("no nftables here ({why})"))
        }
        Err(why) => {
            return Finding::new("other NAT", State::Odd, format!("not known: {why}"), "needs CAP_NET_ADMIN")
        }
    };
    let legacy = s.iptables_nat.then(|| "iptables nat PREROUTING".to_owned());
    let all: Vec<String> = chains.into_iter().map(|c| format!("nft {c}")).chain(legacy).collect();
    let what = format!("{} also translates what arrives, after detour", all.join(", "));
    let fix = "remove its rules for this device: 'nft list chains', 'iptables -t nat -L -v'";
    good_or(all.is_empty(), "other NAT", "none at prerouting", (State::Odd, &what, fix))
}

/// Where `up` runs on the device without pins it needs no BPF file system, for whatever changes it.
pub fn unpinned(findings: &mut [Finding], device: &str) {
    for finding in findings.iter_mut().filter(|f| f.check == "bpffs" && f.state == State::Bad) {
        let what = format!("{}; 'up' runs on {device} without pins, and needs none", finding.what);
        *finding = Finding::good("bpffs", what);
    }
}

/// Instances that are not as they were made.
fn broken(facts: &Facts) -> Vec<Finding> {
    let broken = facts.instances.iter().filter(|i| !facts.is_whole(i) || is_mixed(i));
    let names: BTreeSet<&str> = broken.map(|i| i.name.as_str()).collect();
    let device = &facts.device.name;
    let finding = |name: &str| {
        let what = format!("'{name}' is not as it was made: 'detour status {device}' says what is missing");
        Finding::new("instance", State::Odd, what, "the same 'up' or 'load' again, or 'down' or 'unload'")
    };
    names.into_iter().map(finding).collect()
}

/// Of a device; `prio` is that of our filters.
pub fn device(n: &Nearby, prio: u16) -> Vec<Finding> {
    use State::{Bad, Odd};
    let name = &n.facts.device.name;
    let mut all = vec![
        good_or(
            n.link.flags & IFF_UP != 0,
            "link",
            "on",
            (Odd, "switched off", &format!("ip link set {name} up")),
        ),
        good_or(
            [ARPHRD_ETHER, ARPHRD_LOOPBACK, ARPHRD_NONE].contains(&n.link.arphrd),
            "framing",
            if n.link.arphrd == ARPHRD_NONE { "none, layer 3" } else { "Ethernet" },
            (Bad, &format!("type {}: its frames are not understood", n.link.arphrd), "another device"),
        ),
    ];
    all.push(match n.facts.own_address(false) {
        Some(address) => Finding::good("address", format!("'redirect' means {address}")),
        None => Finding::new(
            "address",
            Odd,
            "none of IPv4: 'redirect' has no target",
            format!("ip address add ADDRESS/LENGTH dev {name}, or 'dnat to ADDRESS' in the rules"),
        ),
    });
    all.push(ports_of(n));
    all.extend(n.facts.hidden.iter().map(|instance| {
        let what = format!("'{instance}' runs and is pinned nowhere here: it may not be looked at");
        Finding::new("instance", Odd, what, "run as root, or with CAP_SYS_ADMIN")
    }));
    all.extend(broken(&n.facts));
    all.extend(foreign(n, prio));
    let hardware = n.facts.filters.iter().any(|f| f.bpf.as_ref().is_some_and(|b| b.flags_gen & IN_HW != 0));
    all.push(good_or(
        !hardware,
        "hardware offload",
        "no filter here runs in hardware",
        (
            Odd,
            "a filter runs in the device: what it takes, nothing here sees",
            &format!("ethtool -K {name} hw-tc-offload off"),
        ),
    ));
    all.push(good_or(
        n.rp_filter != 1,
        "rp_filter",
        n.rp_filter.to_string(),
        (
            Odd,
            "1, strict: clients that are not routed back through this device are dropped in silence",
            &format!("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{name}.rp_filter=2"),
        ),
    ));
    all.push(Finding::good(
        "route_localnet",
        if n.facts.route_localnet {
            "on: targets in 127.0.0.0/8 work"
        } else {
            "off: targets in 127.0.0.0/8 would be dropped, others work"
        },
    ));
    all.push(good_or(
        !n.facts.ip_forward,
        "ip_forward",
        "off: what no rule matches goes nowhere",
        (
            Odd,
            "on: what no rule matches is forwarded to where it was sent, out into the network",
            "sysctl -w net.ipv4.ip_forward=0, or let the rules end with 'drop'",
        ),
    ));
    all.push(good_or(
        !n.forwards_v6,
        "ipv6 forwarding",
        "off",
        (
            Odd,
            "on: IPv6 that no rule matches is forwarded to where it was sent",
            "sysctl -w net.ipv6.conf.all.forwarding=0, or let the rules end with 'drop'",
        ),
    ));
    all.push(Finding::good(
        "checksum offload",
        match n.tx_checksum {
            Some(true) => "on: the device completes checksums; detour keeps what it needs for that",
            Some(false) => "off: detour writes whole checksums",
            None => "the driver does not say; either way works",
        },
    ));
    all.push(good_or(
        !n.lro,
        "large receive offload",
        "off",
        (Odd, "on: packets are merged beyond what can be sent on", &format!("ethtool -K {name} lro off")),
    ));
    all
}

/// Of signatures of programs, by what the kernel answered to a program with one that is none. Nothing that needs mending.
pub fn signatures(answer: Option<Errno>) -> String {
    let kernel = match answer {
        None => "the kernel took a wrong one",
        Some(Errno::E2BIG) => "the kernel knows none (Linux 6.18)",
        Some(Errno::EOPNOTSUPP) => "the kernel was built without (CONFIG_SYSTEM_DATA_VERIFICATION)",
        Some(Errno::EPERM | Errno::EACCES) => "not tried without CAP_BPF",
        Some(_) => "the kernel could check some, of single programs (load --kernel-signatures)",
    };
    format!("{kernel}; --require-signature is checked by detour itself, not by the kernel")
}

/// Of the rules in force, by what `up` would say of them now: `WHAT: FIX` each.
pub fn in_force(notes: &[String]) -> Vec<Finding> {
    let finding = |note: &String| {
        let (what, fix) = note.rsplit_once(": ").unwrap_or((note, "'detour up' with other rules"));
        Finding::new("rules in force", State::Odd, what, fix)
    };
    match notes {
        [] => vec![Finding::good("rules in force", "nothing is in the way of their targets")],
        notes => notes.iter().map(finding).collect(),
    }
}

/// TCA_CLS_FLAGS_IN_HW.
const IN_HW: u32 = 4;

/// A port of a bridge or bond sees frames before that device does, and its own address is not the one they are sent to.
fn ports_of(n: &Nearby) -> Finding {
    let Link { master, .. } = n.link;
    let what =
        format!("a port of device {}: frames for that one's address are not ours here", master.unwrap_or(0));
    good_or(master.is_none(), "master", "none", (State::Odd, &what, "use the bridge or bond itself"))
}

/// Who runs before our filters, and could take packets away.
fn foreign(n: &Nearby, prio: u16) -> Vec<Finding> {
    let (mut all, name) = (Vec::new(), &n.facts.device.name);
    let xdp = n.link.xdp.map(|id| format!("program {id} sees what arrives first, and may drop or send on"));
    all.push(match xdp {
        Some(what) => {
            Finding::new("xdp", State::Odd, what, format!("if it is in the way: ip link set {name} xdp off"))
        }
        None => Finding::good("xdp", "none"),
    });
    let facts = &n.facts;
    for (hook, parent, attach) in [("ingress", INGRESS, tcx::INGRESS), ("egress", EGRESS, tcx::EGRESS)] {
        let hidden = |f: &Filter| facts.hidden.is_some() && owner(f).is_some();
        let ours = |f: &Filter| hidden(f) || facts.instances.iter().any(|i| facts.holds(i, f));
        let before = |f: &&Filter| f.place.parent == parent && f.place.prio <= prio && !ours(f);
        let filters =
            facts.filters.iter().filter(before).map(|f| format!("{} prio {}", f.kind, f.place.prio));
        let here = facts.tcx.iter().filter(|h| h.attach == attach).flat_map(|h| &h.programs);
        let all_before: Vec<String> = here.map(|p| format!("tcx {}", p.program)).chain(filters).collect();
        let check = format!("before us at {hook}");
        let what = format!(
            "{}: what they take or change, our programs see no more, or changed",
            all_before.join(", ")
        );
        // They come first in the list, as on the way of a packet.
        let fix = match all_before.first().is_some_and(|first| first.starts_with("tcx ")) {
            true => {
                format!("tcx runs before all filters; 'detour list {name}' shows whose it is to take away")
            }
            false => format!("'detour list {name}' shows the order; 'up --prio N' goes before filters"),
        };
        all.push(good_or(all_before.is_empty(), &check, "nobody", (State::Odd, &what, &fix)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tc::{BpfFilter, Place};

    fn surroundings() -> Surroundings {
        Surroundings {
            release: ("6.18.1".into(), (6, 18)),
            capabilities: u64::MAX,
            contained: false,
            lockdown: None,
            lsm: None,
            unprivileged_bpf: Some(2),
            jit: Some(1),
            stats: Some(0),
            memlock: 65536,
            bpffs: Bpffs::Ready,
            nat_chains: Ok(Vec::new()),
            iptables_nat: false,
            reads: Vec::new(),
        }
    }

    fn state(findings: &[Finding], check: &str) -> State {
        findings.iter().find(|f| f.check == check).unwrap_or_else(|| panic!("no {check}")).state
    }

    #[test]
    fn a_good_machine_has_nothing_to_mend() {
        let findings = machine(&surroundings());
        assert!(findings.iter().all(|f| f.state == State::Good && f.fix.is_empty()), "{findings:#?}");
    }

    #[test]
    fn each_fault_is_found_alone_and_has_a_fix() {
        type Fault = (&'static str, State, fn(&mut Surroundings));
        let faults: [Fault; 9] = [
            ("kernel", State::Bad, |s| s.release.1 = (5, 4)),
            ("CAP_BPF", State::Bad, |s| s.capabilities &= !(1 << 39)),
            ("lockdown", State::Odd, |s| s.lockdown = Some("confidentiality".into())),
            ("unprivileged_bpf_disabled", State::Odd, |s| s.unprivileged_bpf = Some(0)),
            ("bpf_jit_enable", State::Odd, |s| s.jit = Some(0)),
            ("bpf_stats_enabled", State::Odd, |s| s.stats = Some(1)),
            ("bpffs", State::Bad, |s| s.bpffs = Bpffs::Missing),
            ("other NAT", State::Odd, |s| s.nat_chains = Ok(vec!["nat pre".into()])),
            ("other NAT", State::Odd, |s| s.iptables_nat = true),
        ];
        for (check, expect, break_it) in faults {
            let mut broken = surroundings();
            break_it(&mut broken);
            let findings = machine(&broken);
            assert_eq!(state(&findings, check), expect, "{check}");
            let worse: Vec<&Finding> =
                findings.iter().filter(|f| f.check != "memlock" && f.state != State::Good).collect();
            assert!(worse.iter().all(|f| !f.fix.is_empty()), "{worse:#?}");
            assert_eq!(worse.len(), 1, "{worse:#?}");
        }
        let findings = machine(&Surroundings { contained: true, ..surroundings() });
        assert_eq!(["CAP_BPF", "CAP_SYS_ADMIN"].map(|name| state(&findings, name)), [State::Bad, State::Odd]);
        let old = Surroundings { release: ("5.10".into(), (5, 10)), ..surroundings() };
        assert_eq!(state(&machine(&old), "memlock"), State::Odd);
    }

    #[test]
    fn a_device_tells_what_may_surprise() {
        let mut near = Nearby {
            facts: Facts::none("eth0"),
            link: Link { arphrd: 1, flags: 1, ..Link::default() },
            rp_filter: 0,
            forwards_v6: false,
            tx_checksum: Some(true),
            lro: false,
        };
        let findings = device(&near, 100);
        assert!(findings.iter().all(|f| f.state == State::Good), "{findings:#?}");
        let bpf = BpfFilter { name: None, id: None, tag: None, direct_action: true, flags_gen: IN_HW };
        let place = Place::new(1, INGRESS, 300, 1);
        near.facts.filters = vec![Filter { place, kind: "bpf".into(), bpf: Some(bpf) }];
        near.lro = true;
        near.forwards_v6 = true;
        near.rp_filter = 1;
        near.facts.ip_forward = true;
        near.link = Link { arphrd: 801, flags: 0, xdp: Some(7), master: Some(4), ..near.link };
        let findings = device(&near, 100);
        for (check, expect) in [
            ("rp_filter", State::Odd),
            ("ip_forward", State::Odd),
            ("framing", State::Bad),
            ("link", State::Odd),
            ("xdp", State::Odd),
            ("master", State::Odd),
            ("address", State::Good),
            ("hardware offload", State::Odd),
            ("large receive offload", State::Odd),
            ("ipv6 forwarding", State::Odd),
            ("before us at ingress", State::Good),
        ] {
            assert_eq!(state(&findings, check), expect, "{check}");
        }
        assert!(findings.iter().all(|f| (f.state == State::Good) == f.fix.is_empty()), "{findings:#?}");
        let fix = |check: &str| findings.iter().find(|f| f.check == check).map(|f| f.fix.as_str());
        assert_eq!(fix("hardware offload"), Some("ethtool -K eth0 hw-tc-offload off"));
        assert_eq!(fix("large receive offload"), Some("ethtool -K eth0 lro off"));
    }
}
