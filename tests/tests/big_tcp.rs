// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! BIG TCP: packets of more than 64 KiB, whose IP header has no room for their length and says 0 (over IPv6 a jumbo option
//! may follow it), to a server here and to one behind the gateway, and back.
use detour::load::field::{Fields, Value};
use detour::load::message::{Message, NLM_F_ACK, NLM_F_REQUEST};
use detour::load::netlink::Socket;
use detour::load::rtnl::{link_named, Link};
use e2e::capture::{Frame, Wire};
use e2e::detour::{json, up};
use e2e::family::Family;
use e2e::lab::{ip, Lab};
use e2e::netns::Netns;
use e2e::serve::Server;
use e2e::six::bad_checksums;
use e2e::talk;
use std::net::IpAddr;

/// Lets `device` send and receive packets of up to 200,000 bytes; `ip` of Debian 12 knows no such limits for IPv4.
fn big(ns: &Netns, device: &str) {
    const RTM_NEWLINK: u16 = 16;
    // IFLA_GSO_MAX_SIZE, IFLA_GRO_MAX_SIZE, IFLA_GSO_IPV4_MAX_SIZE, IFLA_GRO_IPV4_MAX_SIZE
    const LIMITS: [&str; 4] = ["#41", "#58", "#63", "#64"];
    ns.within(|| {
        let mut socket = Socket::open().unwrap();
        let index = socket.request(&link_named(device)).unwrap().read(Link::read)[0].index;
        let limit =
            |fields: Fields, name| fields.with(name, Value::Bytes(200_000_u32.to_ne_bytes().to_vec()));
        let fields = LIMITS.into_iter().fold(Fields::default().head("ifi_index", index), limit);
        socket.request(&Message::new(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, fields)).unwrap();
    });
}

/// Whether the frame arrives, in one piece of more than 64 KiB, from the one to the other.
fn is_big(frame: &Frame, from: IpAddr, to: IpAddr) -> bool {
    let ends = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.bytes.get(26..34) == Some(&[from.octets(), to.octets()].concat()[..])
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.bytes.get(22..54) == Some(&[from.octets(), to.octets()].concat()[..])
        }
        _ => false,
    };
    !frame.sent && frame.bytes.len() > 14 + 40 + 65_535 && ends
}

#[test]
fn packets_of_more_than_64_kib() {
    for family in Family::BOTH {
        for beyond in [false, true] {
            let lab = Lab::new();
            let server = lab.server6();
            for (ns, device) in
                [(&lab.client, "eth0"), (&lab.gateway, "eth0"), (&lab.gateway, "eth1"), (&server, "eth0")]
            {
                big(ns, device);
            }
            // A router counts the jumbo option when it looks whether the segments fit into its link; a sender does not.
            for ns in [&lab.client, &server] {
                ip(ns, "link set eth0 mtu 1400");
            }
            let (client, far, host) = (family.client(), family.far(), family.server());
            let rule = if beyond { format!("tcp dnat to {host}") } else { "tcp redirect".to_string() };
            let (here, there) = (Wire::tap(&lab.client, "eth0").only(), Wire::tap(&server, "eth0").only());
            up(&lab.gateway, &lab.device, &["--rule", &rule]);
            let page = "0123456789abcdef".repeat(1 << 19);
            let web = Server::http(if beyond { &server } else { &lab.gateway }, family.any(80), &page);
            std::thread::scope(|scope| {
                // Looked at meanwhile, for a socket holds only a few of them.
                let seen = |wire: Wire, from, to| {
                    let long = move |frame: &Frame| is_big(frame, from, to).then_some(());
                    scope.spawn(move || wire.next(long))
                };
                let to = beyond.then(|| seen(there, client, host));
                let back = seen(here, far, client);
                let mut stream = talk::dial(&lab.client, 4000, (far, 80).into()).unwrap();
                let body = talk::get(&mut stream, &page).unwrap();
                assert!(body.starts_with(&page), "{rule}: bulk to the client");
                assert_eq!(back.join().unwrap(), Some(()), "{rule}: no such packet to the client");
                assert_ne!(to.map(|to| to.join().unwrap()), Some(None), "{rule}: none to the server");
            });
            let (_, request) = web.heard().remove(0);
            assert!(String::from_utf8(request).unwrap().contains(&page), "{rule}: bulk to the server");
            for ns in [&lab.client, &lab.gateway, &server] {
                assert_eq!(bad_checksums(ns), Vec::<String>::new(), "{rule}");
            }
            let status = json(&lab.gateway, &["status", &lab.device]);
            let counters = &status["instances"][0]["dnat"]["not_translated"];
            for reason in ["malformed", "no_flow", "extension"] {
                assert_eq!(counters[reason].as_u64().unwrap_or(0), 0, "{rule}: {reason} in {counters}");
            }
        }
    }
}
