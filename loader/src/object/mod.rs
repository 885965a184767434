// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! ELF bytes to an [`Object`]: linked programs, map shapes, data and types. Pure: the same bytes give the same value everywhere.
//!
//! Nothing here asks the kernel, the clock or a file. Input is untrusted: every access is checked, what is allocated is
//! bounded by the input's size or by a constant, and what is not understood is an error that says where.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod body;
mod btf;
mod btf_ext;
mod btf_fixup;
#[cfg(feature = "compat")]
mod btf_plain;
mod btf_type;
mod data;
mod difference;
mod digest;
mod disasm;
mod elf;
mod error;
mod externs;
#[cfg(feature = "compat")]
mod foreign;
mod functions;
#[cfg(test)]
mod gcc_tests;
mod helpers;
mod insn;
pub mod isa;
#[cfg(feature = "compat")]
mod legacy;
mod license;
mod link;
mod listing;
mod maps;
mod parse;
mod place;
#[cfg(feature = "compat")]
mod resize;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod sample_types;
mod set;
mod slots;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod type_tests;
mod words;

pub use btf::Btf;
pub use btf_type::{Array, IntEncoding, Kind, Member, Param, Placed, Type};
pub(crate) use data::flags as data_flags;
pub use data::{Variable, BPF_F_MMAPABLE};
pub use digest::{sha256, Tags};
pub use error::ObjectError;
pub use externs::{Extern, Origin};
#[cfg(feature = "compat")]
pub use foreign::{Foreign, Function};
pub use helpers::helper;
pub use insn::{Insn, CALL};
pub use listing::{Line, Source};
pub use place::Place;
pub use set::Written;

/// Everything an ELF object says, linked and checked, before any kernel is asked.
#[derive(Clone, Debug)]
pub struct Object {
    /// SHA-256 of the whole file.
    pub sha256: [u8; 32],
    /// The `license` section up to its first NUL; empty when there is none, and then the kernel counts it as not GPL.
    pub license: String,
    /// The programs in file order (section, then offset).
    pub programs: Vec<Program>,
    /// `.maps` definitions in file order, then the data sections that a program refers to.
    pub maps: Vec<MapSpec>,
    /// The types, with the fix-ups the kernel wants already made; `None` for an object built without `-g`.
    pub btf: Option<Btf>,
    /// The global variables of the data maps.
    pub variables: Vec<Variable>,
    /// What the kernel shall provide; empty again once it has (`compat::resolve`).
    pub externs: Vec<Extern>,
    /// Modules whose functions are called, in the order in which calls name them (`off`, from 1); see [`Program::modules`].
    pub modules: Vec<Module>,
    /// What is odd but not wrong, one sentence each.
    pub warnings: Vec<String>,
}

/// One entry program with every subprogram it can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The C function's name, in full (the kernel keeps 15 bytes).
    pub name: String,
    /// The ELF section's name as written, `?` included.
    pub section: String,
    /// What the section's name makes of it.
    pub kind: ProgramKind,
    /// False when the section's name starts with `?`: loaded only when named.
    pub autoload: bool,
    /// The entry first, then the reachable subprograms in the order in which they are first called; calls are resolved.
    pub insns: Vec<Insn>,
    /// The `ld_imm64` that name a map, by rising instruction.
    pub refs: Vec<MapRef>,
    /// Where each function starts, entry first: for listings and messages.
    pub labels: Vec<Label>,
    /// `func_info` for BPF_PROG_LOAD: all functions or none.
    pub funcs: Vec<FuncInfo>,
    /// `line_info` for BPF_PROG_LOAD, strictly rising; all functions or none.
    pub lines: Vec<LineInfo>,
    /// CO-RE relocations by rising instruction; empty again once they are made (`compat::resolve`).
    pub core: Vec<CoreRelo>,
    /// The instructions that name an extern; empty again once they are filled.
    pub externs: Vec<ExternRef>,
    /// Instructions made invalid on purpose, since what they need does not exist in the kernel, and what that is: the
    /// verifier refuses those that can run, and only those.
    pub poisoned: Vec<(usize, String)>,
    /// Why this one cannot be loaded, though the object is sound; `insns` is empty then. Never with `SchedCls` and `autoload`.
    pub defect: Option<ObjectError>,
}

/// A module of the kernel, with types of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// As in /sys/kernel/btf.
    pub name: String,
    /// The id of its types in this kernel, which only lives as long as the module is in; 0 while nobody has asked for it.
    pub btf_id: u32,
}

/// What a section's name says about the programs in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramKind {
    /// `BPF_PROG_TYPE_SCHED_CLS`: `classifier`, `tc`, `action`, each also with `/…`, and `tcx/…`, `netkit/…`.
    SchedCls,
    /// Any other executable section: listed, never loaded unless named.
    Unknown,
}

/// An instruction whose `imm` becomes a map's file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRef {
    /// Index in [`Program::insns`] of the first half of the `ld_imm64`; its `src_reg` is already set.
    pub insn: usize,
    /// Index in [`Object::maps`].
    pub map: usize,
    /// `Some`: the address of this byte of the value (BPF_PSEUDO_MAP_VALUE, already in the second half's `imm`);
    /// `None`: the map itself (BPF_PSEUDO_MAP_FD).
    pub offset: Option<u32>,
}

