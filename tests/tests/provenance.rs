// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What a program and its bill of materials say of where they come from, against git, the lock file, and the files themselves.
use e2e::detour;
use e2e::tools::{project, Scratch};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a program prints; it has to end well.
fn said(folder: &Path, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let output = Command::new(program.as_ref()).args(arguments).current_dir(folder).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} {arguments:?}: {error}", program.as_ref());
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// A tree of the project's form with loader/build.rs compiled for it.
struct Tree {
    scratch: Scratch,
    script: PathBuf,
}

impl Tree {
    fn new() -> Tree {
        let scratch = Scratch::new();
        let root = scratch.path("tree");
        for folder in ["loader/src", "loader/sys/src", "elf", "scripts", ".cargo"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let script = scratch.path("script");
        let compile = Command::new("rustc")
            .args(["--edition", "2021", "-o"])
            .args([&script, &project().join("loader/build.rs")])
            .env("CARGO_MANIFEST_DIR", root.join("loader"))
            .status();
        assert!(compile.unwrap().success());
        let tree = Tree { scratch, script };
        for (file, text) in [
            ("README.md", "words\n"),
            ("Cargo.lock", "\n"),
            ("loader/build.rs", "\n"),
            ("loader/src/main.rs", "fn main() {}\n"),
            ("loader/sys/src/call.rs", "// @ {\nlet a = @ {\nlet b = @ {\n"),
            ("elf/MANIFEST", "\n"),
        ] {
            tree.write(file, &text.replace('@', "unsafe"));
        }
        tree
    }

    fn root(&self) -> PathBuf {
        self.scratch.path("tree")
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.root().join(file), text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
        said(&self.root(), "git", &[&who[..], arguments].concat())
    }

    /// What cargo is told, for a build with this profile on a host of this byte order.
    fn told(&self, profile: &str, endian: &str) -> String {
        let mut command = Command::new(&self.script);
        command.env("PROFILE", profile).env("CARGO_CFG_TARGET_ENDIAN", endian).env("TARGET", "here");
        let output = command.current_dir(self.root().join("loader")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn commit(&self, profile: &str) -> String {
        let told = self.told(profile, "little");
        let line = told.lines().find_map(|line| line.strip_prefix("cargo::rustc-env=DETOUR_COMMIT="));
        line.expect("it says a commit").to_owned()
    }
}

#[test]
fn a_commit_is_said_and_whether_the_tree_is_another() {
    const UNSTATED: &str = "not stated in this build";
    let tree = Tree::new();
    assert_eq!(tree.commit("release"), UNSTATED, "no git");
    tree.git(&["init", "-q"]);
    assert_eq!(tree.commit("release"), UNSTATED, "no commit");
    tree.git(&["add", "."]);
    tree.git(&["commit", "-q", "-m", "one"]);
    let head = tree.git(&["rev-parse", "HEAD"]);
    assert_eq!(tree.commit("release"), head);
    assert_eq!(tree.commit("debug"), UNSTATED);
    assert_eq!(
        tree.told("release", "little"),
        tree.told("release", "little"),
        "the same tree, the same lines"
    );
    // Everything that a program is made of, changed, taken away, changed and staged.
    for file in
        ["loader/src/main.rs", "loader/sys/src/call.rs", "elf/MANIFEST", "Cargo.lock", "loader/build.rs"]
    {
        tree.write(file, "other\n");
        assert_eq!(tree.commit("release"), format!("{head}-dirty"), "{file}");
        tree.git(&["add", file]);
        assert_eq!(tree.commit("release"), format!("{head}-dirty"), "{file}");
        tree.git(&["rm", "-q", "-f", file]);
        assert_eq!(tree.commit("release"), format!("{head}-dirty"), "{file}");
        tree.git(&["reset", "-q", "--hard"]);
        assert_eq!(tree.commit("release"), head, "{file}");
    }
    // What is not in a program does not make it another, and does not make the script run again.
    tree.write("README.md", "other words\n");
    tree.write("loader/src/stray.rs", "nobody reads it\n");
    assert_eq!(tree.commit("release"), head);
    // What it asks about is what it is run again for.
    let told = tree.told("release", "little");
    let again: BTreeSet<&Path> = told
        .lines()
        .filter_map(|line| line.strip_prefix("cargo::rerun-if-changed="))
        .map(|path| path.strip_prefix(tree.root().to_str().unwrap()).unwrap_or(path))
        .map(|path| Path::new(path.trim_start_matches('/')))
        .collect();
    for path in ["loader/src", "loader/sys", "elf", "Cargo.lock", "loader/build.rs", ".cargo"] {
        assert!(again.contains(Path::new(path)), "{path}: {again:?}");
    }
    tree.git(&["add", "loader"]);
    assert_eq!(tree.commit("release"), format!("{head}-dirty"));
    tree.git(&["commit", "-q", "-m", "two"]);
    assert_eq!(tree.commit("release"), tree.git(&["rev-parse", "HEAD"]));
    // An archive says it itself.
    tree.write(".commit", "0123\n");
    assert_eq!((tree.commit("release"), tree.commit("debug")), ("0123".into(), "0123".into()));
    assert!(tree.told("release", "little").contains("cargo::rustc-env=DETOUR_UNSAFE=2\n"));
}

#[test]
fn hosts_of_the_other_byte_order_are_refused_by_name() {
    let told = Tree::new().told("release", "big");
    assert!(told.starts_with("cargo::error=big-endian hosts are not served"), "{told}");
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let mut dist = Command::new(project().join("scripts/dist"));
    for target in ["s390x-unknown-linux-gnu", "powerpc64-unknown-linux-gnu"] {
        let output = dist.arg(&out).env("TARGETS", target).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(target), "{error}");
        assert!(error.contains("big-endian") && !out.exists(), "{error}");
    }
}

/// Name and version of each crate, and its checksum, from the lock file.
fn locked() -> BTreeMap<(String, String), String> {
    let text = std::fs::read_to_string(project().join("Cargo.lock")).unwrap();
    let value = |block: &str, key: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \""));
        line.map(|line| line.trim_end_matches('"').to_owned())
    };
    let packages = text.split("[[package]]").skip(1);
    let package =
        |block: &str| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?));
    packages.filter_map(package).collect()
}

