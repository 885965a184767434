// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Our netlink messages against the running kernel, and what we read against what `ip` and `tc` read.
use detour::load::field::{info, Fields, Value};
use detour::load::message::{Message, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST};
use detour::load::netlink::{NetlinkError, Reply, Socket};
use detour::load::rtnl::{self, Addr, Link};
use detour::load::tc::{self, Filter, Place, Qdisc, Tc, EGRESS, INGRESS};
use detour_sys::commands::PROG_LOAD;
use e2e::netns::Netns;
use serde_json::Value as Json;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;

/// A socket in the namespace and the index of a veth named `v0` in it, whose other end is `v1`.
fn veth(socket: &mut Socket) -> u32 {
    ok(socket, &rtnl::veth_add("v0", "v1", None));
    index(socket, "v0")
}

fn ok(socket: &mut Socket, message: &Message) -> Reply {
    let reply = socket.request(message).unwrap_or_else(|error| panic!("{message}: {error}"));
    assert_eq!(reply.warnings, Vec::<String>::new(), "{message}");
    reply
}

fn refused(socket: &mut Socket, message: &Message) -> NetlinkError {
    socket.request(message).map(|reply| panic!("{message}: accepted, {reply:?}")).unwrap_err()
}

fn index(socket: &mut Socket, name: &str) -> u32 {
    ok(socket, &rtnl::link_named(name)).read(Link::read)[0].index
}

fn json(netns: &Netns, program: &str, arguments: &[&str]) -> Vec<Json> {
    let text = netns.run(program, arguments);
    if text.trim().is_empty() {
        return Vec::new();
    }
    serde_json::from_str::<Json>(&text).unwrap().as_array().unwrap().clone()
}

/// `r0 = -1; exit`: the program that has no opinion.
fn program() -> OwnedFd {
    program_of(3)
}

