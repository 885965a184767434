// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Our own objects, messages and files to the corpora that the targets start from: `seeds ROOT DIR` fills DIR/TARGET/.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use detour::load::create::Creation;
use detour::load::facts::Machine;
use detour::load::message::Message;
use detour::load::tc::{Place, Tc, INGRESS};
use detour::load::{plan, plan_json, rtnl, tc};
use detour::object::Object;
use detour_fuzz::section;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (Some(root), Some(out)) = (arguments.next(), arguments.next()) else {
        return Err("usage: seeds ROOT DIR".into());
    };
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let dir = out.join(target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(name), bytes)
    };
    for path in objects(&root)? {
        let bytes = fs::read(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        put("object", &name, &bytes)?;
        for (target, wanted) in [("btf", ".BTF"), ("kernel_types", ".BTF"), ("btf_ext", ".BTF.ext")] {
            if let Some((_, data)) = section(&bytes, wanted) {
                put(target, &name, data)?;
            }
        }
        if let Some(json) = dry_run(&name, &bytes) {
            put("documents", &format!("{name}.json"), json.as_bytes())?;
        }
    }
    put("documents", "facts.json", &fs::read(root.join("tests/golden/eth0.facts.json"))?)?;
    for (index, text) in RULES.lines().enumerate() {
        put("rules", &format!("line-{index}"), text.as_bytes())?;
    }
    put("rules", "all", RULES.as_bytes())?;
    for (index, bytes) in replies()?.iter().enumerate() {
        put("netlink", &format!("reply-{index}"), bytes)?;
    }
    let words: Vec<u8> = [1u32, 0, 14, 250, 4, 2, 64, 64, 16].iter().flat_map(|w| w.to_ne_bytes()).collect();
    put("map_values", "small", &words)?;
    put("dns", "hosts", b"192.0.2.1 web.example # client 192.0.2.51\n")?;
    put("dns", "answer", ANSWER)?;
    put("map_values", "large", &words.repeat(64))?;
    Ok(())
}

fn objects(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for dir in ["elf", "elf/fixtures"] {
        for entry in fs::read_dir(root.join(dir))? {
            all.push(entry?.path());
        }
    }
    all.retain(|path| path.extension().is_some_and(|e| e == "o"));
    Ok(all)
}

fn dry_run(name: &str, bytes: &[u8]) -> Option<String> {
    let object = Object::parse(bytes).ok()?;
    let machine = Machine { release: "6.18.0".into(), page_size: 4096, possible_cpus: 2, hz: 250 };
    let programs = object.programs.iter().filter(|p| p.loads_by_itself()).map(|p| p.name.clone()).collect();
    let creation = Creation { file: name.into(), programs, ..Creation::default() };
    Some(plan_json::plan(&plan::dry_run(&object, &creation, &machine).ok()?).to_string())
}

/// What a kernel sends: objects of a dump and its end, an error with words, an acknowledgement.
fn replies() -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let place = Place::new(3, INGRESS, 100, 1);
    let add = Tc::FilterAdd { place, program: "%p".into(), name: "detour/in".into() };
    let messages = [
        rtnl::veth_add("v0", "v1", Some("%n")),
        rtnl::addr_add(3, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 24),
        rtnl::link_address(3, [2, 0, 0, 0, 0, 1]),
        rtnl::route_add(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0, 3, Some(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        Tc::ClsactAdd { ifindex: 3, marked: false }.message(),
        add.message(),
        tc::filter_get(place),
    ];
    let mut replies = Vec::new();
    let mut whole = Vec::new();
    for message in messages {
        let bytes = from_kernel(&message.resolved(&|_| Some(9)))?;
        whole.extend_from_slice(&bytes);
        replies.push(bytes);
    }
    let words = b"\x0c\0\x01\0no such\0\x08\0\x02\0\x20\0\0\0";
    let error = [&(-22i32).to_ne_bytes()[..], &[7; 16], words].concat();
    whole.extend(framed(3, 0x2, &[0; 4]));
    replies.extend([whole, framed(2, 0x300, &error), framed(2, 0, &[0; 20]), framed(3, 0x200, &error[..4])]);
    Ok(replies)
}

/// With the port and the sequence number that the target expects.
fn from_kernel(message: &Message) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut bytes = message.encode(7)?;
    bytes[12..16].copy_from_slice(&4242u32.to_ne_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

fn framed(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = (16 + payload.len()) as u32;
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes()].concat();
    bytes.extend([7u32.to_ne_bytes(), 4242u32.to_ne_bytes()].concat());
    bytes.extend_from_slice(payload);
    bytes
}

/// www.example.org, an alias of cdn.example.net, which is 192.0.2.1.
const ANSWER: &[u8] = b"\0\x07\x81\x80\0\x01\0\x02\0\0\0\0\x03www\x07example\x03org\0\0\x01\0\x01\xc0\x0c\0\x05\0\x01\0\0\0\x3c\
    \0\x11\x03cdn\x07example\x03net\0\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01";

const RULES: &str = "\
# first match wins
tcp dport 80 redirect to :8080
tcp dport { 443, 8443 } dnat to 192.168.178.2:8443
ip daddr != 192.168.178.0/24 udp dport 53 redirect to :53
ip saddr 192.168.178.51 tcp dport 1-1023 dnat to 192.168.178.2
ip6 daddr 2001:db8::/32 tcp dport 80 dnat to [fd00::2]:8080
ip saddr { 10.0.0.1-10.0.0.9, 10.1.0.0/16 } meta l4proto { tcp, udp } counter drop
ip6 saddr != { 2001:db8::1, fd00::/8 } sctp sport != 1-9 reject
udp dport 53 dnat to 192.0.2.2 masquerade
meta l4proto 47 accept
icmp dnat to 192.0.2.2
redirect
";
