// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What is wrong with an object, to one sentence that says where.

use std::fmt;

/// Why an object, or a setting for it, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectError {
    /// The container is not one this loader reads.
    Elf(&'static str),
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectError::Elf(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for ObjectError {}