fn program_of(kind: u64) -> OwnedFd {
    let insns = [0xb7, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let arguments = [
        ("prog_type", detour_sys::Value::Num(kind)),
        ("insns", detour_sys::Value::Bytes(&insns)),
        ("license", detour_sys::Value::Text("GPL")),
        ("prog_name", detour_sys::Value::Text("nothing")),
    ];
    detour_sys::call(&PROG_LOAD, &arguments).map_err(|(error, _)| error).unwrap().fd.unwrap()
}

fn add(place: Place, fd: i32) -> Message {
    let tc = Tc::FilterAdd { place, program: "%p".into(), name: "detour test".into() };
    tc.message().resolved(&|_| u32::try_from(fd).ok())
}

#[test]
fn links_and_addresses_read_as_ip_reads_them() {
    let netns = Netns::new();
    let (links, addrs) = netns.within(|| {
        let mut socket = Socket::open().unwrap();
        let index = veth(&mut socket);
        ok(&mut socket, &rtnl::link_address(index, [2, 0, 0, 0, 0, 7]));
        ok(&mut socket, &rtnl::link_up(index));
        for text in ["192.0.2.1", "2001:db8::1"] {
            ok(&mut socket, &rtnl::addr_add(index, text.parse().unwrap(), 24));
        }
        netns
            .run("ip", &["link", "property", "add", "dev", "v0", "altname", "a-name-that-is-longer-than-15"]);
        netns.run("ip", &["link", "property", "add", "dev", "v0", "altname", "eth0.100"]);
        netns.run("ip", &["address", "add", "192.0.2.9/24", "dev", "v0"]);
        netns.run("ip", &["address", "add", "198.51.100.1", "peer", "198.51.100.2/32", "dev", "v0"]);
        netns.run("ip", &["link", "add", "br0", "type", "bridge"]);
        netns.run("ip", &["link", "set", "v1", "master", "br0"]);
        for name in ["eth0.100", "a-name-that-is-longer-than-15"] {
            assert_eq!(self::index(&mut socket, name), index);
        }
        assert_eq!(ok(&mut socket, &rtnl::link_get(index)).read(Link::read)[0].name, "v0");
        assert_eq!(refused(&mut socket, &rtnl::link_named("nosuch")).errno_name(), "ENODEV");
        let links = ok(&mut socket, &rtnl::link_dump()).read(Link::read);
        let addrs = ok(&mut socket, &rtnl::addr_dump(index)).read(Addr::read);
        (links, addrs)
    });

    let theirs = json(&netns, "ip", &["-j", "-d", "link"]);
    assert_eq!(links.len(), theirs.len());
    for (ours, theirs) in links.iter().zip(&theirs) {
        assert_eq!(theirs["ifindex"], ours.index);
        assert_eq!(theirs["ifname"], *ours.name);
        assert_eq!(theirs["mtu"], ours.mtu);
        let mac: Vec<String> = ours.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(theirs["address"], mac.join(":"));
        assert_eq!(theirs["altnames"].as_array().map_or(0, Vec::len), ours.altnames.len());
        assert_eq!(theirs["linkinfo"]["info_kind"].as_str(), ours.kind.as_deref());
        assert_eq!(
            theirs["flags"].as_array().unwrap().contains(&"UP".into()),
            ours.flags & rtnl::IFF_UP != 0
        );
        let arphrd = match theirs["link_type"].as_str().unwrap() {
            "ether" => rtnl::ARPHRD_ETHER,
            "loopback" => rtnl::ARPHRD_LOOPBACK,
            other => panic!("{other}"),
        };
        assert_eq!(arphrd, ours.arphrd);
    }
    let v0 = links.iter().find(|link| link.name == "v0").unwrap();
    let v1 = links.iter().find(|link| link.name == "v1").unwrap();
    assert_eq!(v0.altnames, ["a-name-that-is-longer-than-15", "eth0.100"]);
    assert_eq!(
        (v0.mac.as_slice(), v0.lower, v0.lower_netns),
        (&[2, 0, 0, 0, 0, 7][..], Some(v1.index), None)
    );
    assert_eq!(v1.master, links.iter().find(|link| link.name == "br0").map(|link| link.index));

    let theirs = &json(&netns, "ip", &["-j", "address", "show", "dev", "v0"])[0]["addr_info"];
    assert_eq!(theirs.as_array().unwrap().len(), addrs.len());
    for (ours, theirs) in addrs.iter().zip(theirs.as_array().unwrap()) {
        assert_eq!(theirs["local"], ours.ip.to_string());
        assert_eq!(theirs["prefixlen"], ours.prefix);
        assert_eq!(theirs["scope"] == "global", ours.scope == 0);
        assert_eq!(theirs["address"].as_str().map(str::to_string), ours.peer.map(|ip| ip.to_string()));
        let secondary = ours.ip.is_ipv4() && ours.flags & 1 != 0;
        assert_eq!(theirs["secondary"].as_bool().unwrap_or(false), secondary);
    }
    let primary = |ipv6| rtnl::primary(&addrs, v0.index, ipv6).map(|addr| addr.ip.to_string());
    assert_eq!((primary(false), primary(true)), (Some("192.0.2.1".into()), Some("2001:db8::1".into())));
}

#[test]
fn a_veth_reaches_into_another_namespace() {
    let (client, gateway) = (Netns::new(), Netns::new());
    let path = client.path();
    gateway.within(|| {
        let mut socket = Socket::open().unwrap();
        let file = std::fs::File::open(path).unwrap();
        let message = rtnl::veth_add("lan0", "up0", Some("%client"));
        assert_eq!(refused(&mut socket, &message).text.as_deref(), Some("%client has no number yet"));
        let message = message.resolved(&|_| u32::try_from(file.as_raw_fd()).ok());
        ok(&mut socket, &message);
        let lan0 = index(&mut socket, "lan0");
        assert!(ok(&mut socket, &rtnl::link_get(lan0)).read(Link::read)[0].lower_netns.is_some());
        ok(&mut socket, &rtnl::link_up(lan0));
        ok(&mut socket, &rtnl::addr_add(lan0, "10.9.0.1".parse().unwrap(), 24));
        ok(&mut socket, &rtnl::addr_add(lan0, "fd09::1".parse().unwrap(), 64));
        assert_eq!(refused(&mut socket, &message).errno_name(), "EEXIST");
    });
    client.within(|| {
        let mut socket = Socket::open().unwrap();
        let up0 = index(&mut socket, "up0");
        ok(&mut socket, &rtnl::link_up(up0));
        for (ip, prefix, any, gateway) in
            [("10.9.0.2", 24, "0.0.0.0", "10.9.0.1"), ("fd09::2", 64, "::", "fd09::1")]
        {
            ok(&mut socket, &rtnl::addr_add(up0, ip.parse().unwrap(), prefix));
            let gateway = Some(gateway.parse().unwrap());
            ok(&mut socket, &rtnl::route_add(any.parse().unwrap(), 0, up0, gateway));
        }
        ok(&mut socket, &rtnl::route_add("203.0.113.0".parse().unwrap(), 24, up0, None));
        ok(&mut socket, &rtnl::route_add("2001:db8::".parse().unwrap(), 32, up0, None));
    });
    for ip in ["10.9.0.1", "fd09::1"] {
        let address = (ip.parse::<IpAddr>().unwrap(), 80);
        let listener = gateway.within(|| TcpListener::bind(address).unwrap());
        client.within(|| TcpStream::connect(address).unwrap());
        drop(listener);
    }
    let routes = client.run("ip", &["route"]) + &client.run("ip", &["-6", "route"]);
    for line in [
        "default via 10.9.0.1 dev up0 proto static",
        "203.0.113.0/24 dev up0 proto static scope link",
        "default via fd09::1 dev up0 proto static",
        "2001:db8::/32 dev up0 proto static",
    ] {
        assert!(routes.contains(line), "{routes}");
    }
    gateway.within(|| {
        let mut socket = Socket::open().unwrap();
        let lan0 = index(&mut socket, "lan0");
        ok(&mut socket, &rtnl::link_del(lan0));
    });
    assert!(!client.run("ip", &["link"]).contains("up0"));
}

#[test]
fn clsact_is_made_once_and_other_qdiscs_refuse() {
    let netns = Netns::new();
    netns.within(|| {
        let mut socket = Socket::open().unwrap();
        let ifindex = veth(&mut socket);
        let (add, del) =
            (Tc::ClsactAdd { ifindex, marked: false }.message(), Tc::ClsactDel { ifindex }.message());
        ok(&mut socket, &add);
        let again = refused(&mut socket, &add);
        assert_eq!(again.to_string(), "RTM_NEWQDISC: Exclusivity flag on, cannot modify (EEXIST)");
        compare_qdiscs(&mut socket, &netns);
        ok(&mut socket, &del);
        assert_eq!(refused(&mut socket, &del).to_string(), "RTM_DELQDISC: Invalid handle (EINVAL)");

        netns.run("tc", &["qdisc", "add", "dev", "v0", "ingress"]);
        assert_eq!(refused(&mut socket, &add).errno_name(), "EEXIST");
        let error = refused(&mut socket, &del);
        assert_eq!((error.errno_name(), error.text.is_some()), ("EINVAL".into(), true), "{error}");
        compare_qdiscs(&mut socket, &netns);
        let error = refused(&mut socket, &Tc::ClsactAdd { ifindex: 4711, marked: false }.message());
        assert_eq!(error.to_string(), "RTM_NEWQDISC: No such device (ENODEV)");
    });
}

fn compare_qdiscs(socket: &mut Socket, netns: &Netns) {
    let mut qdiscs = ok(socket, &tc::qdisc_dump()).read(Qdisc::read);
    let theirs = json(netns, "tc", &["-j", "qdisc", "show"]);
    assert_eq!(qdiscs.len(), theirs.len());
    for theirs in theirs {
        let ours = qdiscs.remove(0);
        let link = ok(socket, &rtnl::link_get(ours.ifindex)).read(Link::read).remove(0);
        assert_eq!((&theirs["dev"], &theirs["kind"]), (&link.name.into(), &ours.kind.into()));
        assert_eq!(theirs["handle"], format!("{:x}:", ours.handle >> 16));
        match theirs["parent"].as_str() {
            None => assert_eq!((&theirs["root"], ours.parent), (&true.into(), u32::MAX)),
            Some(parent) => {
                assert_eq!(parent, format!("{:x}:{:x}", ours.parent >> 16, ours.parent & 0xffff));
            }
        }
    }
}

#[test]
fn filters_come_back_as_sent_and_as_tc_shows_them() {
    let netns = Netns::new();
    netns.within(|| {
        let mut socket = Socket::open().unwrap();
        let ifindex = veth(&mut socket);
        let place = Place::new(ifindex, INGRESS, 100, 0xd370);
        let fd = program();
        let add = |place| add(place, fd.as_raw_fd());
        let none = refused(&mut socket, &add(place));
        assert_eq!(none.to_string(), "RTM_NEWTFILTER: Parent Qdisc doesn't exists (EINVAL)");
        assert_eq!(ok(&mut socket, &tc::filter_dump(ifindex, INGRESS)), Reply::default());

        ok(&mut socket, &Tc::ClsactAdd { ifindex, marked: false }.message());
        let echo = ok(&mut socket, &add(place)).read(Filter::read);
        assert_eq!(echo.len(), 1);
        let bpf = echo[0].bpf.clone().unwrap();
        assert_eq!(echo[0].place, place);
        assert_eq!((bpf.name.as_deref(), bpf.direct_action), (Some("detour test"), true));
        let info = detour_sys::info(fd.as_fd(), 80).unwrap();
        assert_eq!(bpf.id.unwrap().to_ne_bytes(), info[4..8]);
        assert_eq!(bpf.tag.unwrap(), info[8..16]);

        let again = refused(&mut socket, &add(place));
        assert_eq!(again.to_string(), "RTM_NEWTFILTER: Filter already exists (EEXIST)");
        let replace = Tc::FilterReplace { place, program: "%p".into(), name: "second".into() };
        let fresh = program();
        let replace = replace.message().resolved(&|_| u32::try_from(fresh.as_raw_fd()).ok());
        assert_eq!(ok(&mut socket, &replace).read(Filter::read).len(), 1);
        assert_eq!(ok(&mut socket, &tc::filter_get(place)).read(Filter::read).len(), 1);
        ok(&mut socket, &add(Place { handle: 1, ..place }));
        ok(&mut socket, &add(Place { parent: EGRESS, prio: 3, ..place }));
        let bytecode = "1,6 0 0 4294967295,";
        netns.run("tc", &["filter", "add", "dev", "v0", "ingress", "prio", "7", "bpf", "bytecode", bytecode]);
        let u32 = ["u32", "match", "ip", "src", "192.0.2.0/24", "flowid", "1:1"];
        netns.run(
            "tc",
            &[&["filter", "add", "dev", "v0", "egress", "protocol", "ip", "prio", "9"][..], &u32].concat(),
        );

        for (parent, side) in [(INGRESS, "ingress"), (EGRESS, "egress")] {
            let ours = ok(&mut socket, &tc::filter_dump(ifindex, parent)).read(Filter::read);
            let theirs = json(&netns, "tc", &["-j", "filter", "show", "dev", "v0", side]);
            let theirs: Vec<&Json> = theirs.iter().filter(|filter| filter["options"].is_object()).collect();
            assert_eq!(ours.len(), theirs.len(), "{ours:#?} {theirs:#?}");
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert_eq!(
                    (&theirs["pref"], &theirs["kind"]),
                    (&ours.place.prio.into(), &ours.kind.clone().into())
                );
                assert_eq!(theirs["protocol"], if ours.place.protocol == 3 { "all" } else { "ip" });
                assert_eq!(theirs["chain"], ours.place.chain);
                assert_eq!(ours.place.parent, parent);
                let (options, Some(bpf)) = (&theirs["options"], &ours.bpf) else { continue };
                assert_eq!(options["handle"], format!("{:#x}", ours.place.handle));
                assert_eq!(options["bpf_name"].as_str(), bpf.name.as_deref());
                assert_eq!(options["prog"]["id"].as_u64(), bpf.id.map(u64::from));
                assert_eq!(options["direct-action"].as_bool().unwrap_or(false), bpf.direct_action);
            }
        }
        assert_eq!(ok(&mut socket, &tc::filter_dump(ifindex, INGRESS)).read(Filter::read).len(), 3);

        let del = Tc::FilterDel { place }.message();
        ok(&mut socket, &del);
        let gone = refused(&mut socket, &del);
        assert_eq!(gone.to_string(), "RTM_DELTFILTER: Specified filter handle not found (ENOENT)");
        let wrong_kind = Tc::FilterDel { place: Place { parent: EGRESS, prio: 9, handle: 1, ..place } };
        assert!(refused(&mut socket, &wrong_kind.message()).text.is_some());
        assert_eq!(ok(&mut socket, &tc::filter_dump(ifindex, INGRESS)).read(Filter::read).len(), 2);
    });
}