/// Name and version of each crate that is linked.
fn linked() -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(project().join("scripts/deps.txt")).unwrap();
    let words = text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace());
    words.filter_map(|mut words| Some((words.next()?.to_owned(), words.next()?.to_owned()))).collect()
}

fn sha256(file: &Path) -> String {
    said(Path::new("/"), "sha256sum", &[file.to_str().unwrap()])[..64].to_owned()
}

/// The objects that are in the program by file name; abi.bpf.o is types for a test.
fn objects() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(project().join("elf")).unwrap().map(|entry| entry.unwrap().path());
    let named =
        files.filter(|file| file.extension().is_some_and(|end| end == "o") && !file.ends_with("abi.bpf.o"));
    named.map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), sha256(&file))).collect()
}

#[test]
fn the_long_version_is_complete() {
    let text = said(Path::new("/"), detour::path(), &["-V", "-v"]);
    let rows = |key: &str| -> Vec<&str> {
        let mine = text.lines().filter_map(|line| line.split_once(' ').filter(|(name, _)| *name == key));
        mine.map(|(_, rest)| rest.trim_start()).collect()
    };
    let commit = rows("commit")[0];
    let hash = commit.strip_suffix("-dirty").unwrap_or(commit);
    let is_hash = hash.len() == 40 && hash.chars().all(|c| c.is_ascii_hexdigit());
    assert!(is_hash || commit == "not stated in this build", "{text}");
    assert_eq!(rows("compiler"), [said(project(), "rustc", &["--version"])]);
    let counted = said(project(), project().join("scripts/check-unsafe"), &[]);
    let unsafe_uses = counted.lines().find_map(|line| line.strip_prefix("check-unsafe: ")).unwrap();
    let number = |text: &str| text.split(' ').next().unwrap().to_owned();
    assert_eq!(number(rows("unsafe")[0]), number(unsafe_uses));
    let features = std::fs::read_to_string(project().join("loader/Cargo.toml")).unwrap();
    let default = features.lines().find_map(|line| line.strip_prefix("default = ")).unwrap();
    let wanted: BTreeSet<&str> = default.split('"').skip(1).step_by(2).collect();
    assert_eq!(rows("features")[0].split(' ').collect::<BTreeSet<_>>(), wanted);
    let named = |rows: Vec<&str>| -> BTreeMap<String, String> {
        rows.iter().map(|row| row.split_once(' ').map(|(sum, of)| (of.into(), sum.into())).unwrap()).collect()
    };
    assert_eq!(named(rows("object")), objects());
    let (linked, locked) = (linked(), locked());
    let ours = |(name, version): &(String, String)| {
        (format!("{name} {version}"), locked[&(name.clone(), version.clone())].clone())
    };
    assert!(linked.len() > 20);
    // The document says the same as the lines.
    let document = said(Path::new("/"), detour::path(), &["-j", "-v", "-V"]);
    let document: Value = serde_json::from_str(&document).unwrap();
    for key in ["commit", "compiler", "target"] {
        assert_eq!(document[key], rows(key)[0]);
    }
    assert_eq!(document["schema"], "detour.version/1");
    assert_eq!(document["unsafe_blocks"].to_string(), number(unsafe_uses));
    let of = |list: &str| document[list].as_array().unwrap().clone();
    let word = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
    assert_eq!(of("features").iter().map(|f| f.as_str().unwrap()).collect::<BTreeSet<_>>(), wanted);
    let files =
        of("objects").iter().map(|o| (word(o, "file"), word(o, "sha256"))).collect::<BTreeMap<_, _>>();
    assert_eq!(files, objects());
    let crates = of("crates")
        .into_iter()
        .map(|c| (format!("{} {}", word(&c, "name"), word(&c, "version")), word(&c, "sha256")));
    assert_eq!(crates.collect::<BTreeMap<_, _>>(), named(rows("crate")));
    assert_eq!(named(rows("crate")), linked.iter().map(ours).collect());
}

