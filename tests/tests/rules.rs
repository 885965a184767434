// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Random rules and packets: what the program in the kernel does with each packet against asking the rules one by one.
//!
//! The rules are kept here as numbers and only written as text for `up`, so parser, compiler and program are all in
//! question. Each rule that rewrites has a target of its own, which tells which rule it was.
use e2e::detour::up;
use e2e::lab::Lab;
use e2e::packet::{Packet, SYN};
use e2e::testrun::{Program, Sums, SHOT, UNSPEC};
use e2e::tools::{self, Scratch};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// One rule: each field lies in one of the ranges, or outside of all.
#[derive(Default)]
struct Rule {
    saddr: Option<Set>,
    daddr: Option<Set>,
    sport: Option<Set>,
    dport: Option<Set>,
    protocols: Vec<u8>,
    verdict: Verdict,
}

struct Set {
    negated: bool,
    ranges: Vec<RangeInclusive<u32>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Verdict {
    #[default]
    Pass,
    Drop,
    To(Ipv4Addr),
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    src: u32,
    dst: u32,
    protocol: u8,
    sport: u16,
    dport: u16,
}

impl Set {
    fn has(&self, value: u32) -> bool {
        self.ranges.iter().any(|range| range.contains(&value)) != self.negated
    }

    fn text(&self, show: impl Fn(u32) -> String) -> String {
        let ranges = self.ranges.iter().map(|range| match (range.start(), range.end()) {
            (start, end) if start == end => show(*start),
            (start, end) => format!("{}-{}", show(*start), show(*end)),
        });
        let ranges: Vec<String> = ranges.collect();
        format!("{}{{ {} }}", if self.negated { "!= " } else { "" }, ranges.join(", "))
    }
}

impl Rule {
    fn fits(&self, probe: &Probe) -> bool {
        let has = |set: &Option<Set>, value: u32| set.as_ref().is_none_or(|set| set.has(value));
        has(&self.saddr, probe.src)
            && has(&self.daddr, probe.dst)
            && (self.protocols.is_empty() || self.protocols.contains(&probe.protocol))
            && has(&self.sport, probe.sport.into())
            && has(&self.dport, probe.dport.into())
    }

    fn text(&self) -> String {
        let address = |number: u32| Ipv4Addr::from_bits(number).to_string();
        let mut text = String::new();
        for (name, set) in [("saddr", &self.saddr), ("daddr", &self.daddr)] {
            text += &set.as_ref().map_or(String::new(), |set| format!("ip {name} {} ", set.text(address)));
        }
        if let [protocol] = self.protocols[..] {
            let name = if protocol == TCP { "tcp" } else { "udp" };
            for (side, set) in [("sport", &self.sport), ("dport", &self.dport)] {
                let set = set.as_ref().map(|set| set.text(|number| number.to_string()));
                text += &set.map_or(String::new(), |set| format!("{name} {side} {set} "));
            }
        }
        if !self.protocols.is_empty() && self.sport.is_none() && self.dport.is_none() {
            let names: Vec<String> = self.protocols.iter().map(u8::to_string).collect();
            text += &format!("meta l4proto {{ {} }} ", names.join(", "));
        }
        text + &match self.verdict {
            Verdict::Pass => "accept".to_string(),
            Verdict::Drop => "drop".to_string(),
            Verdict::To(target) => format!("dnat to {target}"),
        }
    }
}

/// Numbers below a bound, always the same ones (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// One to three ranges within `space`.
    fn set(&mut self, space: &RangeInclusive<u32>) -> Option<Set> {
        let size = space.end() - space.start() + 1;
        let mut range = |most: u32| {
            let start = self.below(size);
            space.start() + start..=space.start() + (start + self.below(most)).min(size - 1)
        };
        let ranges = [range(size / 64), range(1), range(size / 8)];
        let count = 1 + self.below(3) as usize;
        let ranges = ranges.into_iter().take(count).collect();
        (self.below(4) != 0).then(|| Set { negated: self.below(8) == 0, ranges })
    }

