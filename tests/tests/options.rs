// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Combinations of all that `up` can be told, and of what it finds by itself: the verifier takes the programs with the constants
//! that follow, and what runs is what was meant. The list is made here; scripts/test-kernels has old kernels take all of it.
use e2e::detour::{json, run};
use e2e::golden;
use e2e::lab::Lab;
use e2e::random::Random;

/// Lines of the list.
const LINES: usize = 100;
/// Each how many-th is tried here.
const EACH: usize = 8;

/// Of the kinds that the grammar knows, for a server here, behind this device and elsewhere.
const RULES: [&str; 12] = [
    "redirect",
    "tcp dport 80 redirect to :8080",
    "udp dport { 53, 5000-5999 } dnat to 192.168.178.2:53",
    "ip saddr != 192.168.178.0/24 drop",
    "ip6 daddr 2001:db8::/32 tcp dnat to [fd00::2]:8080",
    "tcp dport 25 reject with tcp reset",
    "udp reject",
    "ip daddr 198.51.100.0/24 accept",
    "icmp dnat to 127.0.0.1",
    "meta l4proto 132 dnat to 10.9.9.2",
    "tcp dport 443 dnat to 192.168.178.7:443 masquerade",
    "udp dport 443 dnat to [fd00::7]:443 masquerade",
];

/// Whether the machine forwards IPv4 and IPv6, the device, and options as a shell reads them.
fn line(random: &mut Random) -> String {
    let mut is_one_of = |n: usize| random.below(n) == 0;
    let (forwards, lo) = ([is_one_of(2), is_one_of(2)].map(u8::from), is_one_of(6));
    let (sealed, vlan) = (is_one_of(2), is_one_of(3));
    let mut words = vec![if lo { "lo" } else { "gw0" }.to_owned()];
    // A pin holds what is in a cgroup, and what drops nothing seals nothing.
    let (monitor, original) = (!sealed && is_one_of(3), is_one_of(3));
    let switches = [
        (sealed, "--sealed"),
        (vlan, "--vlan any"),
        (monitor, "--monitor"),
        (original, "--original-dst"),
        (!original && is_one_of(4), "--no-pin"),
    ];
    words.extend(switches.iter().filter(|(on, _)| *on).map(|(_, name)| name.to_string()));
    words.extend(random.one(&[None, Some("--pickup"), Some("--no-pickup")]).map(str::to_owned));
    let full = random.one(&["hold", "drop", "reject", "pass"]);
    if !(sealed && full == "pass") {
        words.push(format!("--when-full {full}"));
    }
    for (name, least, most) in [
        ("--client-new", 1, 1000),
        ("--client-live", 1, 1000),
        ("--clients-max", 16, 100_000),
        ("--flows-max", 16, 100_000),
        ("--half-open", 16, 10_000),
        ("--asked-max", 16, 100_000),
    ] {
        if random.below(3) == 0 {
            let any = least + random.below(most - least);
            words.push(format!("{name} {}", random.one(&[least, least + 1, any, most])));
        }
    }
    for name in ["tcp_established", "tcp_transitory", "udp", "icmp", "generic", "ip_frag"] {
        if random.below(4) == 0 {
            words.push(format!("--timeout {name}={}s", 1 + random.below(100_000)));
        }
    }
    for _ in 0..random.below(5) {
        let rule = random.one(&RULES);
        // A server that is asked in our name must be behind this very device.
        if !rule.ends_with("masquerade") || !vlan && !lo {
            words.push(format!("--rule '{rule}'"));
        }
    }
    format!("{} {} {}", forwards[0], forwards[1], words.join(" "))
}

/// The words of a line, as a shell reads them.
fn words(line: &str) -> Vec<&str> {
    let parts = line.split('\'').enumerate();
    parts
        .flat_map(
            |(n, part)| {
                if n % 2 == 1 {
                    vec![part]
                } else {
                    part.split(' ').filter(|w| !w.is_empty()).collect()
                }
            },
        )
        .collect()
}

#[test]
fn each_combination_comes_up() {
    let mut random = Random::new(5);
    let list: Vec<String> = (0..LINES).map(|_| line(&mut random)).collect();
    golden::compare("options.txt", &(list.join("\n") + "\n"));
    for line in list.iter().step_by(EACH) {
        let lab = Lab::new();
        let [four, six, device, options @ ..] = &words(line)[..] else { panic!("{line}") };
        lab.gateway.sysctl("net/ipv4/ip_forward", four);
        lab.gateway.sysctl("net/ipv6/conf/all/forwarding", six);
        let device = if *device == "lo" { "lo" } else { "eth0" };
        run(&lab.gateway, &[&["up", device], options].concat()).done();
        // Where it is told anew what was meant: not of what is no setting, and rules are in force as text.
        let meant = options.iter().filter(|word| !["--no-pin", "--original-dst"].contains(word));
        run(&lab.gateway, &[&["verify", "--live", device], &meant.copied().collect::<Vec<_>>()[..]].concat())
            .done();
        run(&lab.gateway, &["down", device]).done();
    }
}

/// Sizes go to millions of flows, and what runs has room for them.
#[test]
fn millions_of_flows() {
    let lab = Lab::new();
    run(&lab.gateway, &["up", "eth0", "--flows-max", "2000000"]).done();
    let flows = &json(&lab.gateway, &["status", "eth0"])["instances"][0]["dnat"]["flows"];
    for (family, least) in [("ipv4", 2_000_000), ("ipv6", 500_000)] {
        let most = flows[family]["confirmed"]["most"].as_u64();
        assert!(most >= Some(least), "{family}: {flows}");
    }
    run(&lab.gateway, &["down", "eth0"]).done();
}
