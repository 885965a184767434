// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a plan depends on in this machine, as plain data; `gather` reads it, `facts_json` carries it.
use crate::load::home::{Dir, Home};
use crate::load::record::{Record, RecordProgram, SCHEMA};
use crate::load::refusal::{Refusal, Stage};
use crate::load::rtnl::{primary, Addr};
use crate::load::sockopt;
use crate::load::tc::{Filter, Place, ETH_P_ALL};
use crate::load::tcx;
use crate::load::unpinned::owner;
use crate::object::Tags;
use std::net::IpAddr;

/// Facts about one device in one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The machine itself.
    pub machine: Machine,
    /// Inode number of the network namespace.
    pub netns: u64,
    /// The namespace's cookie, which is never used again; 0 before Linux 5.14.
    pub cookie: u64,
    /// The device.
    pub device: Device,
    /// Addresses of all devices of the namespace, as the kernel orders them; these and the next three are asked for only
    /// where something depends on them.
    pub addresses: Vec<Addr>,
    /// Whether the namespace forwards IPv4.
    pub ip_forward: bool,
    /// Whether it forwards IPv6.
    pub ip6_forward: bool,
    /// Whether packets to 127.0.0.0/8 that come from this device are let in.
    pub route_localnet: bool,
    /// Kind of the qdisc that sits where clsact belongs.
    pub clsact: Option<String>,
    /// Whether it says of itself that it is ours: with `--no-pin` there is no folder that could.
    pub clsact_marked: bool,
    /// The shared block of filters that this qdisc uses at ingress or egress, if it does.
    pub block: Option<u32>,
    /// All filters of the device at ingress and egress.
    pub filters: Vec<Filter>,
    /// What the tcx links of our instances run, each hook with the revision 0; all programs and the order where somebody asks.
    pub tcx: Vec<tcx::Hook>,
    /// What programs of ours in cgroups are attached to.
    pub sockopts: Vec<sockopt::Attached>,
    /// Where cgroup2 is mounted.
    pub cgroup2: Option<String>,
    /// The BPF file system.
    pub bpffs: Bpffs,
    /// Folders in ours; None when ours is not there.
    pub root: Option<usize>,
    /// Whether this device has a folder there.
    pub device_folder: bool,
    /// Marks in it that say that clsact was made by us: `clsact-<cookie>`.
    pub marks: Vec<String>,
    /// Instances in it, finished or not.
    pub instances: Vec<Instance>,
    /// The name of an instance that nothing here pins, and whose programs may not be opened by their ids.
    pub hidden: Option<String>,
    /// Folders of devices that are gone from this namespace.
    pub orphans: Vec<Orphan>,
    /// The calls that read all this, in order.
    pub reads: Vec<String>,
}

/// What does not depend on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `uname -r`.
    pub release: String,
    /// Bytes in a page.
    pub page_size: u32,
    /// Highest CPU number that this kernel can have, plus one.
    pub possible_cpus: u32,
    /// Jiffies in a second.
    pub hz: u32,
}

impl Machine {
    /// Major and minor number of the release; 0.0 when it cannot be read.
    pub fn version(&self) -> (u32, u32) {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Before Linux 5.11 the memory of maps and programs counts against RLIMIT_MEMLOCK.
    pub fn charges_memlock(&self) -> bool {
        self.version() < (5, 11)
    }

    /// The tag that this kernel computes: SHA-256 from 6.18 on, SHA-1 before.
    pub fn tag(&self, tags: &Tags) -> [u8; 8] {
        if self.version() >= (6, 18) {
            tags.sha256
        } else {
            tags.sha1
        }
    }
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Index in the namespace.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// `ARPHRD_*`: 1 Ethernet, 772 loopback, 65534 none.
    pub arphrd: u16,
    /// Bytes.
    pub mtu: u32,
}

/// State of /sys/fs/bpf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bpffs {
    /// It is there, root's alone to write.
    Ready,
    /// Something else, or nothing, is mounted there.
    Missing,
    /// Others may write to it; the text says who.
    Untrusted(String),
    /// It may not be read by this process.
    Denied,
}

/// The folder of a device that is gone: nothing in it runs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its path.
    pub dir: String,
    /// Folders in it, and the pins in each.
    pub folders: Vec<(String, Vec<String>)>,
}

