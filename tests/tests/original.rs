// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `up --original-dst`: servers that ask getsockopt(SO_ORIGINAL_DST) hear what nf_conntrack would have told them.
use e2e::cgroup::{self, Cgroup};
use e2e::detour::{self, code, up};
use e2e::family::Family;
use e2e::lab::{ip, Lab, GATEWAY, SECOND, SERVER};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::snapshot::Snapshot;
use e2e::{talk, tools};
use nix::sys::socket::{getsockopt, sockopt};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEVICE: &str = "eth0";
const RULE: &str = "tcp redirect to :8080";

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// What the kernel says to both questions, IPv4's and IPv6's.
fn asked(socket: &impl AsFd) -> [Option<SocketAddr>; 2] {
    let four = getsockopt(socket, sockopt::OriginalDst).ok().map(|a| {
        assert_eq!(i32::from(a.sin_family), nix::libc::AF_INET);
        (Ipv4Addr::from_bits(u32::from_be(a.sin_addr.s_addr)), u16::from_be(a.sin_port)).into()
    });
    let six = getsockopt(socket, sockopt::Ip6tOriginalDst).ok().map(|a| {
        assert_eq!((i32::from(a.sin6_family), a.sin6_scope_id), (nix::libc::AF_INET6, 0));
        (Ipv6Addr::from(a.sin6_addr.s6_addr), u16::from_be(a.sin6_port)).into()
    });
    [four, six]
}

/// Connections from one client port, and what the server hears about each; a server for one family or for both.
fn transcript(lab: &Lab, listen: &str, clients: &[(u16, &str)]) -> Vec<[Option<SocketAddr>; 2]> {
    let listener = lab.gateway.within(|| TcpListener::bind(listen).unwrap());
    assert_eq!(asked(&listener), [None, None], "a listener has no peer");
    let mut talks = Vec::new();
    let mut told = Vec::new();
    for (port, to) in clients {
        let client = talk::dial(&lab.client, *port, at(to)).unwrap();
        let (server, _) = listener.accept().unwrap();
        told.push(asked(&server));
        assert_eq!(asked(&client), [None, None], "the client's own end");
        talks.push((client, server));
    }
    told
}

#[test]
fn what_nf_conntrack_would_answer() {
    let cgroup = Cgroup::joined();
    // One port of the client again and again: to the server some of these come from others.
    let four = [
        (4000, "192.168.178.2:8080"),
        (4000, "93.184.216.34:80"),
        (4000, "93.184.216.34:443"),
        (4000, "1.2.3.4:8080"),
    ];
    let six = [(4001, "[2001:db8::1]:80"), (4001, "[2001:db8::1]:443"), (4001, "[fd00::2]:8080")];
    let both = [&four[..], &six].concat();
    let all = |lab: &Lab| {
        let six = transcript(lab, "[fd00::2]:8080", &six);
        [transcript(lab, "0.0.0.0:8080", &four), six, transcript(lab, "[::]:8080", &both)].concat()
    };
    let theirs = Lab::new();
    theirs.nft("meta l4proto tcp redirect to :8080");
    theirs.nft_for(Family::V6, "meta l4proto tcp redirect to :8080");
    let theirs = all(&theirs);
    let ours = Lab::new();
    up(&ours.gateway, DEVICE, &["--rule", RULE, &format!("--original-dst={}", cgroup.path())]);
    let ours = all(&ours);
    assert_eq!(ours, theirs);
    let told = |to: &str| {
        let to = at(to);
        [Some(to).filter(SocketAddr::is_ipv4), Some(to).filter(SocketAddr::is_ipv6)]
    };
    let expected = four.iter().chain(&six).chain(&both).map(|(_, to)| told(to)).collect::<Vec<_>>();
    assert_eq!(ours, expected, "what each client asked for, in its family");
}

