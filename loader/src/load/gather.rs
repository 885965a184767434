// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! This machine to [`Facts`]: every call that reads something, and no call that changes anything.
use crate::load::facts::{Bpffs, Device, Facts, Instance, Machine, Orphan};
use crate::load::home::{self, Home, BPFFS, BUILDING, RECORD_PIN};
use crate::load::netlink::{NetlinkError, Socket};
use crate::load::record::Record;
use crate::load::refusal::{Refusal, Stage, BY_ID};
use crate::load::rtnl::{self, Addr, Link};
use crate::load::sockopt;
use crate::load::tc::{self, Filter, Qdisc, CLSACT, EGRESS, INGRESS};
use crate::load::tcx;
use crate::load::unpinned;
use detour_sys::{commands, Value};
use nix::errno::Errno;
use nix::sys::statfs::{statfs, BPF_FS_MAGIC};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// Reads everything that loading onto `device` depends on. `socket` belongs to the namespace that is meant.
///
/// ```no_run
/// let mut socket = detour::load::netlink::Socket::open()?;
/// let facts = detour::load::gather::gather(&mut socket, "eth0")?;
/// println!("{} reads: {}", facts.reads.len(), facts.device.name);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn gather(socket: &mut Socket, device: &str) -> Result<Facts, Refusal> {
    let mut reads = Vec::new();
    let mut note = |read: String| reads.push(read);
    note("read(/proc/sys/kernel/osrelease), read(/sys/devices/system/cpu/possible)".into());
    note("sysconf(_SC_PAGESIZE), clock_getres(CLOCK_MONOTONIC_COARSE)".into());
    let machine = machine()?;
    note("stat(/proc/thread-self/ns/net), getsockopt(SO_NETNS_COOKIE)".into());
    let netns = netns_inode()?;
    let cookie = detour_sys::netns::netns_cookie(socket.as_fd()).unwrap_or(0);
    note(format!("RTM_GETLINK {device}"));
    let link = link(socket, device)?;
    note("RTM_GETQDISC".into());
    let qdiscs = socket.request(&tc::qdisc_dump()).map_err(refused)?;
    let mut qdiscs = qdiscs.messages.iter().filter_map(Qdisc::read);
    let qdisc = qdiscs.find(|q| q.ifindex == link.index && q.parent == CLSACT);
    let block = qdisc.as_ref().and_then(|q| q.ingress_block.or(q.egress_block));
    let clsact_marked = qdisc.as_ref().is_some_and(|q| q.marked);
    let clsact = qdisc.map(|q| q.kind);
    let mut filters = Vec::new();
    for parent in [INGRESS, EGRESS] {
        // An `ingress` qdisc has one block, which it shows for egress too.
        if parent == EGRESS && clsact.as_deref() == Some("ingress") {
            continue;
        }
        note(format!("RTM_GETTFILTER parent {parent:#x}"));
        let reply = socket.request(&tc::filter_dump(link.index, parent)).map_err(refused)?;
        filters.extend(reply.messages.iter().filter_map(Filter::read));
    }
    note(format!("statfs({BPFFS}), stat({BPFFS})"));
    let mut facts = Facts {
        machine,
        netns,
        cookie,
        device: Device { ifindex: link.index, name: link.name, arphrd: link.arphrd, mtu: link.mtu },
        addresses: Vec::new(),
        ip_forward: false,
        ip6_forward: false,
        route_localnet: false,
        block,
        clsact,
        clsact_marked,
        filters,
        tcx: Vec::new(),
        sockopts: Vec::new(),
        cgroup2: None,
        bpffs: bpffs(),
        root: None,
        device_folder: false,
        marks: Vec::new(),
        instances: Vec::new(),
        hidden: None,
        orphans: Vec::new(),
        reads,
    };
    if facts.bpffs == Bpffs::Ready {
        folders(&mut facts)?;
        if facts.root.is_some_and(|folders| folders > usize::from(facts.device_folder)) {
            facts.reads.push(format!("RTM_GETLINK, readdir({}/…)", Home::root()));
            facts.orphans = orphans(socket, facts.netns)?;
        }
    }
    unpinned::find(&mut facts)?;
    links(&mut facts)?;
    tcx_links(&mut facts)?;
    Ok(facts)
}

