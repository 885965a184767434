// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The elements that a plan writes, byte for byte, against those that the kernel has afterwards: strace shows keys and values
//! by their address only, so they are read back from the pinned maps.
use crate::netns::Netns;
use detour::load::plan_json::unhex;
use detour::object::sha256;
use detour_sys::{call, commands, Map};
use serde_json::Value;
use std::collections::BTreeMap;

/// Compares after the plan was done; how many elements there were. The last step that writes an element is the one that
/// counts. Panics at the first one that is another.
#[track_caller]
pub fn compare(ns: &Netns, plan: &Value) -> usize {
    let steps = plan["steps"].as_array().expect("steps");
    let at = |step: &Value| Some(step["args"]["pathname"].as_str()?.replace("-new/", "/"));
    // Where the map behind a symbol is afterwards.
    let path_of = |symbol: &str| {
        let by = |step: &&Value| match step["command"].as_str() {
            Some("OBJ_PIN") => step["args"]["bpf_fd"]["fd"] == symbol,
            Some("OBJ_GET") => step["gives"] == symbol,
            _ => false,
        };
        let path = at(steps.iter().find(by)?)?;
        let pins = |step: &Value| step["command"] == "OBJ_PIN" && step["args"]["bpf_fd"]["fd"] != symbol;
        // Another map has its place afterwards: it goes with the folder that was exchanged.
        (!steps.iter().any(|step| pins(step) && at(step).as_ref() == Some(&path))).then_some(path)
    };
    let mut last: BTreeMap<(String, Vec<u8>), Option<&Value>> = BTreeMap::new();
    for step in steps {
        let written = match step["command"].as_str() {
            Some("MAP_UPDATE_ELEM") => Some(&step["args"]["value"]),
            Some("MAP_DELETE_ELEM") => None,
            _ => continue,
        };
        let symbol = step["args"]["map_fd"]["fd"].as_str().expect("a map").to_string();
        last.insert((symbol, bytes(&step["args"]["key"]).expect("a key")), written);
    }
    let mut compared = 0;
    for ((symbol, key), written) in &last {
        // What has no name is gone with the process.
        let Some(path) = path_of(symbol) else { continue };
        let is = ns.within(|| open(&path).lookup(key).unwrap());
        let Some(planned) = written else {
            assert_eq!(is, None, "{path} {key:02x?} is deleted");
            compared += 1;
            continue;
        };
        let mut is = is.unwrap_or_else(|| panic!("{path}: no {key:02x?}"));
        for hole in planned["holes"].as_array().into_iter().flatten() {
            let (at, symbol) = (hole[0].as_u64().unwrap() as usize, hole[1].as_str().unwrap());
            if symbol.starts_with('%') {
                // A map in a map reads as its id.
                let inner = path_of(symbol).unwrap_or_else(|| panic!("{symbol} has no pin"));
                let id = ns.within(|| open(&inner).id()).expect("the kernel was asked");
                assert_eq!(is[at..at + 4], id.to_ne_bytes(), "{path} {key:02x?} leads to {inner}");
            }
            is[at..at + 4].fill(0);
        }
        let digest: String = sha256(&is).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(planned["sha256"].as_str(), Some(digest.as_str()), "{path} {key:02x?}");
        compared += 1;
    }
    compared
}

fn open(path: &str) -> Map {
    let answer = call(&commands::OBJ_GET, &[("pathname", detour_sys::Value::Text(path))]);
    Map::from_fd(answer.map_err(|(error, _)| error).unwrap().fd.unwrap()).unwrap()
}

/// The bytes of a planned value: zero but for the runs that it carries.
fn bytes(planned: &Value) -> Option<Vec<u8>> {
    let mut bytes = vec![0; planned["len"].as_u64()? as usize];
    for run in planned["runs"].as_array()? {
        let at = run[0].as_u64()? as usize;
        let part = unhex(run[1].as_str()?)?;
        bytes[at..at + part.len()].copy_from_slice(&part);
    }
    Some(bytes)
}
