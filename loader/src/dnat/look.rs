// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The pins of what `up` made to what a person asks of it: flows, what was asked for, rules and counters.
use crate::dnat::abi::{Cfg, Key4, Key6, Secret};
use crate::dnat::asked::{self, Asked, Others};
use crate::dnat::clock::Clock;
use crate::dnat::codes;
use crate::dnat::counters::{counters, Counter};
use crate::dnat::embedded;
use crate::dnat::flows::{self, Flow, State};
use crate::dnat::in_force::{in_force, InForce};
use crate::dnat::index::index;
#[cfg(feature = "operate")]
use crate::dnat::original::Seen;
use crate::dnat::running::{active, entries};
use crate::dnat::wire::Shared;
use crate::load::gather::{open_map, read_array};
use crate::load::home::Dir;
use crate::load::record::Record;
use crate::load::refusal::{Refusal, Stage};
use crate::load::shared::shape;
use crate::object::Object;
use detour_sys::Map;
use nix::time::{clock_gettime, ClockId};
use std::cell::RefCell;
use std::collections::BTreeMap;
#[cfg(feature = "operate")]
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

/// Reads an instance of `up`; changes nothing.
#[derive(Debug)]
pub struct Look {
    dir: Dir,
    cfg: Cfg,
    clock: Clock,
    /// Its index, and its name of now.
    device: (u32, String),
    record: Record,
    /// Those that were opened, by name.
    maps: RefCell<BTreeMap<String, Rc<Map>>>,
}

/// How full the tables of one family are: flows, and how many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flows {
    /// In slots of their own.
    pub confirmed: (u64, u64),
    /// That are opening.
    pub half_open: (u64, u64),
}

/// How full the tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// IPv4.
    pub v4: Flows,
    /// IPv6.
    pub v6: Flows,
    /// Rows of `asked`, and how many there can be.
    pub asked: (u64, u64),
}

impl Look {
    /// Reads the configuration of the instance in `dir`. Programs of other versions can be read if their maps are the same.
    pub fn open(dir: Dir, record: &Record, device: (u32, String)) -> Result<Look, Refusal> {
        let object = Object::parse(embedded::object("dnat")?)?;
        if record.object_sha256 != object.sha256 {
            readable(&dir, &object)?;
        }
        let rodata = read_array(&dir.map(".rodata"))?;
        let at =
            object.variables.iter().find(|v| v.name == "cfg").and_then(|v| usize::try_from(v.offset).ok());
        let cfg =
            at.and_then(|at| Cfg::read(rodata.get(at..)?)).ok_or_else(|| unreadable("its configuration"))?;
        if cfg.schema != codes::SCHEMA {
            return Err(another(&format!("their schema is {}, and this is {}", cfg.schema, codes::SCHEMA)));
        }
        Ok(Look { dir, cfg, clock: clock(&cfg), device, record: record.clone(), maps: RefCell::default() })
    }

    /// For who reads again: from now on ages are those of now.
    pub fn refresh(&mut self) {
        self.clock = clock(&self.cfg);
    }

    /// Where its pins are.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The index and the name of its device.
    pub fn device(&self) -> &(u32, String) {
        &self.device
    }

    /// What it says of itself.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What it was configured with.
    pub fn cfg(&self) -> &Cfg {
        &self.cfg
    }

    /// A pin is opened once, however often it is read.
    fn map(&self, name: &str) -> Result<Rc<Map>, Refusal> {
        if let Some(map) = self.maps.borrow().get(name) {
            return Ok(map.clone());
        }
        let map = Rc::new(open_map(&self.dir.map(name))?);
        self.maps.borrow_mut().insert(name.to_owned(), map.clone());
        Ok(map)
    }

    /// The translations in force, sorted: by the indexes, whose forward keys lead to the slots.
    pub fn flows(&self) -> Result<Vec<Flow>, Refusal> {
        let mut flows = self.flows_of("idx4", "slots4", Key4::SIZE)?;
        flows.extend(self.flows_of("idx6", "slots6", Key6::SIZE)?);
        flows::sort(&mut flows);
        Ok(flows)
    }

    fn flows_of(&self, elements: &str, slots: &str, key_size: usize) -> Result<Vec<Flow>, Refusal> {
        let (elements, slots) = (self.map(elements)?, self.map(slots)?);
        let lookup = |map: &Map, key: &[u8]| map.lookup(key).map_err(|e| unreadable(&e.to_string()));
        let read = entries(&elements)?;
        // Afterwards: it was drawn before the first of them.
        let secret = self.secret()?;
        let mut flows = Vec::new();
        let reverse = |key: &[u8]| key.len() == Key4::SIZE && key.get(DIR4) != Some(&0);
        for (key, slot) in read.iter().filter(|(key, _)| !reverse(key)) {
            let holds = |value: &[u8]| {
                let forward = value.get(KEY..KEY.saturating_add(key_size)).unwrap_or_default();
                index(forward, &secret) == *key
            };
            let mut value = lookup(&slots, slot)?.unwrap_or_default();
            // A flow may have been confirmed, and moved, since the index was read.
            let moved = match holds(&value) {
                true => flows::moved(&value).map(|slot| slot.to_ne_bytes().to_vec()),
                false => lookup(&elements, key)?.filter(|now| now != slot),
            };
            if let Some(slot) = moved {
                value = lookup(&slots, &slot)?.unwrap_or_default();
            }
            // Hashed, a reverse key looks like others; and what a race left over leads to a slot with other keys.
            if holds(&value) {
                flows.extend(flows::flow(&value, &self.cfg, &self.clock));
            }
        }
        Ok(flows)
    }