/// What the tcx links run that instances have pinned: theirs only, and in no order. Who may do nothing but open pins sees it.
fn tcx_links(facts: &mut Facts) -> Result<(), Refusal> {
    let mut hooks = [tcx::INGRESS, tcx::EGRESS].map(|attach| tcx::Hook { attach, ..tcx::Hook::default() });
    for instance in facts.instances.iter().filter(|i| i.is_pinned()) {
        let dir = instance.dir(&facts.home(&instance.name));
        let recorded = instance.record.iter().flat_map(|r| &r.programs);
        for program in recorded.filter(|p| tcx::is_hook(p.parent)) {
            let pin = home::link_pin(program.parent == tcx::EGRESS, &program.name);
            if !instance.pins.contains(&pin) {
                continue;
            }
            let path = dir.pin(&pin);
            facts.reads.push(format!("OBJ_GET, OBJ_GET_INFO_BY_FD {path}"));
            let (attached, device, attach) = tcx::link(&path).map_err(|e| unreadable(&path, &e))?;
            let hook = hooks.iter_mut().find(|hook| hook.attach == attach && device == facts.device.ifindex);
            // One that is replaced is pinned twice.
            hook.into_iter()
                .filter(|h| !h.programs.contains(&attached))
                .for_each(|h| h.programs.push(attached));
        }
    }
    facts.tcx.extend(hooks.into_iter().filter(|hook| !hook.programs.is_empty()));
    Ok(())
}

/// What the links to cgroups are attached to that instances have pinned.
fn links(facts: &mut Facts) -> Result<(), Refusal> {
    for instance in facts.instances.iter().filter(|i| i.is_pinned()) {
        let dir = instance.dir(&facts.home(&instance.name));
        for program in instance.record.iter().flat_map(|r| &r.programs) {
            let pin = sockopt::pin(&program.name);
            if program.parent == sockopt::GETSOCKOPT && instance.pins.contains(&pin) {
                let path = dir.pin(&pin);
                facts.reads.push(format!("OBJ_GET, OBJ_GET_INFO_BY_FD {path}"));
                facts.sockopts.push(sockopt::query(&path).map_err(|e| unreadable(&path, &e))?);
            }
        }
    }
    Ok(())
}

/// Adds addresses, forwarding and the mount of cgroup2, on which only those depend who translate.
pub fn ask_addresses(socket: &mut Socket, facts: &mut Facts) -> Result<(), Refusal> {
    facts.reads.push("read(/proc/self/mountinfo)".into());
    facts.cgroup2 = sockopt::mounted().unwrap_or_default();
    facts.reads.push("RTM_GETADDR".into());
    facts.addresses = addresses(socket)?;
    let mut sysctl = |name: &str| {
        let path = format!("/proc/sys/net/{name}");
        facts.reads.push(format!("read({path})"));
        line(&path).is_ok_and(|text| text == "1")
    };
    facts.ip_forward = sysctl("ipv4/ip_forward");
    facts.ip6_forward = sysctl("ipv6/conf/all/forwarding");
    // The kernel takes the greater of the two: IN_DEV_ROUTE_LOCALNET in include/linux/inetdevice.h.
    let route_localnet = |of: &str| sysctl(&format!("ipv4/conf/{of}/route_localnet"));
    facts.route_localnet = ["all", &facts.device.name].map(route_localnet).contains(&true);
    Ok(())
}

