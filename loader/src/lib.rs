// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! detour: ELF bytes to running tc programs, every effect a value that can be read first.
//!
//! Parsing and planning need no kernel: an object is what its bytes say, and a plan follows from the object, what is
//! wanted and facts about a machine.
//!
//! ```
//! use detour::object::Object;
//! use detour::ui::value;
//!
//! // Parse.
//! let mut object = Object::parse(detour::dnat::embedded::object("dnat")?)?;
//! let program = object.program("detour_in").expect("it is there");
//! assert!(program.helpers().contains(&1), "it looks into maps");
//!
//! // Edit: variables by their types, before anything is loaded.
//! object.set("cfg.l2_len=0")?;
//! let rodata = object.maps.iter().find(|map| map.name == ".rodata").expect("it is there");
//! let (btf, contents) = (object.btf.as_ref().expect("types"), rodata.contents.clone().unwrap_or_default());
//! let value = value::value(btf, rodata.value_type_id, &contents);
//! assert!(value.text().contains(".l2_len = 0"));
//!
//! // Plan for some machine: every call, in order.
//! use detour::load::{create::Creation, facts::Machine, plan, transcript};
//! let machine = Machine { release: "6.18.0".into(), page_size: 4096, possible_cpus: 8, hz: 250 };
//! let programs = vec!["detour_in".to_string()];
//! let creation = Creation { file: "dnat.bpf.o".into(), programs, ..Creation::default() };
//! let plan = plan::dry_run(&object, &creation, &machine)?;
//! println!("{}", transcript::plan(&plan, transcript::Detail::default()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Attaching takes facts about a device, and doing a plan takes privileges (`tests/tests/library.rs` does all of it to a kernel):
//!
//! ```no_run
//! use detour::load::create::Creation;
//! use detour::load::plan::{self, Attach, Config};
//! use detour::load::tc::{Place, INGRESS};
//! use detour::load::{exec, gather, netlink::Socket, tcx::Anchor};
//! use detour::object::Object;
//!
//! let object = Object::parse(&std::fs::read("lab.bpf.o")?)?;
//! let mut socket = Socket::open()?;
//! let facts = gather::gather(&mut socket, "eth0")?;
//!
//! // Attach, as the instance `lab`.
//! let place = Place::new(facts.device.ifindex, INGRESS, 200, 1);
//! let attach = vec![Attach { program: "lab".into(), place, anchor: Anchor::default() }];
//! let creation =
//!     Creation { file: "lab.bpf.o".into(), programs: vec!["lab".into()], ..Creation::default() };
//! let config = Config { creation, attach, name: "lab".into(), mount: false, unpinned: false, replace: false, beside: None };
//! let plan = plan::load(&object, &config, &facts)?;
//! let symbols = exec::run(&plan, &mut socket, &mut |_| {}).map_err(|failure| format!("{failure:?}"))?;
//!
//! // Read maps: through what the plan made, or later through the pins.
//! let first = symbols.map("%counters")?.lookup(&0_u32.to_ne_bytes())?;
//! let pin = format!("{}/{}", facts.home("lab").dir(), detour::load::home::map_pin("counters"));
//! let again = gather::open_map(&pin)?.lookup(&0_u32.to_ne_bytes())?;
//! assert_eq!(first, again);
//!
//! // And off again.
//! let facts = gather::gather(&mut socket, "eth0")?;
//! let plan = plan::unload("lab", &facts)?;
//! exec::run(&plan, &mut socket, &mut |_| {}).map_err(|failure| format!("{failure:?}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "audit")]
pub mod audit;
pub mod cmd;
#[cfg(feature = "compat")]
pub mod compat;
#[cfg(feature = "demo")]
pub mod demo;
pub mod dnat;
pub mod load;
pub mod object;
pub mod ui;
