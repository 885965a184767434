// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The tree, its commit and its compiler to what `detour -V -v` prints. Reads only; the same tree gives the same lines.
use std::path::Path;
use std::process::Command;

/// What a program prints, if it is there and content.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_string()).filter(|text| !text.is_empty())
}

/// Below the root, what the program is made of: all that can make it another one than the commit's.
const MADE_OF: [&str; 10] = [
    "loader/src",
    "loader/sys",
    "loader/assets/link",
    "loader/build.rs",
    "loader/Cargo.toml",
    "elf",
    "scripts/deps.txt",
    "Cargo.toml",
    "Cargo.lock",
    ".cargo",
];

/// The commit that is checked out, with `-dirty` where what the program is made of differs from it. Only those paths are
/// asked about, because only those make this run again.
fn checked_out(root: &Path) -> Option<String> {
    let root = root.to_str()?;
    let commit = said("git", &["-C", root, "rev-parse", "HEAD"])?;
    let status = ["--no-optional-locks", "-C", root, "status", "--porcelain", "--untracked-files=no", "--"];
    // No answer is no promise either.
    let output = Command::new("git").args(status).args(MADE_OF).output().ok()?;
    let clean = output.status.success() && output.stdout.is_empty();
    Some(if clean { commit } else { format!("{commit}-dirty") })
}

/// How many there are, functions and implementations too, by the word and what follows; comments and tests aside.
fn unsafe_blocks(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| !path.to_string_lossy().ends_with("_tests.rs"));
    let text = files.filter_map(|path| std::fs::read_to_string(path).ok()).collect::<String>();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.filter(|line| ["{", "fn ", "impl "].iter().any(|of| line.contains(&format!("unsafe {of}")))).count()
}

/// Whether the C library that is linked in knows relocations of eight bytes for 63 (DT_RELR): 90 KB less to read at each
/// start. glibc does from 2.36 on; which one it is can only be asked where the program is built for this machine.
fn packs_relocations() -> bool {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let version = said("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_default();
    let numbers: Vec<u32> =
        version.trim_start_matches("glibc ").split('.').map_while(|n| n.parse().ok()).collect();
    variable("CARGO_CFG_TARGET_ENV") == "gnu"
        && variable("HOST") == variable("TARGET")
        && numbers >= vec![2, 36]
}

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|endian| endian == "big") {
        println!("cargo::error=big-endian hosts are not served: the objects, and what reads them, are little-endian");
        return;
    }
    // The functions of a load side by side: less memory, fewer page faults. Nothing depends on it.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-T");
        println!("cargo::rustc-link-arg-bins={}/assets/link/order.ld", env!("CARGO_MANIFEST_DIR"));
    }
    println!("cargo::rerun-if-changed=assets/link/order.ld");
    if packs_relocations() {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default();
    // A tree without git (a release) says which commit it is of.
    let stated = std::fs::read_to_string(root.join(".commit")).ok().map(|text| text.trim().to_string());
    // Only a release says it: otherwise each commit would build everything again.
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let asked = || Some(()).filter(|()| release).and_then(|()| checked_out(&root));
    let commit = stated.or_else(asked).unwrap_or_else(|| "not stated in this build".into());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let compiler = said(&rustc, &["--version"]).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=DETOUR_COMMIT={commit}");
    println!("cargo::rustc-env=DETOUR_RUSTC={compiler}");
    println!("cargo::rustc-env=DETOUR_TARGET={}", std::env::var("TARGET").unwrap_or_default());
    println!("cargo::rustc-env=DETOUR_UNSAFE={}", unsafe_blocks(&root.join("loader/sys/src")));
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=sys/src");
    println!("cargo::rerun-if-changed=../.commit");
    if let Some(head) = said("git", &["rev-parse", "--git-path", "logs/HEAD"]).filter(|_| release) {
        println!("cargo::rerun-if-changed={head}");
        for path in MADE_OF.iter().map(|path| root.join(path)).filter(|path| path.exists()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}