/// Adds what others have attached by tcx, and the order, on which no plan depends.
pub fn ask_tcx(facts: &mut Facts) -> Result<(), Refusal> {
    let mut all = Vec::new();
    for hook in [tcx::INGRESS, tcx::EGRESS] {
        facts.reads.push(format!("PROG_QUERY attach_type {hook}"));
        all.push(tcx::query(facts.device.ifindex, hook).map_err(|e| unreadable(TCX, &e))?);
    }
    facts.tcx = all;
    Ok(())
}

/// The file that says which capabilities this thread has.
pub const STATUS: &str = "/proc/thread-self/status";

/// `CapEff:` of such a file, the effective capabilities, bit by number.
pub fn capabilities(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// What a plan needs to know when no device is concerned.
///
/// ```
/// let machine = detour::load::gather::machine()?;
/// println!("Linux {}, {} CPUs", machine.release, machine.possible_cpus);
/// # Ok::<(), detour::load::refusal::Refusal>(())
/// ```
pub fn machine() -> Result<Machine, Refusal> {
    let release = "/proc/sys/kernel/osrelease";
    let release = line(release).map_err(|e| unreadable(release, &e))?;
    let cpus = detour_sys::possible_cpus().map_err(|e| unreadable("the list of possible CPUs", &e))?;
    let possible_cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
    Ok(Machine { release, page_size: page_size(), possible_cpus, hz: hz() })
}

/// The one line of a file below /proc/sys, which one read gives whole.
fn line(path: &str) -> io::Result<String> {
    let mut bytes = [0; 256];
    let length = fs::File::open(path)?.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).trim().to_string())
}

/// The network devices of the namespace that have a folder of ours, or filters that are called as ours are, by index.
pub fn devices_with_state(socket: &mut Socket) -> Result<Vec<String>, Refusal> {
    let netns = netns_inode()?;
    let qdiscs = socket.request(&tc::qdisc_dump()).map_err(refused)?;
    let mut with_filters = Vec::new();
    for qdisc in qdiscs.messages.iter().filter_map(Qdisc::read).filter(|q| q.kind == "clsact") {
        for parent in [INGRESS, EGRESS] {
            let reply = socket.request(&tc::filter_dump(qdisc.ifindex, parent)).map_err(refused)?;
            let ours = reply.messages.iter().filter_map(Filter::read).any(|f| unpinned::owner(&f).is_some());
            with_filters.extend(ours.then_some(qdisc.ifindex));
        }
    }
    let links = socket.request(&rtnl::link_dump()).map_err(refused)?;
    let links = links.messages.iter().filter_map(Link::read);
    let has_folder = |link: &Link| {
        let home = Home { netns, ifindex: link.index, name: String::new() };
        fs::metadata(home.device()).is_ok()
    };
    let found: Vec<Link> = links.filter(|l| with_filters.contains(&l.index) || has_folder(l)).collect();
    match bpffs() {
        Bpffs::Ready | Bpffs::Missing => {}
        other if found.is_empty() => other.usable()?,
        _ => {}
    }
    Ok(found.into_iter().map(|link| link.name).collect())
}

/// Folders of devices that this namespace had and has no more. Another namespace with this inode number is gone too.
pub fn orphans(socket: &mut Socket, netns: u64) -> Result<Vec<Orphan>, Refusal> {
    let links = socket.request(&rtnl::link_dump()).map_err(refused)?.read(Link::read);
    let mut orphans = Vec::new();
    if bpffs() != Bpffs::Ready {
        return Ok(orphans);
    }
    for name in list(&Home::root())?.unwrap_or_default() {
        let index = name.strip_prefix(&format!("{netns}-")).and_then(|index| index.parse::<u32>().ok());
        if index.is_none_or(|index| links.iter().any(|link| link.index == index)) {
            continue;
        }
        let dir = format!("{}/{name}", Home::root());
        owned_by_us(&dir)?;
        let mut folders = Vec::new();
        for folder in list(&dir)?.unwrap_or_default() {
            let pins = list(&format!("{dir}/{folder}"))?.unwrap_or_default();
            folders.push((folder, pins));
        }
        orphans.push(Orphan { dir, folders });
    }
    Ok(orphans)
}