/// `struct bpf_core_relo` (include/uapi/linux/bpf.h): a constant that depends on the layout of a kernel type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreRelo {
    /// Index in [`Program::insns`].
    pub insn: usize,
    /// BTF id of the type that the access starts from.
    pub type_id: u32,
    /// Offset in the BTF strings of the path, such as `0:1:2`.
    pub access_off: u32,
    /// `enum bpf_core_relo_kind`.
    pub kind: u32,
}

/// An instruction that names an extern: an `ld_imm64`, or the call of a kernel function (`src_reg` is already set).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternRef {
    /// Index in [`Program::insns`].
    pub insn: usize,
    /// Index in [`Object::externs`].
    pub wanted: usize,
}

/// The first instruction of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Index in [`Program::insns`].
    pub insn: usize,
    /// The function's ELF symbol.
    pub name: String,
}

/// `struct bpf_func_info` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// In instructions, not bytes.
    pub insn: u32,
    /// BTF id of the FUNC.
    pub type_id: u32,
}

/// `struct bpf_line_info` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// In instructions, not bytes.
    pub insn: u32,
    /// Offset of the file's name in the BTF strings.
    pub file_off: u32,
    /// Offset of the line's text in the BTF strings.
    pub line_off: u32,
    /// `line << 10 | column`.
    pub line_col: u32,
}

/// What BPF_MAP_CREATE and what follows it need to know of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSpec {
    /// The C variable, or the section (`.rodata`) for data.
    pub name: String,
    /// At most 15 bytes of `[A-Za-z0-9_.]`: a section's name without its leading dot (`rodata`), others cut short.
    pub kernel_name: String,
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// As defined: a ring buffer's size and a perf array's CPUs are for the loader to adapt.
    pub max_entries: u32,
    /// `map_flags`; read-only data has BPF_F_RDONLY_PROG, data with a variable that is not static BPF_F_MMAPABLE.
    pub flags: u32,
    /// `map_extra`.
    pub map_extra: u64,
    /// `numa_node`, which the kernel heeds when `flags` has BPF_F_NUMA_NODE.
    pub numa_node: Option<u32>,
    /// LIBBPF_PIN_NONE 0 or LIBBPF_PIN_BY_NAME 1.
    pub pinning: u32,
    /// BTF id, 0 when there is none.
    pub key_type_id: u32,
    /// BTF id, as for the key; for data the DATASEC.
    pub value_type_id: u32,
    /// Whether the kernel is told no types, as it would refuse such a map with them.
    pub types_withheld: bool,
    /// The template of a map of maps.
    pub inner: Option<Box<MapSpec>>,
    /// Statically filled slots of a map of maps or a program array: index and what belongs there.
    pub slots: Vec<(u32, Slot)>,
    /// Data: the bytes of element 0; `None` leaves the kernel's zeros (`.bss`, and every map that is not data).
    pub contents: Option<Vec<u8>>,
    /// To be frozen (BPF_MAP_FREEZE) once filled, before any program is loaded.
    pub frozen: bool,
}

/// What a static slot holds, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A map of this object.
    Map(String),
    /// A program of this object.
    Program(String),
}

impl Program {
    /// Marks it as one that cannot be loaded.
    #[cfg(feature = "compat")]
    pub(crate) fn give_up(&mut self, why: ObjectError) {
        self.insns.clear();
        self.refs.clear();
        self.labels.clear();
        (self.funcs, self.lines) = (Vec::new(), Vec::new());
        (self.core, self.externs, self.poisoned) = (Vec::new(), Vec::new(), Vec::new());
        self.defect = Some(why);
    }

    /// The maps it refers to, by rising index, each once.
    pub fn maps(&self) -> Vec<usize> {
        let maps: std::collections::BTreeSet<usize> = self.refs.iter().map(|r| r.map).collect();
        maps.into_iter().collect()
    }

    /// Whether it calls functions of modules: `off` says of which, an index of BPF_PROG_LOAD's `fd_array`.
    pub fn modules(&self) -> bool {
        self.insns.iter().any(|i| i.code == CALL && i.src() == insn::PSEUDO_KFUNC_CALL && i.off != 0)
    }

    /// For tc, and not marked to be left out.
    pub fn loads_by_itself(&self) -> bool {
        self.kind == ProgramKind::SchedCls && self.autoload
    }
}

impl Object {
    /// Reads, checks and links a whole object.
    ///
    /// ```
    /// let object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/maps.bpf.o")?)?;
    /// let program = object.programs.iter().find(|program| program.loads_by_itself()).expect("one is for tc");
    /// // What the kernel will show for it, and the C lines of its instructions.
    /// println!("{:02x?}, {:?}", program.tags().sha256, object.source(program, 0));
    /// assert!(program.maps().iter().all(|map| *map < object.maps.len()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Anything that is not a well-formed little-endian BPF object, or that would need a guess.
    pub fn parse(bytes: &[u8]) -> Result<Object, ObjectError> {
        parse::parse(bytes, maps::refuse_old)
    }

