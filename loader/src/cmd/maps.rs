// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `map list|dump|get|set|del|listen`: the pinned maps of an instance, their elements read by the object's types.
use crate::cmd::{elements, objects, Answer, Context};
use crate::dnat::embedded;
use crate::dnat::running::entries;
use crate::load::facts::{Facts, Instance};
#[cfg(feature = "operate")]
use crate::load::gather::open;
use crate::load::gather::open_map;
use crate::load::home::{map_pin, Dir};
use crate::load::plan::Plan;
use crate::load::refusal::{Refusal, Stage};
#[cfg(feature = "operate")]
use crate::load::types::of_program;
use crate::load::types::{of_map, MapTypes};
use crate::object::{Btf, MapSpec, Object};
use crate::ui::map_type::map_type;
use crate::ui::maps::{self, Row, Typed};
use crate::ui::text::escape;
use clap::ArgMatches;
use detour_sys::Map;
use std::os::fd::AsFd;

/// `map list|dump|get|set|del|listen DEV NAME …`.
pub fn map(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let Some((what, args)) = args.subcommand() else {
        return Err(Refusal::new(Stage::Usage, "map what?", "map list, dump, get, set, del or listen"));
    };
    #[cfg(feature = "operate")]
    if what == "listen" {
        return crate::cmd::listen::listen(context, args);
    }
    if matches!(what, "set" | "del") {
        context.lock()?;
    }
    let facts = context.facts_of_device(text(args, "dev"))?;
    facts.reachable()?;
    let here = Here::find(&facts, args)?;
    if what == "list" {
        let rows = here.rows()?;
        return Ok(Answer::done(maps::list(&rows, &context.paper), maps::list_json(&rows)));
    }
    let opened = here.open(text(args, "map"))?;
    let name = opened.name;
    let types = here.types(&opened);
    let elements = match what {
        "dump" => entries(&opened.map).map_err(|refusal| without_keys(refusal, name, &opened.info))?,
        "get" => {
            if let Some(part) = elements::part(text(args, "key"), &types)? {
                return Ok(elements::show_part(&opened, &part, &opened.element(&[0; 4])?));
            }
            let wanted = elements::bytes(text(args, "key"), types.key, opened.map.key_size())?;
            let value = opened.element(&wanted)?;
            vec![(wanted, value)]
        }
        "set" | "del" => {
            let change = elements::change(what, args, &opened, &types)?;
            context
                .execute(&change.plan, None)
                .map_err(|refusal| elements::unwritten(refusal, name, &opened.info))?;
            return Ok(change.answer);
        }
        _ => return Err(Refusal::new(Stage::Usage, "map what?", "map list, dump, get, set or del")),
    };
    Ok(elements::show(name, &elements, &types))
}

/// The steps of `map set` and `map del`.
pub fn change_plan(what: &str, args: &ArgMatches, facts: &Facts) -> Result<Plan, Refusal> {
    facts.reachable()?;
    let here = Here::find(facts, args)?;
    let opened = here.open(text(args, "map"))?;
    Ok(elements::change(what, args, &opened, &here.types(&opened))?.plan)
}

/// An argument.
pub fn text<'a>(args: &'a ArgMatches, name: &str) -> &'a str {
    args.get_one::<String>(name).map(String::as_str).unwrap_or_default()
}

/// A map of the instance.
pub struct Opened<'a> {
    /// As it was asked for.
    pub name: &'a str,
    /// Of its pin.
    pub path: String,
    /// Its descriptor.
    pub map: Map,
    /// Its shape.
    pub info: Row,
    /// The types that the kernel keeps, where no object is at hand.
    kernels: Option<MapTypes>,
}

impl Opened<'_> {
    /// The value at `key`.
    fn element(&self, key: &[u8]) -> Result<Vec<u8>, Refusal> {
        let found = self.map.lookup(key).map_err(|e| without_keys(refused(self.name, &e), "", &self.info))?;
        found.ok_or_else(|| elements::nothing(self.name))
    }
}

/// The types of a map's keys and values.
pub struct Types<'a> {
    /// Of a key.
    pub key: Typed<'a>,
    /// Of a value; a per-CPU map's has one record for each CPU.
    pub value: Typed<'a>,
}

/// An instance, where its pins are, and the object that it came from if that is at hand.
pub(super) struct Here {
    dir: Dir,
    pins: Vec<String>,
    object: Option<Object>,
}