#[test]
fn sockets_without_a_flow_keep_the_answer_of_the_kernel() {
    let cgroup = Cgroup::joined();
    let lab = Lab::new();
    up(&lab.gateway, DEVICE, &["--rule", RULE, &format!("--original-dst={}", cgroup.path())]);
    // No rule leads to the second address, so nobody follows what goes there.
    assert_eq!(transcript(&lab, "0.0.0.0:8080", &[(4000, &format!("{SECOND}:8080"))]), [[None, None]]);
    let listener = lab.gateway.within(|| TcpListener::bind("127.0.0.1:9").unwrap());
    let (local, _) = lab.gateway.within(|| (TcpStream::connect("127.0.0.1:9").unwrap(), listener.accept()));
    assert_eq!(asked(&local), [None, None]);
    let udp = lab.gateway.within(|| std::net::UdpSocket::bind("0.0.0.0:53").unwrap());
    udp.connect("192.168.178.51:53").unwrap();
    assert_eq!(asked(&udp), [None, None], "nf_conntrack does not either");
    // Other options of the same number, and other numbers, are nobody's business.
    assert!(getsockopt(&local, sockopt::KeepAlive).is_ok() && getsockopt(&local, sockopt::TcpMaxSeg).is_ok());

    // The same addresses and ports in another namespace.
    let twin = Lab::new();
    let known = transcript(&lab, "0.0.0.0:8080", &[(4001, "93.184.216.34:80")]);
    assert_eq!(known, [[Some(at("93.184.216.34:80")), None]]);
    let listener = lab.gateway.within(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let _here = talk::dial(&lab.client, 4002, at("93.184.216.34:80")).unwrap();
    let (here, _) = listener.accept().unwrap();
    let listener = twin.gateway.within(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let _there = talk::dial(&twin.client, 4002, (GATEWAY, 8080).into()).unwrap();
    let (there, _) = listener.accept().unwrap();
    let ends = |socket: &TcpStream| (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
    assert_eq!(ends(&here), ends(&there));
    assert_eq!((asked(&here)[0], asked(&there)[0]), (Some(at("93.184.216.34:80")), None));
}

/// The programs that bpftool sees at a cgroup.
fn attached(path: &str) -> Vec<Value> {
    let output = Command::new("bpftool").args(["-j", "cgroup", "show", path]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Array(Vec::new()));
    let all = found.as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|one| one["name"] == "detour_orig").collect()
}

/// The kernel lets go of a link a moment after its last pin.
fn soon(path: &str, count: usize) {
    let start = Instant::now();
    while attached(path).len() != count {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", attached(path));
    }
}

#[test]
fn what_is_made_is_shown_and_goes() {
    let cgroup = Cgroup::empty();
    let other = Cgroup::empty();
    let lab = Lab::on(Netns::alone(), DEVICE);
    let ns = &lab.gateway;
    let before = Snapshot::take(ns);
    let option = format!("--original-dst={}", cgroup.path());
    up(ns, DEVICE, &["--rule", RULE, &option]);
    let seen = attached(cgroup.path());
    assert_eq!(seen.len(), 1, "{seen:?}");
    let status = detour::json(ns, &["status", DEVICE]);
    let programs = status["instances"][0]["programs"].as_array().unwrap();
    let ours = programs.iter().find(|p| p["hook"] == "getsockopt").unwrap();
    assert_eq!((&ours["id"], &ours["cgroup_id"]), (&seen[0]["id"], &cgroup.id().into()));
    let text = detour::run(ns, &["status", DEVICE]).done().stdout;
    assert!(text.contains(&format!("getsockopt  cgroup {}  detour_orig  id", cgroup.id())), "{text}");
    let list = detour::json(ns, &["list", DEVICE]);
    let row = list["programs"].as_array().unwrap().iter().find(|p| p["hook"] == "getsockopt").unwrap();
    assert_eq!(
        (&row["id"], row["kind"].as_str(), row["owner"].as_str()),
        (&seen[0]["id"], Some("cgroup"), Some("up"))
    );
    let verify = detour::run(ns, &["verify", "--live", DEVICE]).done().stdout;
    assert!(verify.contains("program detour_orig"), "{verify}");

    // As it is, with other rules, and not otherwise.
    let again = |more: &[&str]| detour::run(ns, &[&["up", DEVICE, "--rule", "tcp drop"], more].concat());
    again(&[&option]).done();
    again(&[]).refused(code::FOREIGN, &["--original-dst on one side only"]);
    let moved = format!("--original-dst={}", other.path());
    again(&[&moved]).refused(code::FOREIGN, &["--original-dst of another cgroup"]);

    // Other programs with empty maps: the new one is there before the old one goes.
    let old = attached(cgroup.path())[0]["id"].clone();
    up(ns, DEVICE, &["--rule", RULE, &option, "--fresh"]);
    soon(cgroup.path(), 1);
    assert_ne!(attached(cgroup.path())[0]["id"], old);
    detour::run(ns, &["status", DEVICE]).done();

    // Servers of this test are not in that cgroup.
    assert_eq!(transcript(&lab, "0.0.0.0:8080", &[(4000, &format!("{GATEWAY}:8080"))])[0], [None, None]);
    detour::run(ns, &["down", DEVICE]).done();
    soon(cgroup.path(), 0);
    before.holds(ns, "up and down");

    let none = Cgroup::empty();
    up(ns, DEVICE, &[&format!("--original-dst={}", none.path())]);
    drop(none);
    // The kernel takes its programs away a moment after the folder.
    let start = Instant::now();
    let gone = || detour::run(ns, &["status", DEVICE]).stdout.contains("cgroup 0  detour_orig");
    while !gone() {
        assert!(start.elapsed() < Duration::from_secs(60), "still attached");
    }
    detour::run(ns, &["status", DEVICE]).ends(code::NO);
    detour::run(ns, &["verify", "--live", DEVICE]).ends(code::NO);
    up(ns, DEVICE, &[&option]);
    assert_eq!(attached(cgroup.path()).len(), 1);
    detour::run(ns, &["down", DEVICE]).done();
    before.holds(ns, "a cgroup that went");

    let missing = "--original-dst=/no/such/folder";
    detour::run(ns, &["up", DEVICE, missing]).refused(code::KERNEL, &["/no/such/folder", "No such file"]);
    let wrong = detour::run(ns, &["up", DEVICE, "--original-dst=/sys/fs/bpf"]);
    wrong.refused(code::KERNEL, &["a folder of a cgroup2 file system"]);
    detour::run(ns, &["up", DEVICE, "--original-dst=cgroup"]).refused(code::USAGE, &["begins with /"]);
    before.holds(ns, "refusals");
    // In a namespace of mounts without cgroup2 there is no default.
    let script = format!("umount -l {}; exec \"$0\" \"$@\"", cgroup::root().display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &script]).arg(detour::path()).args([
        "up",
        DEVICE,
        "--original-dst",
    ]);
    detour::Run::of(&["up"], &ns.output(&mut command))
        .refused(code::KERNEL, &["no cgroup2 file system", "mount -t cgroup2"]);
    before.holds(ns, "no cgroup2");
}

#[test]
fn everybody_and_several_devices() {
    let _cgroup = Cgroup::joined();
    let lab = Lab::new();
    let ns = &lab.gateway;
    // A second way in, with another answer.
    ip(
        ns,
        &format!(
            "link add eth9 type veth peer name eth9 netns {}
             address add 10.7.7.1/24 dev eth9
             link set eth9 addrgenmode none
             link set eth9 up",
            lab.client.path().display()
        ),
    );
    ip(
        &lab.client,
        "address add 10.7.7.51/24 dev eth9\n link set eth9 up\n route add 198.51.100.0/24 via 10.7.7.1",
    );
    // An address that came after `up` would be a change of which `status` tells: eth9 has none of its own in IPv6.
    for device in [DEVICE, "eth9"] {
        up(ns, device, &["--rule", RULE, "--original-dst"]);
    }
    let root = cgroup::root();
    let id = std::fs::metadata(&root).unwrap().ino();
    let status = detour::json(ns, &["status"]);
    let mut ours = Vec::new();
    for instance in status["instances"].as_array().unwrap() {
        let program =
            instance["programs"].as_array().unwrap().iter().find(|p| p["hook"] == "getsockopt").unwrap();
        assert_eq!(program["cgroup_id"].as_u64(), Some(id), "the root");
        ours.push(program["id"].clone());
    }
    let there = || attached(root.to_str().unwrap()).iter().filter(|one| ours.contains(&one["id"])).count();
    assert_eq!(there(), 2);
    let clients = [(4000, "93.184.216.34:80"), (4000, "198.51.100.7:443")];
    let heard =
        |told: Vec<[Option<SocketAddr>; 2]>| told.into_iter().map(|[four, _]| four).collect::<Vec<_>>();
    assert_eq!(heard(transcript(&lab, "0.0.0.0:8080", &clients)), clients.map(|(_, to)| Some(at(to))));
    detour::run(ns, &["down", DEVICE]).done();
    assert_eq!(heard(transcript(&lab, "0.0.0.0:8080", &clients[1..])), [Some(at("198.51.100.7:443"))]);
    detour::run(ns, &["down", "eth9"]).done();
    // Until the kernel lets go of the link, the program remembers what this client's port had asked for.
    let start = Instant::now();
    while there() > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "the links stay");
    }
    let direct = [(4000, "10.7.7.1:8080")];
    assert_eq!(heard(transcript(&lab, "0.0.0.0:8080", &direct)), [None]);
}

