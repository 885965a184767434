// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What `run` and `events` can still do once they serve: nothing that their task does not take, by the kernel's word and by
//! trying it.
use ::detour::load::allowed::{Allowed, Only, DOWN, EVENTS, METRICS, RUN, TABLE, WATCH};
use ::detour::load::confine::confine;
use ::detour::load::places::Places;
use detour_sys::{call, commands};
use e2e::detour::{self, code};
use e2e::lab::{self, Lab};
use e2e::serve::Server;
use e2e::service::Service;
use e2e::talk;
use nix::kmod::{finit_module, ModuleInitFlags};
use nix::mount::{mount, umount, MsFlags};
use nix::sched::{setns, unshare, CloneFlags};
use nix::sys::resource::{setrlimit, Resource};
use nix::sys::signal::{kill, Signal};
use nix::sys::socket::{socket, AddressFamily, SockFlag, SockType};
use nix::unistd::{chroot, execv, getuid, setuid, Pid};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// /proc/PID/status.
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_string(), value.trim().to_string())).collect()
}

#[track_caller]
fn is_confined(pid: u32, capabilities: u64) {
    let status = status(pid);
    let number = |name: &str| u64::from_str_radix(&status[name], 16).unwrap();
    for set in ["CapEff", "CapPrm"] {
        assert_eq!(number(set), capabilities, "{set}: {status:?}");
    }
    assert_eq!((number("CapInh"), number("CapAmb")), (0, 0));
    // SECCOMP_MODE_FILTER, and the only thread.
    let is = ["Seccomp", "NoNewPrivs", "Threads"].map(|name| status[name].as_str());
    assert_eq!(is, ["2", "1", "1"], "{status:?}");
}

/// CAP_NET_ADMIN of include/uapi/linux/capability.h; kernels before 5.19 keep CAP_BPF.
const NET_ADMIN: u64 = 1 << 12;
const BPF: u64 = 1 << 39;

fn for_look_ups() -> u64 {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(5), Some(19)) {
        BPF
    } else {
        0
    }
}

#[test]
fn a_service_has_given_everything_up() {
    let lab = Lab::new();
    let _server = Server::udp(&lab.gateway, (lab::GATEWAY, 1001));
    // A folder of that name comes in the way.
    let scratch = e2e::tools::Scratch::new();
    let file = scratch.path("folder.prom");
    std::fs::create_dir(&file).unwrap();
    let rules = "udp dport 7 redirect to :1001\n";
    let mut service =
        Service::start(&lab.gateway, &lab.device, rules, &["--metrics-file", file.to_str().unwrap()]);
    is_confined(service.pid(), for_look_ups());
    service.logs("<6>confined to ");
    // Said, and it goes on. Landlock lets no file take the name of a folder.
    service.logs("folder.prom cannot be written: Permission denied");
    // Stopped and continued, poll(2) becomes restart_syscall(2).
    service.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_millis(50));
    service.signal(Signal::SIGCONT);
    let socket = talk::udp(&lab.client, 0);
    talk::ask(&socket, ([198, 51, 100, 7], 7).into(), "x").unwrap();
    service.logs(" new udp 192.168.178.51:");
    // What waits for the lock sleeps.
    let holder = lab
        .gateway
        .within(|| {
            nix::fcntl::Flock::lock(File::open("/sys/fs/bpf").unwrap(), nix::fcntl::FlockArg::LockExclusive)
        })
        .unwrap();
    service.scratch.write("rules", "udp dport 7 redirect to :1002\n");
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    std::thread::sleep(Duration::from_millis(50));
    drop(holder);
    service.says("READY=1");
    service.logs("SIGHUP: eth0: other rules are in force now");
    is_confined(service.pid(), for_look_ups());
    service.signal(Signal::SIGTERM);
    service.ends();
}

