// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! JSON values to the one document on stdout or stderr.
use serde_json::Value;

/// One line, or indented; ends with a newline.
pub fn document(value: &Value, pretty: bool) -> String {
    match pretty {
        true => format!("{value:#}\n"),
        false => format!("{value}\n"),
    }
}