    /// The same, and map definitions in sections `maps` and `maps/…` are read: libbpf's `struct bpf_map_def` and iproute2's
    /// `struct bpf_elf_map`, with its inner maps, its pins and its programs in sections `ID/INDEX`.
    ///
    /// ```
    /// let bytes = std::fs::read("../elf/fixtures/legacy_iproute2.bpf.o")?;
    /// assert!(detour::object::Object::parse(&bytes).is_err());
    /// assert!(!detour::object::Object::parse_legacy(&bytes)?.maps.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Object::parse`], and a definition that could be of either form, or of neither.
    #[cfg(feature = "compat")]
    pub fn parse_legacy(bytes: &[u8]) -> Result<Object, ObjectError> {
        parse::parse(bytes, legacy::definitions)
    }

    /// Sets one variable, or a part of it: `VAR[.FIELD][[N]]=VALUE`, checked against its BTF type.
    ///
    /// VALUE is a number (decimal, `0x…`, negative), `true`/`false`, an enumerator, `"text"` in its quotes for an array
    /// of char, or `hex:…` (the bytes as they lie in memory) for anything.
    ///
    /// ```
    /// let mut object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/globals.bpf.o")?)?;
    /// object.set("name=\"somebody\"")?;
    /// object.set("pairs[1].high=0x2a")?;
    /// assert!(object.set("no_such_variable=1").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// No such variable or field (the candidates are named), or a value that does not fit.
    pub fn set(&mut self, assignment: &str) -> Result<(), ObjectError> {
        set::set(assignment, self.btf.as_ref(), &self.variables, &mut self.maps)
    }

    /// Gives a map another number of entries: `MAP=N`, decimal or `0x…`. What the kernel wants of a ring buffer's or an LRU
    /// map's is made of N as of the object's own.
    ///
    /// ```
    /// let mut object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/maps.bpf.o")?)?;
    /// object.resize("sized=4096")?;
    /// assert!(object.resize("no_such_map=1").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// No such map (those there are are named), variables in it, or slots that the object fills beyond N.
    #[cfg(feature = "compat")]
    pub fn resize(&mut self, assignment: &str) -> Result<(), ObjectError> {
        resize::resize(assignment, &mut self.maps)
    }

    /// Why a program cannot be loaded as it is: something in it is for a kernel to decide and has not been.
    ///
    /// ```
    /// let object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/kconfig.bpf.o")?)?;
    /// let why = object.check_resolved(&object.programs[0]).unwrap_err().to_string();
    /// assert!(why.contains("LINUX_KERNEL_VERSION"), "{why}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Names the first CO-RE relocation or extern that is left.
    pub fn check_resolved(&self, program: &Program) -> Result<(), ObjectError> {
        let fault = |insn: usize, about: String, what: &str| ObjectError::Resolve {
            program: program.name.clone(),
            about: match self.source(program, insn) {
                Some(source) => format!("{about}, {source}"),
                None => about,
            },
            what: what.to_owned(),
        };
        if let Some(relo) = program.core.first() {
            let about = self.btf.as_ref().map(|btf| btf.describe(relo.type_id)).unwrap_or_default();
            let what = "needs a CO-RE relocation (preserve_access_index), which has not been made";
            return Err(fault(relo.insn, about, what));
        }
        if let Some(reference) = program.externs.first() {
            let name = self.externs.get(reference.wanted).map(|e| e.name.clone()).unwrap_or_default();
            return Err(fault(reference.insn, name, "is extern and has not been looked up in a kernel"));
        }
        Ok(())
    }

    /// Makes instructions name maps by their number in BPF_PROG_LOAD's `fd_array` (Linux 5.14) instead of by descriptors: what
    /// the kernel gets is then byte for byte what a plan shows, and the tag counts the numbers in. A program's numbers
    /// follow its modules', from 1, in the order of [`Object::maps`].
    ///
    /// ```
    /// let mut object = detour::object::Object::parse(&std::fs::read("../elf/fixtures/globals.bpf.o")?)?;
    /// object.name_maps_by_number();
    /// let program = &object.programs[0];
    /// let numbers: Vec<i32> = program.refs.iter().map(|reference| program.insns[reference.insn].imm).collect();
    /// assert!(numbers.iter().all(|number| (1..=6).contains(number)), "{numbers:?}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "compat")]
    pub fn name_maps_by_number(&mut self) {
        let modules = self.modules.len();
        for program in &mut self.programs {
            let maps = program.maps();
            for reference in &program.refs {
                let place = maps.binary_search(&reference.map).unwrap_or(0);
                let number = place.saturating_add(modules).saturating_add(1);
                let Some(insn) = program.insns.get_mut(reference.insn) else { continue };
                let src = match reference.offset {
                    Some(_) => insn::PSEUDO_MAP_IDX_VALUE,
                    None => insn::PSEUDO_MAP_IDX,
                };
                *insn = Insn { imm: i32::try_from(number).unwrap_or(i32::MAX), ..insn.with_src(src) };
            }
        }
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|p| p.name == name)
    }
}
