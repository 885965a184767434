// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Ticks of the programs <-> time that people know.

use std::num::NonZero;
use std::time::{Duration, SystemTime};

use super::abi::Cfg;

/// The present.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// Converts between the programs' ticks and time. A tick is 2^`tick_shift` jiffies, about a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The present tick.
    now: u32,
    hz: NonZero<u64>,
    tick_shift: u32,
}

impl Clock {
    /// The clock of programs with this configuration, when CLOCK_MONOTONIC shows `monotonic`.
    pub fn new(cfg: &Cfg, monotonic: Duration) -> Self {
        // The kernel starts jiffies 300 s before their low 32 bits wrap (INITIAL_JIFFIES in include/linux/jiffies.h).
        let start = (1_u64 << 32).saturating_sub(u64::from(cfg.hz).saturating_mul(300));
        let part = u64::from(monotonic.subsec_nanos()).saturating_mul(cfg.hz.into()) / NANOS_PER_SECOND;
        let jiffies = monotonic.as_secs().saturating_mul(cfg.hz.into()).saturating_add(part);
        let ticks = start.saturating_add(jiffies).checked_shr(cfg.tick_shift).unwrap_or(0);
        // Ticks wrap; only their differences count.
        Self {
            now: ticks as u32,
            hz: NonZero::new(cfg.hz.into()).unwrap_or(NonZero::<u64>::MIN),
            tick_shift: cfg.tick_shift,
        }
    }

    /// The present tick.
    pub fn tick(&self) -> u32 {
        self.now
    }

    /// How many ticks ago `tick` was; 0 when it is in the future, which is a tick that began since the clock was read.
    pub fn ticks_since(&self, tick: u32) -> u32 {
        let elapsed = self.now.wrapping_sub(tick);
        if elapsed > u32::MAX / 2 {
            0
        } else {
            elapsed
        }
    }

    /// How long ago `tick` was, to the precision of a tick.
    pub fn since(&self, tick: u32) -> Duration {
        let jiffies = u64::from(self.ticks_since(tick)).checked_shl(self.tick_shift).unwrap_or(u64::MAX);
        let part = (jiffies % self.hz).saturating_mul(NANOS_PER_SECOND) / self.hz;
        Duration::from_secs(jiffies / self.hz).saturating_add(Duration::from_nanos(part))
    }
}

/// The smallest `tick_shift` with which a tick lasts a second at least.
pub fn tick_shift(hz: u32) -> u32 {
    hz.max(1).next_power_of_two().trailing_zeros()
}

/// `seconds` in ticks, rounded up. At most half of what ticks count to, for the programs compare differences.
pub fn ticks(seconds: u32, hz: u32, tick_shift: u32) -> u32 {
    let jiffies = u64::from(seconds).saturating_mul(hz.into());
    let tick = 1_u64.checked_shl(tick_shift).unwrap_or(u64::MAX);
    u32::try_from(jiffies.div_ceil(tick)).unwrap_or(u32::MAX).min(u32::MAX / 2)
}

/// So many a second are so many a tick, rounded up.
pub fn a_tick(a_second: u32, hz: u32, tick_shift: u32) -> u32 {
    let tick = 1_u64.checked_shl(tick_shift).unwrap_or(u64::MAX);
    let many = u64::from(a_second).saturating_mul(tick).div_ceil(u64::from(hz).max(1));
    u32::try_from(many).unwrap_or(u32::MAX)
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_a_second_or_a_little_more() {
        assert_eq!([100, 250, 256, 300, 1000].map(tick_shift), [7, 8, 8, 9, 10]);
        // The defaults in ebpf-src/maps.h.
        assert_eq!([7440, 240, 300, 60].map(|s| ticks(s, 250, 8)), [7266, 235, 293, 59]);
        assert_eq!(ticks(u32::MAX, 1000, 0), u32::MAX / 2);
        assert_eq!([0, 1, 100].map(|n| a_tick(n, 250, 8)), [0, 2, 103]);
    }

    #[test]
    fn counts_as_the_kernel_does() {
        let cfg = Cfg { hz: 250, tick_shift: 8, ..Cfg::default() };
        // Jiffies 300 s after boot: 2^32.
        let clock = Clock::new(&cfg, Duration::from_secs(300));
        assert_eq!(clock.now, 1 << 24);
        assert_eq!(clock.since(clock.now - 10), Duration::from_millis(10_240));
        assert_eq!(clock.since(clock.now + 1), Duration::ZERO);
        let before = Clock::new(&cfg, Duration::from_millis(299_999)).now;
        assert_eq!(before, (1 << 24) - 1);
    }

    #[test]
    fn ages_survive_the_wrap() {
        let cfg = Cfg { hz: 1, tick_shift: 0, ..Cfg::default() };
        let clock = Clock::new(&cfg, Duration::from_secs(310));
        assert_eq!(clock.now, 10);
        assert_eq!(clock.since(u32::MAX), Duration::from_secs(11));
    }

    #[test]
    fn nonsense_does_no_harm() {
        let cfg = Cfg { hz: 0, tick_shift: 99, ..Cfg::default() };
        Clock::new(&cfg, Duration::MAX).since(1);
        let cfg = Cfg { hz: u32::MAX, tick_shift: 63, ..Cfg::default() };
        Clock::new(&cfg, Duration::MAX).since(1);
    }
}