/// Programs of ours at tcx on the same device are known by their links, for which nobody needs a capability.
#[test]
fn a_service_beside_tcx_reloads() {
    let lab = Lab::new();
    let _server = Server::udp(&lab.gateway, (lab::GATEWAY, 1001));
    let mut service = Service::start(&lab.gateway, &lab.device, "udp dport 7 redirect to :1001\n", &[]);
    detour::run(&lab.gateway, &["load", "@trace", &lab.device, "--tcx"]).done();
    service.scratch.write("rules", "udp dport 8 redirect to :1001\n");
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    assert!(!service.log().contains("nothing is changed"), "{}", service.log());
    let rules = detour::json(&lab.gateway, &["rules", &lab.device]);
    assert_eq!(rules["rules"][0]["text"], "udp dport 8 redirect to :1001");
    talk::ask(&talk::udp(&lab.client, 0), ([198, 51, 100, 7], 8).into(), "x").unwrap();
    is_confined(service.pid(), for_look_ups());
    service.signal(Signal::SIGTERM);
    service.ends();
    detour::run(&lab.gateway, &["status", &lab.device]).done();
}

#[test]
fn a_service_that_detaches_keeps_the_capability_for_it() {
    let lab = Lab::new();
    let mut service = Service::start(&lab.gateway, &lab.device, "tcp redirect\n", &["--down-on-exit"]);
    is_confined(service.pid(), NET_ADMIN | for_look_ups());
    service.signal(Signal::SIGTERM);
    service.ends();
    detour::run(&lab.gateway, &["status", &lab.device]).ends(code::NO);
}

#[test]
fn a_device_that_comes_back_ends_it_so_that_it_is_started_anew() {
    let lab = Lab::new();
    let (rules, device) = ("tcp dport 80 redirect to :8080\n", &lab.device);
    let again = |gone: &str| {
        lab::ip(&lab.gateway, &format!("link del {gone}"));
        let batch = "link add eth0 type veth peer name far\n address add 192.168.178.2/24 dev eth0\n link set eth0 up";
        lab::ip(&lab.gateway, batch);
    };
    let mut service = Service::start(&lab.gateway, device, rules, &["--down-on-exit"]);
    again("eth0");
    service.ends_with(code::PERMISSION);
    let nothing = "nothing was taken down: 'detour down eth0' does";
    for words in ["eth0: devices or addresses have changed: ", "has confined itself", "--no-confine", nothing]
    {
        assert!(service.log().contains(words), "{words}:\n{}", service.log());
    }
    // As a service manager does.
    let mut service = Service::start(&lab.gateway, device, rules, &["--no-confine"]);
    detour::run(&lab.gateway, &["status", device]).done();
    assert_eq!(status(service.pid())["Seccomp"], "0");
    again("far");
    service.logs("devices or addresses have changed: note: clears ");
    detour::run(&lab.gateway, &["status", device]).done();
    service.signal(Signal::SIGTERM);
    service.ends();
}