    fn secret(&self) -> Result<Secret, Refusal> {
        Secret::read(&element(&*self.map("secret")?, 0)).ok_or_else(|| unreadable("its secret"))
    }

    /// The translation that a server sees like this.
    #[cfg(feature = "operate")]
    pub fn seen(&self, seen: &Seen) -> Result<Option<Flow>, Refusal> {
        let (elements, slots, local) = match seen.client.is_ipv4() {
            true => ("idx4", "slots4", "local4"),
            false => ("idx6", "slots6", "local6"),
        };
        let (elements, slots, local) = (self.map(elements)?, self.map(slots)?, self.map(local)?);
        let secret = self.secret()?;
        let lookup = |map: &Map, key: &[u8]| map.lookup(key).map_err(|e| unreadable(&e.to_string()));
        let own = |ip: IpAddr| {
            let key = match ip {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            let flags = local.lookup(&key).ok().flatten().and_then(|flags| u32::read(&flags));
            flags.is_some_and(|flags| flags & codes::LOCAL_OWN != 0)
        };
        for key in seen.keys() {
            let Some(slot) = lookup(&elements, &index(&key, &secret))? else { continue };
            let value = lookup(&slots, &slot)?.unwrap_or_default();
            if !seen.is(&value, &key, own) {
                continue;
            }
            if let Some(flow) = flows::flow(&value, &self.cfg, &self.clock) {
                return Ok(Some(flow));
            }
        }
        Ok(None)
    }

    /// What was asked for, most first, and what found no row of its own.
    pub fn asked(&self) -> Result<(Vec<Asked>, Vec<Others>), Refusal> {
        let rows = entries(&*self.map("asked")?)?;
        let mut rows: Vec<Asked> = rows.iter().filter_map(|(k, v)| asked::asked(k, v, &self.clock)).collect();
        asked::sort(&mut rows);
        let clients = entries(&*self.map("asked_clients")?)?;
        let mut others: Vec<Others> =
            clients.iter().filter_map(|(k, v)| asked::others(k, v, &self.clock)).collect();
        others.extend(asked::left_out(&element(&*self.map("asked_others")?, 0)));
        Ok((rows, others))
    }

    /// The rules in force with their counters.
    pub fn rules(&self) -> Result<InForce, Refusal> {
        let (_, table) = active(&self.dir)?;
        let stats = self.map("rule_stats")?;
        in_force(&table, |rule| element(&stats, rule)).ok_or_else(|| unreadable("its rules"))
    }

    /// Why packets were left alone or dropped.
    pub fn counters(&self) -> Result<Vec<Counter>, Refusal> {
        let reasons = self.map("reasons")?;
        Ok(counters(|reason| element(&reasons, reason)))
    }

    /// How full the tables are.
    pub fn fill(&self, flows: &[Flow], rows: usize) -> Fill {
        let cfg = &self.cfg;
        let tables = |ipv6, half: u32, most: u32| {
            let flows = || flows.iter().filter(move |f| f.client.is_ipv6() == ipv6);
            let confirmed =
                flows().filter(|f| matches!(f.state, State::Confirmed | State::Closing)).count() as u64;
            let opening = (flows().count() as u64).saturating_sub(confirmed);
            let half = u64::from(cfg.cpus).saturating_mul(half.into());
            Flows { confirmed: (confirmed, most.into()), half_open: (opening, half) }
        };
        Fill {
            v4: tables(false, cfg.half_slots4, cfg.confirmed_slots4),
            v6: tables(true, cfg.half_slots6, cfg.confirmed_slots6),
            asked: (rows as u64, u64::from(cfg.asked_rows).saturating_mul(16)),
        }
    }
}

/// Whether the maps in `dir` have the sizes that this program reads.
fn readable(dir: &Dir, object: &Object) -> Result<(), Refusal> {
    for spec in object.maps.iter().filter(|m| !m.name.starts_with('.')) {
        let map = open_map(&dir.map(&spec.name))
            .map_err(|_| another(&format!("they have no map {}", spec.name)))?;
        let shape = shape(map.as_fd()).map_err(|e| unreadable(&e.to_string()))?;
        let is = [shape.number("key_size"), shape.number("value_size")];
        let wanted: [u64; 2] = [spec.key_size.into(), spec.value_size.into()];
        if is != wanted {
            return Err(another(&format!(
                "key and value of map {} have {is:?} bytes, not {wanted:?}",
                spec.name
            )));
        }
    }
    Ok(())
}

fn another(how: &str) -> Refusal {
    let hint = "use the detour that made it, or 'down' and 'up' again";
    Refusal::new(Stage::InTheWay, format!("it runs programs of another version: {how}"), hint)
}

/// Offset of `fwd` in `struct flow4` and `struct flow6`.
const KEY: usize = 8;
/// Offset of `dir` in `struct key4`.
const DIR4: usize = 13;

/// Element `index` of an array, every CPU's after the other; empty when it cannot be read.
fn element(map: &Map, index: u32) -> Vec<u8> {
    map.lookup(&index.to_ne_bytes()).ok().flatten().unwrap_or_default()
}

fn clock(cfg: &Cfg) -> Clock {
    Clock::new(cfg, clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default())
}

fn unreadable(what: &str) -> Refusal {
    Refusal::new(Stage::Kernel, format!("cannot read what is up: {what}"), "")
}
