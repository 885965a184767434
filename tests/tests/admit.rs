// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Objects that are let in or not: signatures by `minisign`, policies of a site.
use e2e::detour::{self, code};
use e2e::lab::Lab;
use e2e::netns::Netns;
use e2e::tools::{self, Scratch};

const DEVICE: &str = "eth0";

#[test]
fn only_what_the_owner_of_the_key_signed() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path(name).display().to_string();
    let object = scratch.write("drop.bpf.o", std::fs::read(tools::project().join("elf/drop.bpf.o")).unwrap());
    for owner in ["ours", "theirs"] {
        ns.run("minisign", &["-G", "-W", "-p", &path(&format!("{owner}.pub")), "-s", &path(owner)]);
    }
    let sign = |owner: &str| ns.run("minisign", &["-S", "-s", &path(owner), "-m", &object]);
    let (key, signature) = (path("ours.pub"), path("drop.bpf.o.minisig"));
    let load = |rest: &[&str]| {
        // Plan and deed say who checked it.
        let by =
            format!("note: the signature was checked by detour, with {key}; the kernel was not asked to\n");
        for first in [&["load"][..], &["plan", "load"]] {
            let line = [first, &[&object, DEVICE, "--require-signature", &key], rest].concat();
            let run = detour::run(ns, &line);
            assert_eq!(run.code == Some(code::DONE), run.stdout.contains(&by), "{run:?}");
            if run.code == Some(code::DONE) && first.len() == 1 {
                detour::run(ns, &["unload", DEVICE]).done();
            }
        }
        let run = detour::run(ns, &[&["load", &object, DEVICE, "--require-signature", &key], rest].concat());
        if run.code == Some(code::DONE) {
            detour::run(ns, &["unload", DEVICE]).done();
        }
        run
    };
    load(&[]).refused(code::OBJECT, &["not signed", "drop.bpf.o.minisig"]);
    sign("ours");
    load(&[]).done();
    let packet = scratch.write("packet", "00".repeat(60));
    let test = |key: &str| {
        let line = ["test", &object, "drop", "--packet", &packet, "--require-signature", key];
        detour::run(ns, &line)
    };
    test(&key).done();
    test(&path("theirs.pub")).refused(code::OBJECT, &["another key"]);
    // Elsewhere, and older kinds of signature: signify's, without hashing first.
    std::fs::rename(&signature, path("elsewhere")).unwrap();
    load(&["--signature", &path("elsewhere")]).done();
    sign("theirs");
    load(&[]).refused(code::OBJECT, &["another key"]);
    // Theirs, under the number of our key.
    let forged = std::fs::read_to_string(&signature).unwrap();
    let mut lines: Vec<String> = forged.lines().map(str::to_string).collect();
    let ours = std::fs::read_to_string(path("elsewhere")).unwrap();
    let number = ours.lines().nth(1).unwrap()[..13].to_string();
    lines[1].replace_range(..13, &number);
    std::fs::write(&signature, lines.join("\n") + "\n").unwrap();
    let run = load(&[]);
    assert_eq!(run.code, Some(code::OBJECT), "{run:?}");
    // One bit of the object.
    sign("ours");
    let mut bytes = std::fs::read(&object).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&object, &bytes).unwrap();
    let run = load(&[]);
    assert!(run.code == Some(code::OBJECT), "{run:?}");
    detour::run(ns, &["load", "@drop", DEVICE, "--require-signature", &key])
        .refused(code::USAGE, &["--signature"]);
    assert!(tools::filters(ns, DEVICE, "ingress").is_empty(), "nothing of it was loaded");
}