    fn rule(&mut self, number: u32) -> Rule {
        let verdict = match self.below(8) {
            0 => Verdict::Pass,
            1 => Verdict::Drop,
            _ => Verdict::To(Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number)),
        };
        let (saddr, daddr) = (self.set(&SOURCES), self.set(&DESTINATIONS));
        let rule = Rule { saddr, daddr, verdict, ..Rule::default() };
        match self.below(4) {
            0 => rule,
            1 => Rule {
                protocols: [[TCP, ICMP], [UDP, ICMP], [TCP, UDP]][self.below(3) as usize].to_vec(),
                ..rule
            },
            _ => {
                let (sport, dport) = (self.set(&PORTS), self.set(&PORTS));
                Rule { protocols: vec![[TCP, UDP][self.below(2) as usize]], sport, dport, ..rule }
            }
        }
    }

    /// A value at, beside or away from an end of a range of the rules.
    fn value(&mut self, sets: &[&Set], space: &RangeInclusive<u32>) -> u32 {
        let ends: Vec<u32> =
            sets.iter().flat_map(|s| &s.ranges).flat_map(|r| [*r.start(), *r.end()]).collect();
        let away = space.start() + self.below(space.end() - space.start() + 1);
        let near = match self.below(4) {
            0 => None,
            _ if ends.is_empty() => None,
            step => Some(ends[self.below(ends.len() as u32) as usize].wrapping_add(step).wrapping_sub(2)),
        };
        near.filter(|value| space.contains(value)).unwrap_or(away)
    }
}

const SOURCES: RangeInclusive<u32> = 0x0a01_0000..=0x0a01_ffff;
const DESTINATIONS: RangeInclusive<u32> = 0x0a02_0000..=0x0a02_ffff;
/// Without DHCP, which is never touched.
const PORTS: RangeInclusive<u32> = 100..=65535;

fn probe(random: &mut Random, rules: &[Rule]) -> Probe {
    let sets =
        |of: fn(&Rule) -> &Option<Set>| rules.iter().filter_map(|rule| of(rule).as_ref()).collect::<Vec<_>>();
    let src = random.value(&sets(|rule| &rule.saddr), &SOURCES);
    let dst = random.value(&sets(|rule| &rule.daddr), &DESTINATIONS);
    let sport = random.value(&sets(|rule| &rule.sport), &PORTS) as u16;
    let dport = random.value(&sets(|rule| &rule.dport), &PORTS) as u16;
    let protocol = [TCP, UDP, ICMP][random.below(3) as usize];
    Probe { src, dst, protocol, sport, dport }
}

fn packet(probe: &Probe) -> Packet {
    let [src, dst] = [probe.src, probe.dst].map(Ipv4Addr::from_bits);
    let (from, to) = (SocketAddrV4::new(src, probe.sport), SocketAddrV4::new(dst, probe.dport));
    match probe.protocol {
        TCP => Packet::tcp(from, to, SYN),
        UDP => Packet::udp(from, to).payload(b"?"),
        _ => Packet::icmp(src, dst, 8, probe.sport, 1),
    }
}

/// What the program did.
fn done(program: &Program<'_>, probe: &Probe) -> Verdict {
    let frame = packet(probe).frame();
    let outcome = program.run_here(&frame, Sums::None).unwrap();
    match outcome.verdict {
        SHOT => Verdict::Drop,
        UNSPEC if outcome.frame == frame => Verdict::Pass,
        UNSPEC => Verdict::To(Ipv4Addr::from(<[u8; 4]>::try_from(&outcome.frame[30..34]).unwrap())),
        other => panic!("{other} for {probe:?}"),
    }
}

#[test]
fn the_kernel_does_what_the_rules_say() {
    let (lab, scratch, mut random) = (Lab::new(), Scratch::new(), Random(0x9e37_79b9_7f4a_7c15));
    for count in [1, 2, 7, 64, 65, 300] {
        let rules: Vec<Rule> = (0..count).map(|number| random.rule(number)).collect();
        let text: String = rules.iter().map(|rule| rule.text() + "\n").collect();
        up(&lab.gateway, &lab.device, &[&scratch.write("rules", &text)]);
        let filters = tools::filters(&lab.gateway, &lab.device, "ingress");
        let id = filters[0]["options"]["prog"]["id"].as_u64().unwrap();
        let program = Program::by_id(&lab.gateway, id);
        let mut seen = [0; 3];
        lab.gateway.within(|| {
            for _ in 0..20_000 {
                let probe = probe(&mut random, &rules);
                let expected =
                    rules.iter().find(|rule| rule.fits(&probe)).map_or(Verdict::Pass, |rule| rule.verdict);
                assert_eq!(done(&program, &probe), expected, "{probe:?} of {count} rules:\n{text}");
                seen[match expected {
                    Verdict::Pass => 0,
                    Verdict::Drop => 1,
                    Verdict::To(_) => 2,
                }] += 1;
            }
        });
        assert!(count < 64 || seen.iter().all(|n| *n > 20), "{count} rules: {seen:?}");
        // A flow keeps the rule it was opened with; the next rules shall meet none.
        e2e::detour::run(&lab.gateway, &["down", &lab.device]).done();
    }
}