#[test]
fn refusals_name_what_is_wrong() {
    let netns = Netns::new();
    netns.within(|| {
        let mut socket = Socket::open().unwrap();
        let ifindex = veth(&mut socket);
        ok(&mut socket, &Tc::ClsactAdd { ifindex, marked: false }.message());
        let place = Place::new(ifindex, INGRESS, 100, 1);
        let error = refused(&mut socket, &add(place, 4711));
        assert_eq!(error.to_string(), "RTM_NEWTFILTER: Bad file number (EBADF)");
        assert!(tc::hint(&error).is_some());
        let xdp = program_of(6);
        let error = refused(&mut socket, &add(place, xdp.as_raw_fd()));
        assert_eq!((error.errno_name(), &error.text), ("EINVAL".into(), &None));
        assert!(tc::hint(&error).is_some());

        // The kernel points at an attribute by its offset; we name it, also deep inside.
        let mut message = rtnl::link_up(ifindex);
        message.fields.push("IFLA_MTU", Value::Bytes(vec![1]));
        let error = refused(&mut socket, &message);
        assert_eq!(error.to_string(), "RTM_NEWLINK: Attribute failed policy validation (ERANGE) at IFLA_MTU");
        let other = Fields::default().with("IFLA_IFNAME", "v3").with("IFLA_MTU", Value::Bytes(vec![1]));
        let data = Fields::default().with("VETH_INFO_PEER", other);
        let info = Fields::default().with("IFLA_INFO_KIND", "veth").with("IFLA_INFO_DATA", data);
        let mut message = rtnl::veth_add("v2", "v3", None);
        message.fields = Fields::default().with("IFLA_IFNAME", "v2").with("IFLA_LINKINFO", info);
        let path = "IFLA_LINKINFO.IFLA_INFO_DATA.VETH_INFO_PEER.IFLA_MTU";
        assert_eq!(refused(&mut socket, &message).attribute.as_deref(), Some(path));
    });
}