#[test]
fn only_what_the_policy_allows() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    let packet = scratch.write("packet", "00".repeat(60));
    let strict = scratch.write("strict", "# no printing\nhelper deny trace_*\nattach allow ingress\n");
    let run = detour::run(ns, &["inspect", "@trace", "--policy", &strict]).ends(code::NO);
    assert!(run.stdout.contains("strict:2: program trace calls bpf_trace_printk, "), "{}", run.stdout);
    let document = detour::run(ns, &["inspect", "@trace", "--policy", &strict, "-j"]).ends(code::NO).json();
    assert_eq!((&document["allowed"], &document["violations"][0]["line"]), (&false.into(), &2.into()));
    for line in [
        &["load", "@trace", DEVICE][..],
        &["plan", "load", "@trace", DEVICE],
        &["load", "@trace", "--no-attach"],
        &["test", "@trace", "trace", "--packet", &packet],
    ] {
        detour::run(ns, &[line, &["--policy", &strict]].concat())
            .refused(code::OBJECT, &["strict:2", "trace_printk", "nothing was loaded"]);
    }
    detour::run(ns, &["inspect", "@drop", "--policy", &strict]).done();
    detour::run(ns, &["test", "@drop", "drop", "--packet", &packet, "--policy", &strict]).done();
    detour::run(ns, &["load", "@drop", DEVICE, "--policy", &strict]).done();
    detour::run(ns, &["unload", DEVICE]).done();
    let egress = ["load", "@drop", DEVICE, "--egress", "drop", "--policy", &strict];
    detour::run(ns, &egress).refused(code::OBJECT, &["strict:3", "is for egress"]);
    detour::run(ns, &["load", "@drop", DEVICE, "--tcx", "--policy", &strict])
        .refused(code::OBJECT, &["strict:3", "tcx-ingress"]);
    let wrong = scratch.write("wrong", "\nhelper permit x\n");
    detour::run(ns, &["inspect", "@drop", "--policy", &wrong]).refused(code::USAGE, &["wrong:2:", "allow"]);
}

/// `up` lets in what `load` would.
#[test]
fn the_dnat_as_well() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path(name).display().to_string();
    let object =
        scratch.write("other.bpf.o", std::fs::read(tools::project().join("elf/dnat.bpf.o")).unwrap());
    ns.run("minisign", &["-G", "-W", "-p", &path("ours.pub"), "-s", &path("ours")]);
    let key = path("ours.pub");
    let signed = ["up", DEVICE, "--object", &object, "--require-signature", &key];
    detour::run(ns, &signed).refused(code::OBJECT, &["not signed", "other.bpf.o.minisig"]);
    ns.run("minisign", &["-S", "-s", &path("ours"), "-m", &object]);
    detour::run(ns, &["up", DEVICE, "--require-signature", &key]).refused(code::USAGE, &["--signature"]);
    let strict = scratch.write("strict", "helper deny skc_lookup_tcp\n");
    let egress = scratch.write("egress", "attach allow egress\n");
    for (policy, word) in [(&strict, "skc_lookup_tcp"), (&egress, "is for ingress")] {
        for line in [&["up", DEVICE][..], &["plan", "up", DEVICE], &signed] {
            detour::run(ns, &[line, &["--policy", policy]].concat())
                .refused(code::OBJECT, &[":1", word, "nothing was loaded"]);
        }
    }
    assert!(tools::filters(ns, DEVICE, "ingress").is_empty());
    detour::run(ns, &signed).done();
    // Also where it is up already.
    detour::run(ns, &["up", DEVICE, "--policy", &strict]).refused(code::OBJECT, &["skc_lookup_tcp"]);
    detour::run(ns, &["down", DEVICE]).done();
}

/// The policy speaks of what bpftool would say that the kernel got.
#[test]
fn kernel_functions_are_seen_before_a_kernel_is_asked() {
    let ns = Netns::new();
    let scratch = Scratch::new();
    let none = scratch.write("none", "kfunc allow\n");
    let object = tools::project().join("elf/fixtures/ksyms.bpf.o").display().to_string();
    let run = detour::run(&ns, &["inspect", &object, "--policy", &none]).ends(code::NO);
    assert!(run.stdout.contains("none:1: program") && run.stdout.contains("calls bpf_"), "{}", run.stdout);
    let all = scratch.write("all", "kfunc allow bpf_* no_such_*\n");
    detour::run(&ns, &["inspect", &object, "--policy", &all]).done();
}