#[test]
fn the_bill_of_materials_is_valid_and_true() {
    let bill = || said(project(), project().join("scripts/sbom"), &[]);
    let text = bill();
    assert_eq!(text, bill());
    let scratch = Scratch::new();
    let file = scratch.write("bill.json", &text);
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project().join("target"), PathBuf::from);
    let python = target.join("cyclonedx/bin/python");
    assert!(python.exists(), "{}: scripts/test makes it", python.display());
    let valid = "import sys\n\
        from cyclonedx.schema import SchemaVersion\n\
        from cyclonedx.validation.json import JsonStrictValidator\n\
        print(JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read()))";
    assert_eq!(said(project(), &python, &["-c", valid, &file]), "None");
    // The validator says more than that when there is more to say.
    let broken = scratch.write("broken.json", text.replace("SHA-256", "SHA-257"));
    assert!(said(project(), &python, &["-c", valid, &broken]).contains("SHA-257"));

    let bill: Value = serde_json::from_str(&text).unwrap();
    let components = bill["components"].as_array().unwrap();
    let field = |of: &Value, name: &str| of[name].as_str().unwrap_or_default().to_owned();
    let sum = |of: &Value| field(&of["hashes"][0], "content");
    let crates: BTreeMap<(String, String), String> = components
        .iter()
        .filter(|one| field(one, "purl").starts_with("pkg:cargo/"))
        .map(|one| ((field(one, "name"), field(one, "version")), sum(one)))
        .collect();
    let mut expected = locked();
    expected.retain(|package, _| linked().contains(package));
    assert_eq!(crates, expected);
    let firmware = components.iter().filter(|one| one["type"] == "firmware");
    let firmware: BTreeMap<String, String> = firmware.map(|one| (field(one, "name"), sum(one))).collect();
    assert_eq!(firmware, objects());
    // What is linked beside the crates: the files that the linker takes.
    let of = |group: &str, name: &str| {
        let found = components.iter().find(|one| one["group"] == group && one["name"] == name);
        found.unwrap_or_else(|| panic!("no {group} {name}"))
    };
    for (name, archive) in [("glibc", "libc.a"), ("libgcc", "libgcc.a"), ("libgcc_eh", "libgcc_eh.a")] {
        let path = said(project(), "gcc", &[&format!("-print-file-name={archive}")]);
        assert_eq!(sum(of("c", name)), sha256(Path::new(&path)), "{name}");
    }
    let package = said(project(), "dpkg-query", &["-W", "-f", "${Version}", "libc6-dev"]);
    assert_eq!(field(of("c", "glibc"), "version"), package);
    let verbose = said(project(), "rustc", &["-vV"]);
    let of_rustc = |key: &str| verbose.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    let standard = of("rust", "std");
    assert_eq!(field(standard, "version"), of_rustc("release: "));
    let properties = standard["properties"].as_array().unwrap();
    assert!(properties.iter().any(|p| p["value"] == of_rustc("commit-hash: ").as_str()), "{standard}");
    let libraries = said(project(), "rustc", &["--print", "target-libdir"]);
    let rlib = std::fs::read_dir(libraries).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    });
    assert_eq!(sum(standard), sha256(&rlib.unwrap()));
    let tools = bill["metadata"]["tools"]["components"].as_array().unwrap();
    let manifest = std::fs::read_to_string(project().join("elf/MANIFEST")).unwrap();
    let clang = manifest.lines().find_map(|line| line.strip_prefix("compiler: ")).unwrap();
    let described: Vec<String> = tools.iter().map(|tool| field(tool, "description")).collect();
    assert_eq!(described, [said(project(), "rustc", &["--version"]), clang.to_owned()]);
    // Everything is a dependency of the program.
    let on = bill["dependencies"][0]["dependsOn"].as_array().unwrap();
    assert_eq!(on.len(), components.len());
}