/// A folder of a device: an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its name, without the ending of unfinished ones.
    pub name: String,
    /// Still under construction.
    pub building: bool,
    /// Names of its pins.
    pub pins: Vec<String>,
    /// Its record, when there is one that this program understands.
    pub record: Option<Record>,
    /// The schema of its record, when that is another one.
    pub schema: Option<u32>,
    /// Where nothing is pinned: what the pins would be called, and the kernel's ids. Otherwise empty.
    pub ids: Vec<(String, u32)>,
}

impl Instance {
    /// Where it is found.
    pub fn dir(&self, home: &Home) -> Dir {
        let home = home.beside(&self.name);
        match (self.is_pinned(), self.building) {
            (false, _) => Dir::Ids(self.ids.clone()),
            (true, true) => Dir::Folder(home.building()),
            (true, false) => Dir::Folder(home.dir()),
        }
    }

    /// Whether it has pins, and does not only live by its filters.
    pub fn is_pinned(&self) -> bool {
        self.ids.is_empty()
    }
}

impl Facts {
    /// Facts about no machine: what a plan would be on an idle one with a device of this name, 192.0.2.1 on it.
    pub fn none(device: &str) -> Facts {
        let ip = IpAddr::from([192, 0, 2, 1]);
        Facts {
            machine: Machine { release: "6.18".to_string(), page_size: 4096, possible_cpus: 1, hz: 250 },
            netns: 0,
            cookie: 0,
            device: Device { ifindex: 1, name: device.to_string(), arphrd: 1, mtu: 1500 },
            addresses: vec![Addr { index: 1, ip, prefix: 24, peer: None, scope: 0, flags: 0 }],
            ip_forward: false,
            ip6_forward: false,
            route_localnet: false,
            clsact: None,
            clsact_marked: false,
            block: None,
            filters: Vec::new(),
            tcx: Vec::new(),
            sockopts: Vec::new(),
            cgroup2: Some("/sys/fs/cgroup".to_string()),
            bpffs: Bpffs::Ready,
            root: None,
            device_folder: false,
            marks: Vec::new(),
            instances: Vec::new(),
            hidden: None,
            orphans: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Where an instance of this device lives.
    pub fn home(&self, name: &str) -> Home {
        Home { netns: self.netns, ifindex: self.device.ifindex, name: name.to_string() }
    }

    /// The mark that this namespace's clsact would carry.
    pub fn mark(&self) -> String {
        format!("{}-{}", crate::load::home::CLSACT, self.cookie)
    }

    /// Whether clsact is there and was made by us in this very namespace.
    pub fn clsact_is_ours(&self) -> bool {
        let ours = self.marks.contains(&self.mark()) || self.clsact_marked;
        self.clsact.as_deref() == Some("clsact") && ours
    }

    /// Where a recorded program sits.
    pub fn place(&self, program: &RecordProgram) -> Place {
        Place {
            chain: program.chain,
            protocol: if program.protocol == 0 { ETH_P_ALL } else { program.protocol },
            ..Place::new(self.device.ifindex, program.parent, program.prio, program.handle)
        }
    }

    /// Whether the device runs this program at its recorded place.
    pub fn carries(&self, program: &RecordProgram) -> bool {
        let place = self.place(program);
        if tcx::is_hook(place.parent) {
            let here = |hook: &&tcx::Hook| hook.attach == place.parent;
            return self.tcx.iter().filter(here).flat_map(|h| &h.programs).any(|p| p.program == program.id);
        }
        if place.parent == sockopt::GETSOCKOPT {
            return self.sockopts.iter().any(|s| s.program == program.id && s.cgroup != 0);
        }
        let id = |f: &Filter| f.bpf.as_ref().and_then(|b| b.id);
        self.filters.iter().any(|f| f.place == place && id(f) == Some(program.id))
    }

    /// Whether folders of ours, or our clsact, are left without any instance: a command was killed among its first or last
    /// steps.
    pub fn has_leftovers(&self) -> bool {
        let clsact = self.clsact_marked && self.filters.is_empty();
        self.instances.is_empty() && (self.device_folder || self.root == Some(0) || clsact)
    }

    /// Whether this filter runs a program of this instance at its recorded place.
    pub fn holds(&self, instance: &Instance, filter: &Filter) -> bool {
        let id = filter.bpf.as_ref().and_then(|b| b.id);
        let programs = instance.record.iter().flat_map(|r| &r.programs);
        programs.into_iter().any(|p| Some(p.id) == id && self.place(p) == filter.place)
    }

    /// Whether an instance is finished and all its filters are in place.
    pub fn is_whole(&self, instance: &Instance) -> bool {
        let whole = |record: &Record| record.programs.iter().all(|p| self.carries(p));
        !instance.building && instance.record.as_ref().is_some_and(whole)
    }

    /// Whether an instance is finished and one of its filters at least is in place, be it with a program of a replacement that
    /// was interrupted. Otherwise it is what a dead namespace or somebody who removed our filters left over.
    pub fn is_alive(&self, instance: &Instance) -> bool {
        let runs = |i: &Instance| i.record.iter().flat_map(|r| &r.programs).any(|p| self.carries(p));
        !instance.building && (runs(instance) || self.unfinished(&instance.name).is_some_and(runs))
    }

    /// Refuses to touch an instance whose record nobody here can read: its filters would stay behind.
    pub fn understood(&self, name: &str) -> Result<(), Refusal> {
        if self.hidden.as_deref() == Some(name) {
            return Err(Refusal::hidden(name, &self.device.name));
        }
        let other = self.instances.iter().filter(|i| i.name == name).find_map(|i| i.schema);
        let Some(schema) = other else { return Ok(()) };
        let what =
            format!("'{name}' on {} has state of schema {schema}, and this is {SCHEMA}", self.device.name);
        Err(Refusal::new(Stage::InTheWay, what, "use the detour that made it to remove it"))
    }

    /// Refuses to look where nothing can be seen.
    pub fn reachable(&self) -> Result<(), Refusal> {
        let called_as_ours = || self.filters.iter().any(|f| owner(f).is_some());
        match &self.hidden {
            _ if self.instances.iter().any(|i| !i.is_pinned()) => Ok(()),
            Some(name) if self.instances.is_empty() => Err(Refusal::hidden(name, &self.device.name)),
            _ if self.clsact_marked => Ok(()),
            // There are no pins then, but where filters are called as ours are, there may be some elsewhere.
            _ if self.bpffs == Bpffs::Missing && !called_as_ours() => Ok(()),
            _ => self.bpffs.usable(),
        }
    }

    /// The unfinished instance of this name.
    pub fn unfinished(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|i| i.name == name && i.building)
    }

    /// The finished instance of this name.
    pub fn instance(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|i| i.name == name && !i.building)
    }

