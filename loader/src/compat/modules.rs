// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! The types of the kernel's modules to those that the kernel itself did not have. Only modules that know one of the names
//! are looked into.

use std::collections::BTreeSet;
use std::fs;

use crate::compat::kernel::unreadable;
use crate::compat::scan::Scan;
use crate::compat::source::{Source, Split};
use crate::compat::target::Target;
use crate::object::ObjectError;

/// Where the kernel shows its types, one file for itself and one for each module.
const FOLDER: &str = "/sys/kernel/btf";

/// Reads the wanted types of all modules that have some, by rising names.
pub fn read(
    kernel: &dyn Source,
    wanted: &BTreeSet<String>,
    reads: &mut Vec<String>,
) -> Result<Vec<Target>, ObjectError> {
    read_from(FOLDER, kernel, wanted, reads)
}

fn read_from(
    folder: &str,
    kernel: &dyn Source,
    wanted: &BTreeSet<String>,
    reads: &mut Vec<String>,
) -> Result<Vec<Target>, ObjectError> {
    reads.push(format!("readdir({folder})"));
    let entries = fs::read_dir(folder).map_err(|e| unreadable(folder, e))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: BTreeSet<String> = names.filter(|name| name != "vmlinux").collect();
    let shared = Scan::offsets(kernel, wanted).map_err(|e| unreadable(folder, e))?;
    let mut found = Vec::new();
    for name in names {
        let path = format!("{folder}/{name}");
        reads.push(format!("read({path})"));
        // A module may go meanwhile.
        let Ok(bytes) = fs::read(&path) else { continue };
        if mentions(&bytes, wanted, &shared) {
            let split = Split::new(kernel, &bytes).map_err(|e| unreadable(&path, e))?;
            found.push(Target::read(&name, &split, wanted)?);
        }
    }
    Ok(found)
}

/// Whether one of the names stands among the strings, flavours apart, or the number of one that the kernel's strings have: a
/// module's strings do not repeat those.
fn mentions(bytes: &[u8], wanted: &BTreeSet<String>, shared: &[u32]) -> bool {
    let texts = bytes.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok());
    let number = |word: &[u8]| word.try_into().is_ok_and(|word| shared.contains(&u32::from_le_bytes(word)));
    texts.into_iter().any(|text| wanted.contains(text)) || bytes.chunks_exact(4).any(number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::object::Kind;

    /// A file of these types and strings; `struct btf_header` first.
    fn file(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let (t, s) = (types.len() as u32 * 4, strings.len() as u32);
        let words = [&[0x0001_eb9f, 24, 0, t, t, s], types].concat();
        [words.iter().flat_map(|word| word.to_le_bytes()).collect(), strings.to_vec()].concat()
    }

    /// The kernel knows a struct only by name, and calls a type as the module calls its function.
    #[test]
    fn what_the_kernel_has_a_name_for_may_be_a_modules() {
        let strings = b"\0int\0conn\0lookup\0";
        let (int, conn, lookup) = (1, 5, 10);
        let kernel =
            [[int, 1 << 24, 4, 1 << 24 | 32], [conn, 7 << 24, 0, lookup], [8 << 24, 1, 0, 0]].concat();
        let kernel = file(&kernel[..10], strings);
        // Ids go on from 4, offsets of names from 17.
        let own = b"\0of\0";
        let of = strings.len() as u32 + 1;
        let structure = [conn, 4 << 24 | 1, 4, of, 1, 0];
        let function = [0, 13 << 24, 1, lookup, 12 << 24, 5];
        let folder = std::env::temp_dir().join(format!("detour-btf-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("vmlinux"), &kernel).unwrap();
        fs::write(folder.join("has"), file(&[&structure[..], &function].concat(), own)).unwrap();
        fs::write(folder.join("has_not"), file(&[of, 7 << 24, 0], own)).unwrap();
        let wanted: BTreeSet<String> = ["conn", "lookup", "int"].map(str::to_owned).into();
        let base = Target::read("vmlinux", &kernel, &wanted).unwrap();
        assert_eq!(base.missing(&wanted), ["conn".to_owned()].into());
        let found = read_from(folder.to_str().unwrap(), &kernel, &wanted, &mut Vec::new());
        fs::remove_dir_all(&folder).unwrap();
        let [module] = &found.unwrap()[..] else { panic!("one of the two") };
        let kinds = |name: &str| -> Vec<(Kind, Option<u32>)> {
            let ids = module.named(name).iter();
            ids.map(|id| (module.btf.get(*id).unwrap().kind, module.kernel_id(*id))).collect()
        };
        assert_eq!(kinds("conn"), [(Kind::Fwd, Some(2)), (Kind::Struct, Some(4))]);
        assert_eq!(kinds("lookup"), [(Kind::Typedef, Some(3)), (Kind::Func, Some(6))]);
    }

    #[test]
    fn a_struct_that_the_kernel_only_declares_is_read_as_the_module_defines_it() {
        let target = |types: &[u32]| {
            let bytes = file(types, b"\0long unsigned int\0nf_conn\0status\0");
            Target::read("it", &bytes, &["nf_conn".to_owned()].into()).unwrap()
        };
        let (long, conn, status) = (1, 19, 27);
        let kernel = target(&[conn, 7 << 24, 0]);
        let module = target(&[long, 1 << 24, 8, 64, conn, 4 << 24 | 1, 48, status, 1, 40 * 8]);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../elf/fixtures/module_function.bpf.o");
        let mut object = crate::object::Object::parse(&fs::read(path).unwrap()).unwrap();
        let at = object.programs[0].core[0].insn;
        crate::compat::core::relocate(&mut object, &[kernel, module]).unwrap();
        assert_eq!((object.programs[0].insns[at].off, &object.programs[0].poisoned[..]), (40, &[][..]));
    }
}
