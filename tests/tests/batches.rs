// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! All elements of a map, many by one call: beside bpftool, while elements come and go, and by how many calls.
use ::detour::dnat::running::{entries, Element};
use ::detour::load::gather::open_map;
use detour_sys::{Map, Value};
use e2e::detour;
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::{strace, tools};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// `enum bpf_map_type`, and whether Linux 5.10 gives its elements in batches.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const PERCPU_ARRAY: u32 = 6;
const LPM_TRIE: u32 = 11;
const TYPES: [(u32, bool); 7] = [
    (HASH, true),
    (ARRAY, true),
    (5, true), // PERCPU_HASH
    (PERCPU_ARRAY, false),
    (9, true),  // LRU_HASH
    (10, true), // LRU_PERCPU_HASH
    (LPM_TRIE, false),
];
const NO_PREALLOC: u64 = 1;
const ZERO_SEED: u64 = 1 << 6;

fn create(map_type: u32, key: u64, value: u64, max_entries: u64, flags: u64) -> Map {
    Map::create(&[
        ("map_type", Value::Num(map_type.into())),
        ("key_size", Value::Num(key)),
        ("value_size", Value::Num(value)),
        ("max_entries", Value::Num(max_entries)),
        ("map_flags", Value::Num(flags)),
    ])
    .unwrap()
}

/// What `bpftool map dump` says of the map, sorted.
fn theirs(ns: &Netns, map: &Map) -> Vec<Element> {
    let info = detour_sys::info(map.as_fd(), 8).unwrap();
    let id = u32::from_ne_bytes(info[4..8].try_into().unwrap()).to_string();
    let bytes = |list: &serde_json::Value| -> Vec<u8> {
        let byte = |b: &serde_json::Value| u8::from_str_radix(&b.as_str().unwrap()[2..], 16).unwrap();
        list.as_array().unwrap().iter().map(byte).collect()
    };
    let dump = tools::json(ns, "bpftool", &["-j", "map", "dump", "id", &id]);
    let element = |row: &serde_json::Value| {
        let value = match row["values"].as_array() {
            // bpftool leaves out what rounds a processor's record up to 8 bytes.
            Some(cpus) => cpus.iter().flat_map(|cpu| bytes(&cpu["value"])).collect(),
            None => bytes(&row["value"]),
        };
        (bytes(&row["key"]), value)
    };
    let mut all: Vec<Element> = dump.as_array().unwrap().iter().map(element).collect();
    all.sort();
    all
}

/// Key number `n`: the first bytes say it, and in a trie all of them count.
fn key(map: &Map, n: u32) -> Vec<u8> {
    let mut key = n.to_ne_bytes().to_vec();
    if map.map_type() == LPM_TRIE {
        key = [32_u32.to_ne_bytes().to_vec(), key].concat();
    }
    key.resize(map.key_size(), 0);
    key
}

#[test]
fn every_type_is_read_as_bpftool_reads_it() {
    let ns = Netns::alone();
    // A value of 1 KiB on all processors: a batch has 256 elements at most.
    for (map_type, batched) in TYPES {
        for (key_size, value_size, most, fill) in
            [(4, 8, 10, 0), (4, 8, 10, 3), (2, 8, 60, 60), (16, 1024, 1000, 1000), (4, 1024, 1000, 999)]
        {
            let array = [ARRAY, PERCPU_ARRAY].contains(&map_type);
            if array && key_size != 4 {
                continue;
            }
            let (key_size, flags) = if map_type == LPM_TRIE { (8, NO_PREALLOC) } else { (key_size, 0) };
            let map = create(map_type, key_size, value_size, most, flags);
            assert_eq!(map.batches().is_some(), batched, "type {map_type}");
            for n in 0..fill {
                let value = (0..map.value_size()).map(|at| (at as u32 + n * 7) as u8).collect::<Vec<_>>();
                map.update(&key(&map, n), &value, 0).unwrap();
            }
            let about = format!("type {map_type}, key {key_size}, value {value_size}, {fill} of {most}");
            let ours = entries(&map).unwrap();
            assert_eq!(ours, theirs(&ns, &map), "{about}");
            match map_type {
                // Where they throw out old ones is theirs to decide.
                9 | 10 => assert!(ours.len() <= fill as usize && (fill == 0) == ours.is_empty(), "{about}"),
                _ if array => assert_eq!(ours.len() as u64, most, "{about}"),
                _ => assert_eq!(ours.len(), fill as usize, "{about}"),
            }
        }
    }
}