    /// The address that `redirect` means: the device's first global one of the family.
    pub fn own_address(&self, v6: bool) -> Option<IpAddr> {
        primary(&self.addresses, self.device.ifindex, v6).map(|a| a.ip)
    }
}

impl Bpffs {
    /// An error unless pins can be made and trusted.
    pub fn usable(&self) -> Result<(), Refusal> {
        use crate::load::home::BPFFS;
        let mount = format!(
            "mount -t bpf -o mode=0700 bpf {BPFFS}, or say --mount-bpffs; where nothing can be mounted: up --no-pin"
        );
        match self {
            Bpffs::Ready => Ok(()),
            Bpffs::Missing => {
                Err(Refusal::new(Stage::Kernel, format!("no BPF file system on {BPFFS}"), mount))
            }
            Bpffs::Untrusted(why) => {
                let hint = format!("chown root {BPFFS}; chmod 0700 {BPFFS}");
                Err(Refusal::new(Stage::InTheWay, format!("{why}: pins there could be anybody's"), hint))
            }
            Bpffs::Denied => {
                let what = format!("{BPFFS} may not be read by this user");
                Err(Refusal::new(Stage::Permission, what, "run as root, or with CAP_DAC_OVERRIDE"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_follows_the_release() {
        let tags = Tags { sha1: [1; 8], sha256: [2; 8] };
        let tag = |release: &str| Machine { release: release.to_string(), ..Machine::default() }.tag(&tags);
        assert_eq!(tag("5.10.0-46-cloud-amd64"), [1; 8]);
        assert_eq!(tag("6.17.9"), [1; 8]);
        assert_eq!(tag("6.18.44"), [2; 8]);
        assert_eq!(tag("7.3.4+deb13"), [2; 8]);
    }
}
