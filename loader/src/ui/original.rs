// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The translation that a server asked about -> one line, or JSON.

use serde_json::{json, Value};

use crate::dnat::flows::{has_ports, Flow};
use crate::dnat::original::Seen;

use super::flows::{end_json, flow_json};
use super::text::protocol;

/// `203.0.113.9:80`; the address alone where there are no ports.
pub fn text(flow: Option<&Flow>) -> String {
    match flow {
        None => "no such translation\n".to_owned(),
        Some(flow) if has_ports(flow.protocol) => format!("{}\n", flow.original),
        Some(flow) => format!("{}\n", flow.original.ip()),
    }
}

/// `{"schema":"detour.orig/1","original":{"address":…,"port":…},"device":…,"flow":…}`, null where there is none.
pub fn json(seen: &Seen, found: Option<(&str, &Flow)>) -> Value {
    json!({
        "schema": "detour.orig/1",
        "protocol": protocol(seen.protocol),
        "client": end_json(seen.protocol, seen.client),
        "server": end_json(seen.protocol, seen.server),
        "original": found.map(|(_, flow)| end_json(flow.protocol, flow.original)),
        "device": found.map(|(device, _)| device),
        "flow": found.map(|(_, flow)| flow_json(flow)),
    })
}