#[test]
fn dumps_are_whole_whatever_their_size() {
    let netns = Netns::new();
    netns.within(|| {
        let mut socket = Socket::open().unwrap();
        let index = veth(&mut socket);
        let ips: Vec<IpAddr> = (0..2000u32).map(|n| Ipv4Addr::from(0x0a01_0000 + n).into()).collect();
        for ip in &ips {
            ok(&mut socket, &rtnl::addr_add(index, *ip, 16));
        }
        let addrs = ok(&mut socket, &rtnl::addr_dump(index)).read(Addr::read);
        assert_eq!(addrs.iter().map(|addr| addr.ip).collect::<Vec<_>>(), ips);
        assert_eq!(rtnl::primary(&addrs, index, false).map(|addr| addr.ip), Some(ips[0]));
        // Strict checking: the kernel filters by device.
        let other = self::index(&mut socket, "v1");
        assert_eq!(ok(&mut socket, &rtnl::addr_dump(other)).messages.len(), 0);
    });
}

#[test]
fn an_error_within_a_dump_is_an_error() {
    let netns = Netns::new();
    netns.within(|| {
        let mut socket = Socket::open().unwrap();
        let ifindex = veth(&mut socket);
        ok(&mut socket, &Tc::ClsactAdd { ifindex, marked: false }.message());
        // `return -1` in classic BPF, so that this test needs no program.
        let options = Fields::default()
            .with("TCA_BPF_OPS_LEN", 1)
            .with("TCA_BPF_OPS", Value::Bytes(vec![6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]))
            .with("TCA_BPF_CLASSID", 0x10001);
        let head = Fields::default().head("tcm_ifindex", ifindex).head("tcm_parent", INGRESS);
        let fields =
            head.clone().head("tcm_info", info(5, 3)).with("TCA_KIND", "bpf").with("TCA_OPTIONS", options);
        ok(&mut socket, &Message::new(RTM_NEWTFILTER, CHANGE | NLM_F_CREATE | NLM_F_EXCL, fields));
        let filters = ok(&mut socket, &tc::filter_dump(ifindex, INGRESS)).read(Filter::read);
        assert_eq!(filters.len(), 1);
        assert_eq!(filters[0].bpf.as_ref().map(|bpf| (bpf.id, bpf.direct_action)), Some((None, false)));

        // A terse dump (struct nla_bitfield32 { value, selector }), which cls_bpf cannot do: 0 filters and, in the
        // payload of NLMSG_DONE, an error that a reader who skips it takes for an empty device.
        let terse = Value::Bytes([1u32.to_ne_bytes(), 1u32.to_ne_bytes()].concat());
        let fields = head.with("TCA_DUMP_FLAGS", terse);
        let dump = Message::new(RTM_GETTFILTER, NLM_F_REQUEST | NLM_F_DUMP, fields);
        assert_eq!(refused(&mut socket, &dump).errno_name(), "EMSGSIZE");
        // The socket is fit for the next request.
        assert_eq!(ok(&mut socket, &tc::filter_dump(ifindex, INGRESS)).read(Filter::read).len(), 1);
    });
}