/// Waits until somebody listens at the gateway's port.
fn listens(lab: &Lab, port: u16) {
    let line = format!("sport = :{port}");
    let start = Instant::now();
    while lab.gateway.run("ss", &["-Hltn", &line]).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody listens at {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process that ends with the test.
struct Child(std::process::Child);

impl Child {
    fn start(lab: &Lab, program: &str, arguments: &[&str]) -> Child {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        Child(lab.gateway.within(|| command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Debian's redsocks, made for iptables, sends each connection to a SOCKS server and names where the client wanted to go.
#[test]
fn redsocks_finds_the_way() {
    let cgroup = Cgroup::joined();
    let lab = Lab::new();
    let scratch = tools::Scratch::new();
    let config = scratch.write(
        "redsocks.conf",
        "base { log_info = off; log_debug = off; daemon = off; redirector = iptables; }\n\
         redsocks { local_ip = 0.0.0.0; local_port = 12345; ip = 127.0.0.1; port = 1080; type = socks4; }\n",
    );
    let socks = lab.gateway.within(|| TcpListener::bind("127.0.0.1:1080").unwrap());
    let _redsocks = Child::start(&lab, "redsocks", &["-c", &config]);
    up(
        &lab.gateway,
        DEVICE,
        &["--rule", "tcp redirect to :12345", &format!("--original-dst={}", cgroup.path())],
    );
    listens(&lab, 12345);
    let wanted = ["93.184.216.34:80", "198.51.100.7:8081"].map(|to| {
        let mut client = talk::dial(&lab.client, 0, at(to)).unwrap();
        let (mut proxied, _) = socks.accept().unwrap();
        // SOCKS 4: version, connect, port, address, and a user that ends with a zero.
        let mut request = [0; 9];
        let mut length = 0;
        while length < 9 || request[8] != 0 {
            length += proxied.read(&mut request[length.min(8)..]).unwrap();
        }
        proxied.write_all(&[0, 90, 0, 0, 0, 0, 0, 0]).unwrap();
        // And from then on everything goes both ways.
        client.write_all(b"ping").unwrap();
        let mut heard = [0; 4];
        proxied.read_exact(&mut heard).unwrap();
        proxied.write_all(b"pong").unwrap();
        assert_eq!(&heard, b"ping");
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"pong");
        let [_, _, high, low, ip @ ..] = request;
        let port = u16::from_be_bytes([high, low]);
        SocketAddr::from(([ip[0], ip[1], ip[2], ip[3]], port))
    });
    assert_eq!(wanted, [at("93.184.216.34:80"), at("198.51.100.7:8081")]);
}

/// Debian's mitmproxy in transparent mode goes there itself, and what the client hears is what the server there says.
#[test]
fn mitmproxy_finds_the_way() {
    let cgroup = Cgroup::joined();
    let lab = Lab::new();
    let server = lab.server();
    let scratch = tools::Scratch::new();
    let configuration = format!("confdir={}", scratch.path("mitmproxy").display());
    let mode = ["--mode", "transparent", "--listen-port", "12346", "--set", &configuration];
    let _proxy = Child::start(&lab, "mitmdump", &mode);
    up(
        &lab.gateway,
        DEVICE,
        &["--rule", "tcp redirect to :12346", &format!("--original-dst={}", cgroup.path())],
    );
    listens(&lab, 12346);
    for port in [80, 8081] {
        let _web = Server::http(&server, SocketAddr::new(SERVER.into(), port), &format!("page {port}"));
        let body = talk::curl(&lab.client, &format!("http://{SERVER}:{port}/"));
        assert!(
            body.starts_with(&format!("page {port} 10.9.9.1:")),
            "asked by the gateway, not the client: {body}"
        );
    }
}
