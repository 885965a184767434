// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What can be chosen besides the rules: sizes, idle times, what happens at a limit; and times as people write them.

/// All of it. `default()` are the product's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Half-open flows of each CPU.
    pub half_open: u32,
    /// Confirmed flows.
    pub confirmed: u32,
    /// Rows of `asked`.
    pub asked: u32,
    /// Idle times, in seconds.
    pub timeouts: Timeouts,
    /// Whether a TCP packet without flow opens one; by itself only where this machine does not forward.
    pub pickup: Option<bool>,
    /// What becomes of a new flow that finds no room.
    pub when_full: WhenFull,
    /// New flows of one client in a second at most; 0: no limit.
    pub client_new: u32,
    /// Confirmed flows of one client at most; 0: no limit.
    pub client_live: u32,
    /// Clients whose flows are counted for these two limits.
    pub clients: u32,
    /// What is neither translated nor for this machine is dropped.
    pub sealed: bool,
    /// Nothing is translated, dropped or refused; everything is recorded.
    pub monitor: bool,
    /// Frames with VLAN tags are served as well.
    pub vlan: bool,
}

/// Idle times in seconds, by the names that conntrack gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP that is established.
    pub tcp_established: u32,
    /// TCP that is opening or closing.
    pub tcp_transitory: u32,
    /// UDP.
    pub udp: u32,
    /// Echo of ICMP and ICMPv6.
    pub icmp: u32,
    /// SCTP, and protocols without ports.
    pub generic: u32,
    /// How long a first fragment is remembered.
    pub ip_frag: u32,
}

/// What becomes of a new flow that finds no room in a table, or no client port towards its server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It lives among the half-open ones as long as these have room; without a port it is dropped.
    #[default]
    Hold,
    /// Dropped.
    Drop,
    /// Refused: TCP by RST, anything else by ICMP "administratively prohibited" (RFC 5508 REQ-8).
    Reject,
    /// Passed untranslated.
    Pass,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            half_open: 4096,
            confirmed: 65536,
            asked: 16384,
            timeouts: Timeouts::default(),
            pickup: None,
            when_full: WhenFull::Hold,
            client_new: 0,
            client_live: 0,
            clients: 16384,
            sealed: false,
            monitor: false,
            vlan: false,
        }
    }
}

impl Default for Timeouts {
    /// Those of RFC 5382, RFC 4787 and RFC 5508; the last two are conntrack's.
    fn default() -> Self {
        Self { tcp_established: 7440, tcp_transitory: 240, udp: 300, icmp: 60, generic: 600, ip_frag: 30 }
    }
}

impl Timeouts {
    /// Names of all of them.
    pub const NAMES: [&str; 6] = ["tcp_established", "tcp_transitory", "udp", "icmp", "generic", "ip_frag"];

    /// `NAME=TIME`, where a dash in the name is as good as an underscore.
    pub fn parse(text: &str) -> Result<(&'static str, u32), String> {
        let known = || Self::NAMES.join(", ");
        let (name, time) =
            text.split_once('=').ok_or_else(|| format!("NAME=TIME, where NAME is {}", known()))?;
        let name = name.replace('-', "_");
        let name =
            Self::NAMES.into_iter().find(|n| *n == name).ok_or_else(|| format!("there are: {}", known()))?;
        let seconds = seconds(time).filter(|s| (1..=LONGEST).contains(s));
        let wrong = || format!("a time from 1s to {}d, such as 90, 90s, 5m or 2h4m", LONGEST / DAY);
        Ok((name, seconds.ok_or_else(wrong)?))
    }

    /// Changes one of [`Timeouts::NAMES`].
    pub fn set(&mut self, name: &str, seconds: u32) {
        match name {
            "tcp_established" => self.tcp_established = seconds,
            "tcp_transitory" => self.tcp_transitory = seconds,
            "udp" => self.udp = seconds,
            "icmp" => self.icmp = seconds,
            "generic" => self.generic = seconds,
            _ => self.ip_frag = seconds,
        }
    }
}

/// Seconds of a time as nft writes it: `90`, or numbers with units from the longest to the shortest, `1d2h3m4s`.
pub fn seconds(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    let (mut rest, mut sum) = (text, 0_u32);
    for (unit, worth) in [('d', DAY), ('h', 3600), ('m', 60), ('s', 1)] {
        let Some((digits, after)) = rest.split_once(unit) else { continue };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        sum = digits.parse::<u32>().ok()?.checked_mul(worth)?.checked_add(sum)?;
        rest = after;
    }
    rest.is_empty().then_some(sum)
}

const DAY: u32 = 86_400;
/// Longer times would come near to what ticks can tell apart.
const LONGEST: u32 = 365 * DAY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_nft_writes_them() {
        for (text, expect) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("2h4m", Some(7440)),
            ("1d2h3m4s", Some(93784)),
            ("5m0s", Some(300)),
            ("4m2h", None),
            ("s", None),
            ("", None),
            ("-1", None),
            ("1.5s", None),
            ("3w", None),
            ("4294967296", None),
            ("99999d", None),
        ] {
            assert_eq!(seconds(text), expect, "{text}");
        }
    }

    #[test]
    fn a_timeout_has_a_name_and_a_time() {
        assert_eq!(Timeouts::parse("tcp-established=2h4m"), Ok(("tcp_established", 7440)));
        assert_eq!(Timeouts::parse("udp=30"), Ok(("udp", 30)));
        for wrong in ["udp", "tcp=3", "udp=0", "udp=366d", "=3", "icmp=soon"] {
            assert!(Timeouts::parse(wrong).is_err(), "{wrong}");
        }
        let mut all = Timeouts::default();
        Timeouts::NAMES.iter().zip(1..).for_each(|(name, seconds)| all.set(name, seconds));
        let expect =
            Timeouts { tcp_established: 1, tcp_transitory: 2, udp: 3, icmp: 4, generic: 5, ip_frag: 6 };
        assert_eq!(all, expect);
    }
}
