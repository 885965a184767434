// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Random rules and packets of both families: what the program in the kernel does with each packet against asking the rules one by
//! one.
//!
//! The rules are kept here as numbers and only written as text for `up`, so parser, compiler and program are all in
//! question. Each rule that rewrites has a target of its own, which tells which rule it was.
use e2e::detour::up;
use e2e::family::Family;
use e2e::lab::Lab;
use e2e::packet::{Packet, SYN};
use e2e::testrun::{Program, Sums, SHOT, UNSPEC};
use e2e::tools::{self, Scratch};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

const TCP: u8 = 6;
const UDP: u8 = 17;

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
    ranges: Vec<RangeInclusive<u128>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Verdict {
    #[default]
    Pass,
    Drop,
    To(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    src: u128,
    dst: u128,
    protocol: u8,
    sport: u16,
    dport: u16,
}

impl Set {
    fn has(&self, value: u128) -> bool {
        self.ranges.iter().any(|range| range.contains(&value)) != self.negated
    }

    fn text(&self, show: impl Fn(u128) -> String) -> String {
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
        let has = |set: &Option<Set>, value: u128| set.as_ref().is_none_or(|set| set.has(value));
        has(&self.saddr, probe.src)
            && has(&self.daddr, probe.dst)
            && (self.protocols.is_empty() || self.protocols.contains(&probe.protocol))
            && has(&self.sport, probe.sport.into())
            && has(&self.dport, probe.dport.into())
    }

    /// Whether nearly everything of its protocols matches.
    fn is_wide(&self) -> bool {
        let mut sets = [&self.saddr, &self.daddr, &self.sport, &self.dport].into_iter().flatten();
        sets.all(|set| set.negated)
    }

    fn text(&self, family: Family) -> String {
        let show = |number| address(family, number).to_string();
        let (ip, mut text) = (family.pick("ip", "ip6"), String::new());
        for (name, set) in [("saddr", &self.saddr), ("daddr", &self.daddr)] {
            text += &set.as_ref().map_or(String::new(), |set| format!("{ip} {name} {} ", set.text(show)));
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

fn address(family: Family, number: u128) -> IpAddr {
    family.pick(Ipv4Addr::from_bits(number as u32).into(), Ipv6Addr::from_bits(number).into())
}

/// Numbers below a bound, always the same ones (xorshift64).
struct Random(u64);

/// 65,536 steps, each of so many numbers, from one on. IPv6 is compared in halves of 64 bits: its steps go across.
#[derive(Clone, Copy)]
struct Space {
    first: u128,
    step: u128,
}

impl Space {
    /// From the beginning of a step on, or somewhere within.
    fn at(&self, step: u32, random: &mut Random) -> u128 {
        let within = u128::from(random.below(u32::MAX)) << 32 | u128::from(random.below(u32::MAX));
        self.first + u128::from(step) * self.step + if random.below(2) == 0 { 0 } else { within % self.step }
    }

    fn has(&self, number: u128) -> bool {
        (self.first..self.first + u128::from(SIZE) * self.step).contains(&number)
    }
}

const SIZE: u32 = 1 << 16;

fn sources(family: Family) -> Space {
    family.pick(
        Space { first: 0x0a01_0000, step: 1 },
        Space { first: 0x2001_0db8_0001_0000_ff00_0000_0000_0000, step: 1 << 56 },
    )
}

fn destinations(family: Family) -> Space {
    family.pick(
        Space { first: 0x0a02_0000, step: 1 },
        Space { first: 0x2001_0db8_0002_0000_ff00_0000_0000_0000, step: 1 << 56 },
    )
}

/// Without DHCP, which is never touched, and port 0.
const PORTS: RangeInclusive<u32> = 600..=65535;

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// One to three ranges, `range(most)` being one of at most so many steps; none for one of `none`.
    fn ranges(&mut self, none: u32, range: impl Fn(&mut Random, u32) -> RangeInclusive<u128>) -> Option<Set> {
        let ranges = [SIZE / 64, 1, SIZE / 8].map(|most| range(self, most));
        let count = 1 + self.below(3) as usize;
        let ranges = ranges.into_iter().take(count).collect();
        (self.below(none) != 0).then(|| Set { negated: self.below(16) == 0, ranges })
    }

    fn addresses(&mut self, none: u32, space: Space) -> Option<Set> {
        self.ranges(none, |random, most| {
            let start = random.below(SIZE);
            let end = (start + random.below(most)).min(SIZE - 1);
            let [start, end] = [start, end].map(|step| space.at(step, random));
            start.min(end)..=start.max(end)
        })
    }

    fn ports(&mut self) -> Option<Set> {
        self.ranges(2, |random, most| {
            let start = PORTS.start() + random.below(PORTS.end() - PORTS.start() + 1);
            start.into()..=(start + random.below(most)).min(*PORTS.end()).into()
        })
    }

    fn rule(&mut self, family: Family, number: u32) -> Rule {
        let verdict = match self.below(8) {
            0 => Verdict::Pass,
            1 => Verdict::Drop,
            _ => Verdict::To(address(
                family,
                u128::from(number) + family.pick(0xc612_0000, 0x2001_0db8_0198_0000_0000_0000_0000_0001),
            )),
        };
        let (saddr, daddr) = (self.addresses(4, sources(family)), self.addresses(4, destinations(family)));
        let icmp = icmp(family);
        let rule = Rule { saddr, daddr, verdict, ..Rule::default() };
        match self.below(4) {
            0 => rule,
            1 => Rule {
                protocols: [[TCP, icmp], [UDP, icmp], [TCP, UDP]][self.below(3) as usize].to_vec(),
                ..rule
            },
            _ => {
                let (sport, dport) = (self.ports(), self.ports());
                Rule { protocols: vec![[TCP, UDP][self.below(2) as usize]], sport, dport, ..rule }
            }
        }
    }

    /// A value at or beside one of `ends`; or none.
    fn near(&mut self, ends: &[u128]) -> Option<u128> {
        match self.below(4) {
            0 => None,
            _ if ends.is_empty() => None,
            step => Some(ends[self.below(ends.len() as u32) as usize] + u128::from(step) - 2),
        }
    }

    fn number(&mut self, ends: &[u128], space: Space) -> u128 {
        let step = self.below(SIZE);
        let away = space.at(step, self);
        self.near(ends).filter(|value| space.has(*value)).unwrap_or(away)
    }

    fn port(&mut self, ends: &[u128]) -> u16 {
        let away = PORTS.start() + self.below(PORTS.end() - PORTS.start() + 1);
        let near = self.near(ends).map(|value| value as u32);
        near.filter(|value| PORTS.contains(value)).unwrap_or(away) as u16
    }
}

fn icmp(family: Family) -> u8 {
    family.pick(1, 58)
}

/// Both ends of each range of the rules: of sources, destinations, and the ports of each.
fn ends(rules: &[Rule]) -> [Vec<u128>; 4] {
    let of: [fn(&Rule) -> &Option<Set>; 4] = [|r| &r.saddr, |r| &r.daddr, |r| &r.sport, |r| &r.dport];
    of.map(|of| {
        let ranges = rules.iter().filter_map(|rule| of(rule).as_ref()).flat_map(|set| &set.ranges);
        ranges.flat_map(|range| [*range.start(), *range.end()]).collect()
    })
}

fn probe(family: Family, random: &mut Random, [saddr, daddr, sport, dport]: &[Vec<u128>; 4]) -> Probe {
    let src = random.number(saddr, sources(family));
    let dst = random.number(daddr, destinations(family));
    let (sport, dport) = (random.port(sport), random.port(dport));
    let protocol = [TCP, UDP, icmp(family)][random.below(3) as usize];
    Probe { src, dst, protocol, sport, dport }
}

fn packet(family: Family, probe: &Probe) -> Packet {
    let [src, dst] = [probe.src, probe.dst].map(|number| address(family, number));
    let (from, to) = (SocketAddr::new(src, probe.sport), SocketAddr::new(dst, probe.dport));
    match probe.protocol {
        TCP => Packet::tcp(from, to, SYN),
        UDP => Packet::udp(from, to).payload(b"?"),
        _ => Packet::echo(src, dst, probe.sport, 1),
    }
}

/// What the program did.
fn done(family: Family, program: &Program<'_>, probe: &Probe) -> Verdict {
    let frame = packet(family, probe).frame();
    let outcome = program.run_here(&frame, Sums::None).unwrap();
    match outcome.verdict {
        SHOT => Verdict::Drop,
        UNSPEC if outcome.frame == frame => Verdict::Pass,
        UNSPEC => Verdict::To(Packet::read(&outcome.frame).unwrap().dst),
        other => panic!("{other} for {probe:?}"),
    }
}

#[test]
fn the_kernel_does_what_ipv4_rules_say() {
    the_kernel_does_what_they_say(Family::V4);
}

#[test]
fn the_kernel_does_what_ipv6_rules_say() {
    the_kernel_does_what_they_say(Family::V6);
}

fn the_kernel_does_what_they_say(family: Family) {
    let (lab, scratch, mut random) = (Lab::new(), Scratch::new(), Random(0x9e37_79b9_7f4a_7c15));
    for count in [1, 2, 7, 64, 65, 250] {
        let mut rules: Vec<Rule> = (0..count).map(|number| random.rule(family, number)).collect();
        // These would leave nothing to those behind them.
        rules.sort_by_key(Rule::is_wide);
        let text: String = rules.iter().map(|rule| rule.text(family) + "\n").collect();
        up(&lab.gateway, &lab.device, &[&scratch.write("rules", &text)]);
        let filters = tools::filters(&lab.gateway, &lab.device, "ingress");
        let id = filters[0]["options"]["prog"]["id"].as_u64().unwrap();
        let program = Program::by_id(&lab.gateway, id);
        let ends = ends(&rules);
        let (mut seen, mut decided) = ([0; 3], BTreeSet::new());
        lab.gateway.within(|| {
            for _ in 0..10_000 {
                let probe = probe(family, &mut random, &ends);
                let first = rules.iter().position(|rule| rule.fits(&probe));
                decided.extend(first);
                let expected = first.map_or(Verdict::Pass, |at| rules[at].verdict);
                assert_eq!(done(family, &program, &probe), expected, "{probe:?} of {count} rules:\n{text}");
                seen[match expected {
                    Verdict::Pass => 0,
                    Verdict::Drop => 1,
                    Verdict::To(_) => 2,
                }] += 1;
            }
        });
        assert!(count < 64 || seen.iter().all(|n| *n > 20), "{count} rules: {seen:?}");
        assert!(decided.len() * 3 > count as usize, "{} of {count} rules decided", decided.len());
        // A flow keeps the rule it was opened with; the next rules shall meet none.
        e2e::detour::run(&lab.gateway, &["down", &lab.device]).done();
    }
}