#[test]
fn a_listener_has_given_everything_up() {
    let lab = Lab::new();
    let _server = Server::udp(&lab.gateway, (lab::GATEWAY, 1001));
    detour::up(&lab.gateway, &lab.device, &["--rule", "udp redirect to :1001"]);
    let scratch = e2e::tools::Scratch::new();
    let capture = scratch.path("c.pcapng").display().to_string();
    let mut command = detour::command(&["events", &lab.device, "--count", "1", "--pcap", &capture]);
    let child = lab.gateway.within(|| command.stdout(Stdio::piped()).spawn().unwrap());
    let start = Instant::now();
    while status(child.id())["Seccomp"] != "2" {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    is_confined(child.id(), for_look_ups());
    let socket = talk::udp(&lab.client, 0);
    // It may not yet have said that it listens.
    while talk::ask(&socket, ([198, 51, 100, 7], 7).into(), "x").is_err()
        || fs::metadata(&capture).unwrap().len() < 400
    {
        assert!(start.elapsed() < Duration::from_secs(20));
        drop(talk::ask(&talk::udp(&lab.client, 0), ([198, 51, 100, 8], 7).into(), "x"));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains(" new udp "), "{output:?}");
}

#[test]
fn who_reads_a_ring_buffer_has_given_everything_up() {
    let lab = Lab::new();
    let object = e2e::tools::project().join("elf/fixtures/rings.bpf.o").display().to_string();
    detour::run(&lab.gateway, &["load", &object, &lab.device]).done();
    let mut command = detour::command(&["map", "listen", &lab.device, "rings", "records"]);
    let child = lab.gateway.within(|| command.stdout(Stdio::piped()).spawn().unwrap());
    let start = Instant::now();
    while status(child.id())["Seccomp"] != "2" {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    // Not even what look-ups need on old kernels.
    is_confined(child.id(), 0);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}

/// What nobody who only serves has to do. None of it does harm where it is let through.
type Attempt = (&'static str, fn() -> bool);
const ATTEMPTS: [Attempt; 22] = [
    ("socket AF_PACKET", || open_socket(AddressFamily::Packet, SockType::Raw)),
    ("socket AF_INET", || open_socket(AddressFamily::Inet, SockType::Datagram)),
    ("socket AF_NETLINK", || open_socket(AddressFamily::Netlink, SockType::Raw)),
    ("execve", || execv(c"/bin/true", &[c"true"]).is_ok()),
    ("clone", || Command::new("/bin/true").status().is_ok()),
    ("clone3", || std::thread::spawn(|| 1).join().is_ok()),
    ("ptrace", || nix::sys::ptrace::attach(Pid::from_raw(i32::MAX)).is_ok()),
    ("kill", || kill(Pid::from_raw(i32::MAX), None).is_ok()),
    ("kill another by the one signal", || kill(Pid::from_raw(i32::MAX), Signal::SIGSTOP).is_ok()),
    ("mount", || mount(None::<&str>, "/no/such", None::<&str>, MsFlags::empty(), None::<&str>).is_ok()),
    ("umount2", || umount("/no/such").is_ok()),
    ("unshare", || unshare(CloneFlags::CLONE_NEWUSER).is_ok()),
    ("setns", || setns(File::open("/proc/self/ns/net").unwrap(), CloneFlags::empty()).is_ok()),
    ("setuid", || setuid(getuid()).is_ok()),
    ("chroot", || chroot("/no/such").is_ok()),
    ("finit_module", || {
        finit_module(File::open("/dev/null").unwrap(), c"", ModuleInitFlags::empty()).is_ok()
    }),
    ("setrlimit", || setrlimit(Resource::RLIMIT_CORE, 0, 0).is_ok()),
    ("open to write", || File::options().write(true).open("/dev/null").is_ok()),
    ("open to empty", || File::options().write(true).create(true).truncate(true).open("/dev/null").is_ok()),
    ("open to append", || File::options().append(true).open("/dev/null").is_ok()),
    ("chmod", || fs::set_permissions("/no/such", Permissions::from_mode(0o777)).is_ok()),
    ("mkdir", || fs::create_dir("/no/such/folder").is_ok()),
];

fn open_socket(family: AddressFamily, kind: SockType) -> bool {
    socket(family, kind, SockFlag::empty(), None).is_ok()
}

/// This test runs itself once for each attempt: confined, where it has to be killed, and free, where it has to come back.
#[test]
fn what_is_forbidden_kills() {
    let is_allowed = |command: &&&detour_sys::Command| {
        let allowed = ["OBJ_GET", "OBJ_GET_INFO_BY_FD"];
        command.is_element() || allowed.contains(&command.name)
    };

    let commands = || commands::COMMANDS.iter().filter(|command| !is_allowed(command));
    if let Ok(attempt) = std::env::var("DETOUR_ATTEMPT") {
        setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
        let (task, what) = attempt.split_once(' ').unwrap();
        let task: u8 = task.parse().unwrap();
        if task != 0 {
            confine(task, (6, 18), &Places::default()).unwrap();
        }
        match commands::COMMANDS.iter().find(|command| command.name == what) {
            Some(command) => _ = call(command, &[]).is_ok(),
            None => _ = (ATTEMPTS.iter().find(|(name, _)| *name == what).unwrap().1)(),
        }
        std::process::exit(0);
    }
    let ends = |task: u8, what: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "what_is_forbidden_kills"]).env("DETOUR_ATTEMPT", format!("{task} {what}"));
        command.output().unwrap().status
    };
    let names = || ATTEMPTS.iter().map(|(name, _)| *name).chain(commands().map(|command| command.name));
    assert!(names().count() > 30);
    let mut wrong = Vec::new();
    for name in names() {
        if ends(0, name).code() != Some(0) {
            wrong.push(format!("{name} free: {}", ends(0, name)));
        }
        for task in [EVENTS, WATCH, RUN | METRICS | DOWN] {
            if ends(task, name).signal() != Some(Signal::SIGSYS as i32) {
                wrong.push(format!("{name} confined to {task}: {}", ends(task, name)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let free = |line: &&Allowed| matches!(line.only, Only::Any);
    assert!(TABLE.iter().filter(free).all(|line| !names().any(|name| name == line.name)));
}