impl Here {
    pub(super) fn find(facts: &Facts, args: &ArgMatches) -> Result<Here, Refusal> {
        let name = text(args, "name");
        let instance: &Instance =
            facts.instance(name).ok_or_else(|| Refusal::nothing(name, &facts.device.name))?;
        let sha256 = instance.record.as_ref().map(|r| r.object_sha256);
        let object = match args.get_one::<String>("types") {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(|e| Refusal::unreadable(path, &e))?;
                let object = objects::parse_known(&bytes).map_err(|e| Refusal::from(e).about(path))?;
                if Some(object.sha256) != sha256 {
                    let what = format!("{} is not what '{name}' was loaded from", path.escape_debug());
                    return Err(Refusal::new(Stage::Usage, what, "other bytes may mean other types"));
                }
                Some(object)
            }
            None => ["dnat", "drop", "trace"].iter().find_map(|name| {
                let object = Object::parse(embedded::object(name).ok()?).ok()?;
                Some(object).filter(|object| Some(object.sha256) == sha256)
            }),
        };
        Ok(Here { dir: instance.dir(&facts.home(name)), pins: instance.pins.clone(), object })
    }

    fn spec(&self, pin: &str) -> Option<&MapSpec> {
        self.object.as_ref()?.maps.iter().find(|map| map_pin(&map.name) == pin)
    }

    fn names(&self) -> impl Iterator<Item = (String, &String)> {
        let name =
            |pin: &String| Some(self.spec(pin).map_or_else(|| pin.get(4..), |m| Some(&m.name))?.to_owned());
        self.pins.iter().filter(|pin| pin.starts_with("map_")).filter_map(move |pin| Some((name(pin)?, pin)))
    }

    pub(super) fn path(&self, name: &str) -> Result<String, Refusal> {
        let pin = map_pin(name);
        if self.pins.contains(&pin) {
            return Ok(self.dir.pin(&pin));
        }
        let names: Vec<String> = self.names().map(|(name, _)| escape(&name)).collect();
        let what = format!("the instance has no map '{}'", escape(name));
        Err(Refusal::new(Stage::Usage, what, format!("it has: {}", names.join(", "))))
    }

    fn rows(&self) -> Result<Vec<Row>, Refusal> {
        let row = |(name, pin): (String, &String)| {
            let map = open_map(&self.dir.pin(pin))?;
            Ok(Row { name: name.clone(), ..info(&map, &name)? })
        };
        self.names().map(row).collect()
    }

    /// Where it is.
    #[cfg(feature = "operate")]
    pub(super) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// All types of the object: its own where it is at hand, or those that a program of the instance was loaded with.
    #[cfg(feature = "operate")]
    pub(super) fn any_types(&self) -> Result<Btf, Refusal> {
        let programs = || self.pins.iter().filter(|pin| pin.starts_with("prog_"));
        let kernels = |pin: &String| of_program(open(&self.dir.pin(pin)).ok()?.as_fd()).ok().flatten();
        let own = self.object.as_ref().and_then(|object| object.btf.clone());
        own.or_else(|| programs().find_map(kernels)).ok_or_else(|| {
            let hint = "--types FILE: what it was loaded from. The kernel's are for CAP_SYS_ADMIN; without --as records are hex";
            Refusal::new(Stage::Usage, "the types of the instance are not at hand", hint)
        })
    }

    /// A map, with the types that the kernel keeps where no object is at hand; asking for them needs CAP_SYS_ADMIN.
    fn open<'a>(&self, name: &'a str) -> Result<Opened<'a>, Refusal> {
        let path = self.path(name)?;
        let map = open_map(&path)?;
        let info = info(&map, name)?;
        let kernels = match self.spec(&map_pin(name)) {
            Some(_) => None,
            None => of_map(map.as_fd()).ok().flatten(),
        };
        Ok(Opened { name, path, map, info, kernels })
    }

    /// The types of keys and values, from the object or the kernel.
    fn types<'a>(&'a self, opened: &'a Opened<'_>) -> Types<'a> {
        let object = || Some((self.object.as_ref()?.btf.as_ref()?, self.spec(&map_pin(opened.name))?));
        let (key, value) = match (object(), &opened.kernels) {
            (Some((btf, spec)), _) => (Some((btf, spec.key_type_id)), Some((btf, spec.value_type_id))),
            (None, Some(types)) => (Some((&types.btf, types.key)), Some((&types.btf, types.value))),
            (None, None) => (None, None),
        };
        let some = |typed: Option<(&'a Btf, u32)>| typed.filter(|(_, id)| *id != 0);
        let size = usize::try_from(opened.info.value_size).unwrap_or(0);
        let stride = if opened.map.value_size() == size { 0 } else { size.next_multiple_of(8) };
        Types { key: Typed { btf: some(key), stride: 0 }, value: Typed { btf: some(value), stride } }
    }
}

/// `struct bpf_map_info` {type, id, key_size, value_size, max_entries, map_flags}.
pub(super) fn info(map: &Map, name: &str) -> Result<Row, Refusal> {
    let info = detour_sys::info(map.as_fd(), 24).map_err(|e| refused(name, &e))?;
    let words: Vec<u32> =
        info.chunks_exact(4).filter_map(|w| w.try_into().ok()).map(u32::from_ne_bytes).collect();
    match words.as_slice() {
        &[map_type, id, key_size, value_size, max_entries, flags] => {
            Ok(Row { name: String::new(), id, map_type, key_size, value_size, max_entries, flags })
        }
        _ => Err(Refusal::new(Stage::Kernel, "the kernel's description of a map is too short", "")),
    }
}

/// Why the kernel reads no element, as far as the map's type says it.
fn without_keys(refusal: Refusal, name: &str, info: &Row) -> Refusal {
    let hint = format!("of a map of type {} only programs read what is in it", map_type(info.map_type));
    match name {
        "" => refusal.and_hint(&hint),
        _ => refusal.and_hint(&hint).about(name),
    }
}

/// A look-up that the kernel refused.
pub fn refused(name: &str, error: &std::io::Error) -> Refusal {
    Refusal::new(Stage::Kernel, format!("map '{}': {error}", escape(name)), "")
}