/// Inode number of the network namespace that this thread is in.
pub fn netns_inode() -> Result<u64, Refusal> {
    let file = fs::metadata("/proc/thread-self/ns/net");
    Ok(file.map_err(|e| unreadable("the network namespace", &e))?.ino())
}

fn link(socket: &mut Socket, device: &str) -> Result<Link, Refusal> {
    let missing = || {
        let hint = "'ip link' shows the devices of this network namespace; -n NAME works in another one";
        Refusal::new(Stage::Kernel, format!("there is no network device '{}'", device.escape_default()), hint)
    };
    if device.is_empty() || device.len() > 15 || device.contains(['\0', '/']) {
        return Err(missing());
    }
    match socket.request(&rtnl::link_named(device)) {
        Ok(reply) => reply.messages.iter().find_map(Link::read).ok_or_else(missing),
        Err(error) if error.errno == nix::errno::Errno::ENODEV as i32 => Err(missing()),
        Err(error) => Err(refused(error)),
    }
}

/// The XDP program on a device, which needs no privilege to be seen.
pub fn xdp(device: &str) -> Result<Option<u32>, Refusal> {
    let mut socket = Socket::open().map_err(refused)?;
    Ok(link(&mut socket, device)?.xdp)
}

fn addresses(socket: &mut Socket) -> Result<Vec<Addr>, Refusal> {
    let reply = socket.request(&rtnl::addr_dump(0)).map_err(refused)?;
    Ok(reply.messages.iter().filter_map(Addr::read).collect())
}

/// State of /sys/fs/bpf.
pub fn bpffs() -> Bpffs {
    match statfs(BPFFS) {
        Ok(fs) if fs.filesystem_type() == BPF_FS_MAGIC => {}
        Err(nix::errno::Errno::EACCES) => return Bpffs::Denied,
        _ => return Bpffs::Missing,
    }
    match fs::metadata(BPFFS) {
        Ok(meta) if meta.uid() != 0 => Bpffs::Untrusted(format!("{BPFFS} belongs to user {}", meta.uid())),
        Ok(meta) if meta.mode() & 0o022 != 0 => {
            Bpffs::Untrusted(format!("{BPFFS} may be written by others (mode {:04o})", meta.mode() & 0o7777))
        }
        Ok(_) if fs::read_dir(BPFFS).is_err() => Bpffs::Denied,
        Ok(_) => Bpffs::Ready,
        Err(_) => Bpffs::Denied,
    }
}

/// What lies in our folders for this device.
fn folders(facts: &mut Facts) -> Result<(), Refusal> {
    let home = facts.home("");
    facts.reads.push(format!("readdir({})", Home::root()));
    let Some(devices) = list(&Home::root())? else { return Ok(()) };
    owned_by_us(&Home::root())?;
    facts.root = Some(devices.len());
    facts.reads.push(format!("readdir({})", home.device()));
    let Some(names) = list(&home.device())? else { return Ok(()) };
    owned_by_us(&home.device())?;
    facts.device_folder = true;
    for name in names {
        if name.starts_with(home::CLSACT) {
            facts.marks.push(name);
            continue;
        }
        let dir = format!("{}/{name}", home.device());
        facts.reads.push(format!("readdir({dir})"));
        let pins = list(&dir)?.unwrap_or_default();
        let (mut record, mut schema) = (None, None);
        if pins.iter().any(|p| p == RECORD_PIN) {
            facts.reads.push(format!("OBJ_GET, MAP_LOOKUP_ELEM {dir}/{RECORD_PIN}"));
            let bytes = read_array(&format!("{dir}/{RECORD_PIN}"))?;
            (record, schema) = (Record::parse(&bytes), Record::other_schema(&bytes));
        }
        let building = name.ends_with(BUILDING);
        let name = name.strip_suffix(BUILDING).unwrap_or(&name).to_string();
        facts.instances.push(Instance { name, building, pins, record, schema, ids: Vec::new() });
    }
    Ok(())
}

