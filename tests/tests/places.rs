// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Where a confined `run` can still change files: beside its own, and nowhere else, by trying it.
use ::detour::load::allowed::{DOWN, GROWS, METRICS, RUN};
use ::detour::load::confine::confine;
use ::detour::load::places::Places;
use e2e::lab::Lab;
use e2e::service::Service;
use e2e::tools::Scratch;
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// The folders and files of a try: what `run` was started for, and what is somebody else's.
struct Ground(std::path::PathBuf);

impl Ground {
    fn lay(scratch: &Scratch) -> Ground {
        for folder in ["metrics", "logs", "moved", "others", "pins/folder"] {
            fs::create_dir_all(scratch.path(folder)).unwrap();
        }
        for file in [
            "metrics/a.prom",
            "metrics/old",
            "logs/events",
            "others/file",
            "others/third",
            "pins/pin",
            "moved/events",
        ] {
            scratch.write(file, "before\n");
        }
        symlink(scratch.path("moved/events"), scratch.path("logs/link")).unwrap();
        symlink(scratch.path("others/file"), scratch.path("metrics/way-out")).unwrap();
        Ground(scratch.path(""))
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

fn new(path: &Path) -> io::Result<()> {
    File::options().write(true).create_new(true).open(path).map(drop)
}

fn append(path: &Path) -> io::Result<()> {
    File::options().append(true).create(true).open(path).map(drop)
}

/// A change, and whether it is one that `run` makes.
type Attempt = (&'static str, bool, fn(&Ground) -> io::Result<()>);
const ATTEMPTS: [Attempt; 16] = [
    ("a new file beside the metrics", true, |g| new(&g.at("metrics/.a.prom.new"))),
    ("which takes their name", true, |g| fs::rename(g.at("metrics/.a.prom.new"), g.at("metrics/a.prom"))),
    ("an old one that is in the way", true, |g| fs::remove_file(g.at("metrics/old"))),
    ("another line of events", true, |g| append(&g.at("logs/events"))),
    ("a new file of events", true, |g| append(&g.at("logs/events.new"))),
    ("events where a link led to at the start", true, |g| append(&g.at("logs/link"))),
    ("a pin goes", true, |g| fs::remove_file(g.at("pins/pin"))),
    ("a folder of pins goes", true, |g| fs::remove_dir(g.at("pins/folder"))),
    ("a new file elsewhere", false, |g| new(&g.at("others/new"))),
    ("a line elsewhere", false, |g| append(&g.at("others/file"))),
    ("a line by a link that leads out", false, |g| append(&g.at("metrics/way-out"))),
    ("a file is moved out", false, |g| fs::rename(g.at("metrics/a.prom"), g.at("others/a.prom"))),
    ("a file is moved in", false, |g| fs::rename(g.at("others/file"), g.at("metrics/file"))),
    ("a file goes elsewhere", false, |g| fs::remove_file(g.at("others/third"))),
    ("a new file among the pins", false, |g| new(&g.at("pins/new"))),
    ("events go", false, |g| fs::remove_file(g.at("logs/events"))),
];

/// This test runs itself: confined, it does what it may and is refused the rest; free, it can do all of it.
#[test]
fn beside_its_files_and_nowhere_else() {
    if let Ok(ground) = std::env::var("DETOUR_GROUND") {
        let (confined, ground) = (std::env::var_os("DETOUR_FREE").is_none(), Ground(ground.into()));
        if confined {
            let mut places = Places::default();
            places.replaces(ground.at("metrics/a.prom").to_str().unwrap());
            places.appends(ground.at("logs/link").to_str().unwrap());
            places.clears(ground.at("pins").to_str().unwrap());
            confine(RUN | METRICS | GROWS | DOWN, (6, 18), &places).unwrap();
        }
        for (what, allowed, attempt) in ATTEMPTS {
            let done = attempt(&ground);
            match (confined, allowed, &done) {
                (true, false, Err(e)) => {
                    let errors = [nix::libc::EACCES, nix::libc::EXDEV].map(Some);
                    assert!(errors.contains(&e.raw_os_error()), "{what}: {e}");
                }
                (true, false, Ok(())) => panic!("{what}: it could"),
                _ => assert!(done.is_ok(), "{what}: {done:?}"),
            }
        }
        // What comes after a test is not among the calls of `run`.
        std::process::exit(0);
    }
    for free in [true, false] {
        let scratch = Scratch::new();
        let ground = Ground::lay(&scratch);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "beside_its_files_and_nowhere_else", "--nocapture"])
            .env("DETOUR_GROUND", &ground.0);
        if free {
            command.env("DETOUR_FREE", "1");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "free {free}: {output:?}");
    }
}

/// The program itself: a link that comes later leads out of the folder, and `run` goes on with the file that it has.
#[test]
fn a_link_that_comes_later_leads_nowhere() {
    let lab = Lab::new();
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("logs")).unwrap();
    let (events, elsewhere) = (scratch.path("logs/events"), scratch.write("elsewhere", "before\n"));
    let more = ["--events", events.to_str().unwrap()];
    let mut service = Service::start(&lab.gateway, &lab.device, "udp redirect to :1001\n", &more);
    service.logs(&format!("changes files in {}", scratch.path("logs").display()));
    fs::rename(&events, scratch.path("logs/old")).unwrap();
    symlink(&elsewhere, &events).unwrap();
    service.signal(Signal::SIGHUP);
    service.says("RELOADING=1");
    service.says("READY=1");
    service.logs("events cannot be written: Permission denied");
    service.signal(Signal::SIGTERM);
    service.ends();
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "before\n");
}
