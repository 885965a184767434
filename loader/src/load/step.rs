// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! One effect on the machine as a value: the call, what must come back, how it is undone.
//!
//! Numbers that exist only at run time are symbols: `%flows` is a descriptor that an earlier step gave, `?detour_in` the id
//! of a program that the kernel reported. Everything else in a step is fixed when it is planned.
use crate::load::home::by_id;
use crate::load::message::Message;
use crate::load::tc::{Place, Tc};
use crate::object::{Tags, Written};
use detour_sys::commands;
use detour_sys::Command;

/// Bytes for the kernel, with holes for numbers that are known only at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob {
    /// The bytes; a hole is zero here.
    pub bytes: Vec<u8>,
    /// Where each hole is; 4 bytes, host byte order.
    pub holes: Vec<Hole>,
    /// Which part of which file this is (`dnat.bpf.o/insns/detour_in`): such bytes are named in a plan, never carried.
    pub part: Option<String>,
}

/// Four bytes in a [`Blob`] that a symbol fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Offset in bytes.
    pub at: usize,
    /// `%descriptor` or `?id`.
    pub symbol: String,
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Blob {
        Blob { bytes, ..Blob::default() }
    }
}

/// An argument of a bpf(2) command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A number.
    Num(u64),
    /// Text: a name, a path, a licence.
    Text(String),
    /// The symbol of a descriptor.
    Fd(String),
    /// What a pointer leads to.
    Bytes(Blob),
    /// Room for the kernel's answer, in bytes.
    Room(usize),
    /// Room as large as the kernel's last answer in `log_true_size` said.
    LogRoom,
}

/// A bpf(2) call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bpf {
    /// Which command.
    pub command: &'static Command,
    /// Arguments by the kernel's field names, in the order of the command's table.
    pub args: Vec<(&'static str, Arg)>,
    /// The symbol that the call defines: its descriptor, for `OBJ_GET_INFO_BY_FD` the id, for `PROG_TEST_RUN` what the
    /// program returned.
    pub gives: Option<String>,
}

impl Bpf {
    /// A call; arguments are put into the table's order, so equal calls are equal values.
    pub fn new(command: &'static Command, mut args: Vec<(&'static str, Arg)>) -> Bpf {
        args.sort_by_key(|(name, _)| command.field(name).map(|f| f.at));
        Bpf { command, args, gives: None }
    }

    /// The same call, defining `symbol`.
    pub fn gives(mut self, symbol: impl Into<String>) -> Bpf {
        self.gives = Some(symbol.into());
        self
    }

    /// The argument with the kernel's name `name`.
    pub fn arg(&self, name: &str) -> Option<&Arg> {
        self.args.iter().find(|(n, _)| *n == name).map(|(_, arg)| arg)
    }
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// bpf(2).
    Bpf(Bpf),
    /// A message to rtnetlink; where it needs a descriptor it holds the symbol.
    Netlink(Message),
    /// mmap(2) of the pages of a map's element 0 that hold some bytes, a store to those, munmap(2).
    Store(Store),
    /// mkdir(2) with mode 0700.
    Mkdir(String),
    /// open(2) of a folder, for its descriptor.
    OpenDir {
        /// Its path.
        path: String,
        /// The symbol that it defines.
        gives: String,
    },
    /// rmdir(2).
    Rmdir(String),
    /// unlink(2).
    Unlink(String),
    /// rename(2).
    Rename {
        /// The old name.
        from: String,
        /// The new one.
        to: String,
    },
    /// renameat2(2) with RENAME_EXCHANGE: each gets the other's name, in one step.
    Exchange {
        /// A path.
        one: String,
        /// Another.
        other: String,
    },
    /// mount(2) of a fresh bpffs, mode 0700.
    MountBpffs(String),
    /// umount2(2).
    Unmount(String),
    /// setrlimit(2) of RLIMIT_MEMLOCK to infinity: before Linux 5.11 maps are charged to it.
    Memlock,
}

/// Bits of a map's element 0 that change while all others stay as programs make them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The symbol of the map's descriptor.
    pub map: String,
    /// Which.
    pub written: Written,
}

/// What a step's answer must show; anything else is a failure and is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// `OBJ_GET_INFO_BY_FD` reports this tag.
    Tag(Tags),
    /// `MAP_DELETE_ELEM` finds the element.
    Element,
    /// The echo of a filter shows our place, direct-action, this program id and tag.
    Filter {
        /// Where it must sit.
        place: Place,
        /// The symbol of the program's id.
        id: String,
        /// Its tag.
        tags: Tags,
    },
}

/// An effect together with everything that may follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub effect: Effect,
    /// What must come back.
    pub expect: Option<Expect>,
    /// What takes it back when a later step fails.
    pub undo: Option<Effect>,
    /// When the kernel calls a bpf call invalid (EINVAL): this one in its place.
    pub instead: Option<Bpf>,
    /// When a bpf call fails: the same call again with these arguments in addition, one after the other, to hear why.
    pub on_failure: Vec<Vec<(&'static str, Arg)>>,
    /// How often the call is made again when a signal interrupted it (EAGAIN).
    pub again: u8,
}