/// The sorted names in a folder; None when it is not there.
fn list(dir: &str) -> Result<Option<Vec<String>>, Refusal> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| unreadable(dir, &e))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(|e| unreadable(dir, &e))?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(Some(names))
}

fn owned_by_us(dir: &str) -> Result<(), Refusal> {
    let meta = fs::symlink_metadata(dir).map_err(|e| unreadable(dir, &e))?;
    let trusted = [0, nix::unistd::geteuid().as_raw()];
    let (what, mend) = match (meta.uid(), meta.mode()) {
        _ if !meta.is_dir() => (format!("{dir} is no folder"), "remove it".to_string()),
        (uid, _) if !trusted.contains(&uid) => (
            format!("{dir} belongs to user {uid}"),
            format!("run as that user, or 'chown -R root {}'", Home::root()),
        ),
        (_, mode) if mode & 0o022 != 0 => (
            format!("{dir} may be written by others (mode {:04o})", mode & 0o7777),
            format!("'chmod -R go-w {}'", Home::root()),
        ),
        _ => return Ok(()),
    };
    let what = format!("{what}: what lies there is trusted only where root or this user alone can write");
    Err(Refusal::new(Stage::InTheWay, what, format!("find out who made it; if you did: {mend}")))
}

/// Element 0 of a pinned array.
pub fn read_array(path: &str) -> Result<Vec<u8>, Refusal> {
    let map = open_map(path)?;
    let value = map.lookup(&vec![0; map.key_size()]).map_err(|e| unreadable(path, &e))?;
    Ok(value.unwrap_or_default())
}

/// A pinned map, or one by its id ([`home::Dir::pin`]).
///
/// ```no_run
/// let map = detour::load::gather::open_map("/sys/fs/bpf/counters")?;
/// println!("{:?}", map.lookup(&7_u32.to_ne_bytes())?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_map(path: &str) -> Result<detour_sys::Map, Refusal> {
    open(path).and_then(detour_sys::Map::from_fd).map_err(|e| unreadable(path, &e))
}

/// The descriptor of a map or program, likewise.
pub fn open(path: &str) -> io::Result<OwnedFd> {
    let answer = match home::by_id(path) {
        None => detour_sys::call(&commands::OBJ_GET, &[("pathname", Value::Text(path))]),
        Some((program, id)) => return unpinned::open(program, id),
    };
    answer.map_err(|(error, _)| error)?.fd.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn page_size() -> u32 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().and_then(|n| u32::try_from(n).ok()).unwrap_or(4096)
}

/// The coarse clock's resolution is one jiffy.
fn hz() -> u32 {
    use nix::time::{clock_getres, ClockId};
    let nanoseconds = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map(|t| t.tv_nsec()).unwrap_or(4_000_000);
    u32::try_from(1_000_000_000_i64.checked_div(nanoseconds).unwrap_or(250)).unwrap_or(250)
}

const TCX: &str = "what tcx runs";

fn unreadable(what: &str, error: &io::Error) -> Refusal {
    let stage = match error.kind() {
        io::ErrorKind::PermissionDenied => Stage::Permission,
        _ => Stage::Kernel,
    };
    let hint = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) if what.starts_with('@') => BY_ID,
        Some(Errno::EPERM) if what == TCX => "needs CAP_NET_ADMIN, or root",
        Some(Errno::EPERM) => {
            "needs CAP_BPF, or root; who has it is refused by lockdown, a seccomp filter or an LSM"
        }
        _ if stage == Stage::Permission => "run as root, or with CAP_BPF and CAP_DAC_OVERRIDE",
        _ => "",
    };
    Refusal::new(stage, format!("cannot read {what}: {error}"), hint)
}

fn refused(error: NetlinkError) -> Refusal {
    Refusal::new(Stage::Kernel, error.to_string(), "")
}