/// Maps count with a value for each CPU that this machine can have.
#[test]
fn maps_count_for_all_cpus() {
    let ns = Netns::new();
    let scratch = Scratch::new();
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last = possible.trim().rsplit(['-', ',']).next().unwrap().parse::<usize>().unwrap();
    // map line: a key of 4 bytes, 64 for each CPU; map .rodata: 4 and 32.
    let bytes = 4 + 64 * (last + 1) + 4 + 32;
    let limit = |most: usize| scratch.write(&format!("most{most}"), format!("bytes max {most}\n"));
    detour::run(&ns, &["inspect", "@trace", "--policy", &limit(bytes)]).done();
    let run = detour::run(&ns, &["inspect", "@trace", "--policy", &limit(bytes - 1)]).ends(code::NO);
    assert!(run.stdout.contains(&format!("object has maps of {bytes} bytes")), "{}", run.stdout);
}

/// What a signature is made of is the section as clang wrote it; the call carries what was signed, and this kernel says whether
/// it checks such things. `scripts/test-kernels` has one that does.
#[test]
fn signatures_for_the_kernel() {
    let lab = Lab::new();
    let ns = &lab.gateway;
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path(name).display().to_string();
    let (object, dir) = (tools::project().join("elf/drop.bpf.o").display().to_string(), path(""));
    detour::run(ns, &["plan", "load", &object, DEVICE, "--insns", &dir]).done();
    let section = format!("classifier={}", path("section"));
    ns.run("llvm-objcopy-19", &["--dump-section", &section, &object, &path("copy")]);
    assert_eq!(std::fs::read(path("drop.insns")).unwrap(), std::fs::read(path("section")).unwrap());

    let signed = ["load", &object, DEVICE, "--kernel-signatures", &dir];
    detour::run(ns, &signed).refused(code::OBJECT, &["drop: it is not signed", "drop.p7s", "--insns"]);
    let certificate = ["-keyout", &path("key"), "-out", &path("certificate"), "-subj", "/CN=a test"];
    ns.run("openssl", &[&["req", "-x509", "-newkey", "rsa:2048", "-nodes"], &certificate[..]].concat());
    let by = ["-signer", &path("certificate"), "-inkey", &path("key"), "-outform", "DER"];
    let files = ["-in", &path("drop.insns"), "-out", &path("drop.p7s")];
    let cms = ["cms", "-sign", "-binary", "-noattr", "-nocerts", "-md", "sha256"];
    ns.run("openssl", &[&cms, &by[..], &files[..]].concat());

    // union bpf_attr: `signature_size` is at 160, `keyring_id` at 164; KEY_SPEC_SESSION_KEYRING is -3.
    let size = std::fs::metadata(path("drop.p7s")).unwrap().len();
    let plan =
        detour::run(ns, &[&["plan"], &signed[..], &["--keyring", "session", "--bytes"]].concat()).done();
    let bytes = |n: u32| n.to_le_bytes().map(|b| format!("{b:02x}")).join(" ");
    let end = format!("a0  {} fd ff ff ff\n", bytes(size.try_into().unwrap()));
    assert!(plan.stdout.contains(&end), "{end}\n{}", plan.stdout);
    assert!(plan.stdout.contains("note: the kernel checks a signature of each program's instructions"));

    let config = std::process::Command::new("zcat").arg("/proc/config.gz").output().unwrap().stdout;
    let checks = String::from_utf8_lossy(&config).contains("\nCONFIG_SYSTEM_DATA_VERIFICATION=y\n");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let word = match checks {
        _ if (numbers.next(), numbers.next()) < (Some(6), Some(18)) => "Linux 6.18 does",
        true => "no key of this keyring",
        false => "CONFIG_SYSTEM_DATA_VERIFICATION",
    };
    detour::run(ns, &signed).refused(code::KERNEL, &["PROG_LOAD drop", word]);
    assert!(tools::filters(ns, DEVICE, "ingress").is_empty(), "nothing of it was loaded");

    // Descriptors are other numbers in the next run, so nobody can sign them.
    let maps = tools::project().join("elf/fixtures/maps.bpf.o").display().to_string();
    let maps = ["plan", "load", &maps, DEVICE, "--ingress", "maps"];
    for option in ["--insns", "--kernel-signatures"] {
        let line = [&maps[..], &[option, &dir]].concat();
        detour::run(ns, &line).refused(code::USAGE, &["maps by descriptors", "--fd-array"]);
    }
    detour::run(ns, &[&maps[..], &["--fd-array", "--insns", &dir]].concat()).done();
    assert!(scratch.path("tail.insns").exists() && scratch.path("maps.insns").exists());
}