impl From<Effect> for Step {
    fn from(effect: Effect) -> Step {
        Step { effect, expect: None, undo: None, instead: None, on_failure: Vec::new(), again: 0 }
    }
}

impl From<Bpf> for Step {
    fn from(call: Bpf) -> Step {
        Effect::Bpf(call).into()
    }
}

impl Step {
    /// The same step, undone by `undo`.
    pub fn undo(mut self, undo: Effect) -> Step {
        self.undo = Some(undo);
        self
    }

    /// The same step, whose answer must show `expect`.
    pub fn expect(mut self, expect: Expect) -> Step {
        self.expect = Some(expect);
        self
    }

    /// A program load: on failure the verifier is heard in two more calls, first for the size of its log (Linux 6.4), then
    /// for the log. `bpf_prog_load()` answers EAGAIN when a signal is pending.
    pub fn prog_load(call: Bpf) -> Step {
        let ask = vec![("log_level", Arg::Num(1)), ("log_true_size", Arg::Num(0))];
        let hear = vec![("log_buf", Arg::LogRoom), ("log_level", Arg::Num(1))];
        Step { on_failure: vec![ask, hear], again: 5, ..Step::from(call) }
    }

    /// mkdir(2), undone by rmdir(2).
    pub fn mkdir(path: String) -> Step {
        Step::from(Effect::Mkdir(path.clone())).undo(Effect::Rmdir(path))
    }

    /// `OBJ_PIN`, undone by unlink(2).
    pub fn pin(symbol: &str, path: String) -> Step {
        let args = vec![("pathname", Arg::Text(path.clone())), ("bpf_fd", Arg::Fd(symbol.to_string()))];
        Step::from(Bpf::new(&commands::OBJ_PIN, args)).undo(Effect::Unlink(path))
    }

    /// Opens a pin, or by its id what has none.
    pub fn get(path: String, symbol: &str) -> Step {
        let call = match by_id(&path) {
            None => Bpf::new(&commands::OBJ_GET, vec![("pathname", Arg::Text(path))]),
            Some((true, id)) => {
                Bpf::new(&commands::PROG_GET_FD_BY_ID, vec![("prog_id", Arg::Num(id.into()))])
            }
            Some((false, id)) => Bpf::new(&commands::MAP_GET_FD_BY_ID, vec![("map_id", Arg::Num(id.into()))]),
        };
        call.gives(symbol).into()
    }

    /// A filter at a place that is free, undone by removing it.
    pub fn filter(place: Place, program: &str, name: String, tags: Tags) -> Step {
        let (program, id) = (format!("%{program}"), format!("?{program}"));
        Step::from(Effect::Netlink(Tc::FilterAdd { place, program, name }.message()))
            .undo(Effect::Netlink(Tc::FilterDel { place }.message()))
            .expect(Expect::Filter { place, id, tags })
    }

    /// rename(2), undone by renaming back.
    pub fn rename(from: String, to: String) -> Step {
        let back = Effect::Rename { from: to.clone(), to: from.clone() };
        Step::from(Effect::Rename { from, to }).undo(back)
    }

    /// `MAP_UPDATE_ELEM` through the descriptor `map`.
    pub fn update(map: &str, key: Vec<u8>, value: Blob) -> Step {
        let args = vec![
            ("map_fd", Arg::Fd(map.to_string())),
            ("key", Arg::Bytes(key.into())),
            ("value", Arg::Bytes(value)),
        ];
        Bpf::new(&commands::MAP_UPDATE_ELEM, args).into()
    }

    /// `MAP_DELETE_ELEM` through the descriptor `map`, of an element that must be there.
    pub fn delete(map: &str, key: Vec<u8>) -> Step {
        let args = vec![("map_fd", Arg::Fd(map.to_string())), ("key", Arg::Bytes(key.into()))];
        Step::from(Bpf::new(&commands::MAP_DELETE_ELEM, args)).expect(Expect::Element)
    }

    /// A store to a variable, through the descriptor `map` (Linux 5.5): what programs change beside it meanwhile is not lost.
    ///
    /// ```no_run
    /// use detour::load::{exec, gather::open_map, netlink::Socket, plan::Plan, step::Step, types};
    /// use detour::ui::value::part;
    /// use std::os::fd::AsFd;
    ///
    /// // The section .bss of the instance `it`, with the types that the kernel keeps.
    /// let pin = "/sys/fs/bpf/detour/4026531840-3/it/map__bss";
    /// let map = open_map(pin)?;
    /// let types = types::of_map(map.as_fd())?.ok_or("it was made without types")?;
    /// let limits = types.btf.place(types.value, "limits[1].packets")?;
    /// let value = map.lookup(&[0; 4])?.ok_or("an array has all of its elements")?;
    /// println!("it is {}", part(&types.btf, &limits, &value).text());
    ///
    /// let written = types.btf.write(&limits, "1000")?;
    /// let steps = vec![Step::get(pin.into(), "%map"), Step::store("%map", written)];
    /// exec::run(&Plan { steps, notes: Vec::new() }, &mut Socket::open()?, &mut |_| {})
    ///     .map_err(|failure| format!("{failure:?}"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn store(map: &str, written: Written) -> Step {
        Effect::Store(Store { map: map.to_string(), written }).into()
    }
}