/// The hash of a key of one word without a seed: `jhash2()` in include/linux/jhash.h.
fn jhash(word: u32) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(4);
    let [mut a, mut b, mut c] = [start.wrapping_add(word), start, start];
    let step = |x: u32, y: u32, n: u32| (x ^ y).wrapping_sub(y.rotate_left(n));
    c = step(c, b, 14);
    a = step(a, c, 11);
    b = step(b, a, 25);
    c = step(c, b, 16);
    a = step(a, c, 4);
    b = step(b, a, 14);
    step(c, b, 24)
}

#[test]
fn a_bucket_that_holds_more_than_a_call_asks_for_is_read() {
    // Sixteen of 32 KiB are what a call asks for first; forty are in one of 64 buckets.
    let map = create(HASH, 4, 32 << 10, 64, ZERO_SEED);
    let crowded: Vec<u32> = (0_u32..).filter(|key| jhash(*key) & 63 == 5).take(40).collect();
    let value = vec![7; 32 << 10];
    crowded.iter().for_each(|key| map.update(&key.to_ne_bytes(), &value, 0).unwrap());
    let mut all = Vec::new();
    map.batches().unwrap().for_each(|batch| all.push(batch.unwrap()));
    assert_eq!(all.iter().map(Vec::len).max(), Some(40), "all of a bucket come at once");
    let keys: BTreeSet<u32> =
        all.iter().flatten().map(|(key, _)| u32::from_ne_bytes(key[..].try_into().unwrap())).collect();
    assert_eq!(keys, crowded.into_iter().collect());
}

#[test]
fn what_stays_is_seen_once_whatever_comes_and_goes() {
    const STAY: u32 = 5_000;
    const COME: u32 = 3_000;
    // Batches of 256 elements.
    let map = create(HASH, 4, 1020, u64::from(STAY + COME), NO_PREALLOC);
    let value = vec![1; 1020];
    (0..STAY).for_each(|key| map.update(&key.to_ne_bytes(), &value, 0).unwrap());
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                for key in STAY..STAY + COME {
                    map.update(&key.to_ne_bytes(), &value, 0).unwrap();
                }
                for key in STAY..STAY + COME {
                    map.delete(&key.to_ne_bytes()).unwrap();
                }
            }
        });
        let mut different = BTreeSet::new();
        for _ in 0..30 {
            let all: Vec<Element> = map.batches().unwrap().flat_map(|batch| batch.unwrap()).collect();
            let keys: BTreeSet<u32> =
                all.iter().map(|(key, _)| u32::from_ne_bytes(key[..].try_into().unwrap())).collect();
            assert_eq!(keys.len(), all.len(), "none twice");
            assert!(all.iter().all(|(_, read)| *read == value));
            assert_eq!(keys.range(..STAY).count(), STAY as usize);
            different.insert(keys.len());
        }
        assert!(different.len() > 1, "something came and went: {different:?}");
        end.store(true, Ordering::Relaxed);
    });
}

#[test]
fn ten_thousand_elements_take_a_few_calls() {
    let lab = Lab::on(Netns::alone(), "eth0");
    let ns = &lab.gateway;
    let file = tools::project().join("elf/fixtures/maps.bpf.o").display().to_string();
    let load = ["load", &file, "eth0", "--name", "m", "--ingress", "maps", "--map-size", "sized=10000"];
    detour::run(ns, &load).done();
    let path = format!("/sys/fs/bpf/detour/{}-{}/m/map_sized", ns.inode(), ifindex(ns));
    ns.within(|| {
        let map = open_map(&path).unwrap();
        assert_eq!(map.map_type(), HASH);
        let value = vec![3; map.value_size()];
        (0..10_000).for_each(|n| map.update(&key(&map, n), &value, 0).unwrap());
    });
    let (output, calls) =
        strace::trace(ns, &detour::command(&["map", "dump", "eth0", "m", "sized", "-j"]), "bpf", None);
    assert!(output.status.success(), "{output:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["elements"].as_array().map(Vec::len), Some(10_000));
    // Key by key there would be a call for each key, one for each value, and one that says that there are no more.
    let made = |command| calls.iter().filter(|call| call.bpf() == Some(command)).count();
    assert_eq!(
        (made(1), made(4)),
        (1, 0),
        "BPF_MAP_LOOKUP_ELEM of the instance's record, BPF_MAP_GET_NEXT_KEY"
    );
    assert!((1..=10).contains(&made(24)) && calls.len() < 60, "{} of {}", made(24), calls.len());
}

fn ifindex(ns: &Netns) -> u64 {
    tools::json(ns, "ip", &["-j", "link", "show", "eth0"])[0]["ifindex"].as_u64().unwrap()
}
