// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! All unsafe code of detour: typed bpf(2) commands and nothing else.
