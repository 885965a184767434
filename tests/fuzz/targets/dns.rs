// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Frames with DNS answers, and files of names.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use detour::dnat::names::Names;
use detour::dnat::{datagram, dns};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    detour_fuzz::bounded(bytes.len() + ANSWER, || {
        let mut names = Names::default();
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let payloads = [Some(bytes), datagram::payload(bytes, 14), datagram::payload(bytes, 0)];
        for answer in payloads.into_iter().flatten().filter_map(dns::answer) {
            assert!(answer.name.bytes().all(|b| b.is_ascii_graphic() && b != b'#'), "{:?}", answer.name);
            for address in &answer.addresses {
                names.learn(client, *address, &answer.name);
            }
        }
        // A file is refused as a whole, and what was before its fault is there.
        let _ = names.read(&String::from_utf8_lossy(bytes));
        let mut again = Names::default();
        again.read(&names.hosts()).unwrap();
        assert_eq!(again.hosts(), names.hosts(), "what was written can be read");
    });
});

/// Records that are pointers to one long name: each is kept as that name while the answer is read.
const ANSWER: usize = 64 << 10;
