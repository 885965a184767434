// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Bytes of a map <-> values, field by field at stated offsets, with no cast of memory.

/// A value with one fixed form in bytes, shared with the programs.
pub trait Shared: Sized {
    /// How many bytes it takes.
    const SIZE: usize;

    /// The value that `bytes` hold; `None` when there are fewer than `SIZE`.
    fn read(bytes: &[u8]) -> Option<Self>;

    /// Writes the value over the first `SIZE` of `bytes`; `None` when there are fewer.
    fn write(&self, bytes: &mut [u8]) -> Option<()>;

    /// The value as bytes; padding is zero.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; Self::SIZE];
        // There is room: the buffer was made of that size.
        let _ = self.write(&mut bytes);
        bytes
    }
}

/// A 16-bit number in network byte order in memory; the field holds its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Be16(pub u16);

/// A 32-bit number in network byte order in memory; the field holds its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Be32(pub u32);

/// The layout of a struct of ebpf-src/abi.h as Rust reads it, for the comparison with the object's BTF.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name in C.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Name in C, offset and size of each field, without padding.
    pub fields: &'static [(&'static str, usize, usize)],
}

impl Layout {
    /// The bytes of a field inside the bytes of the struct; empty when there is no such field or too few bytes.
    pub fn part<'a>(&self, bytes: &'a [u8], name: &str) -> &'a [u8] {
        self.range(name).and_then(|range| bytes.get(range)).unwrap_or_default()
    }

    /// As [`Layout::part`], to write to.
    pub fn part_mut<'a>(&self, bytes: &'a mut [u8], name: &str) -> &'a mut [u8] {
        self.range(name).and_then(|range| bytes.get_mut(range)).unwrap_or_default()
    }

    fn range(&self, name: &str) -> Option<std::ops::Range<usize>> {
        let (_, offset, size) = self.fields.iter().find(|(field, ..)| *field == name)?;
        Some(*offset..offset.checked_add(*size)?)
    }
}

/// The elements of an array of values.
pub(super) fn elements<T: Shared>(bytes: &[u8]) -> impl Iterator<Item = T> + use<'_, T> {
    bytes.chunks_exact(T::SIZE).filter_map(T::read)
}

/// Writes `values` from the start of an array on; the rest of the array stays.
pub(super) fn fill<T: Shared>(bytes: &mut [u8], values: impl IntoIterator<Item = T>) {
    for (chunk, value) in bytes.chunks_exact_mut(T::SIZE).zip(values) {
        // A chunk has the size of a value.
        let _ = value.write(chunk);
    }
}

/// The value at `offset`.
pub(super) fn at<T: Shared>(bytes: &[u8], offset: usize) -> Option<T> {
    T::read(bytes.get(offset..)?)
}

/// Writes `value` at `offset`.
pub(super) fn put<T: Shared>(bytes: &mut [u8], offset: usize, value: &T) -> Option<()> {
    value.write(bytes.get_mut(offset..)?)
}

macro_rules! shared_number {
    ($($type:ty)*) => {
        $(impl Shared for $type {
            const SIZE: usize = size_of::<$type>();

            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|chunk| <$type>::from_ne_bytes(*chunk))
            }

            fn write(&self, bytes: &mut [u8]) -> Option<()> {
                *bytes.first_chunk_mut()? = self.to_ne_bytes();
                Some(())
            }
        })*
    };
}

shared_number!(u8 u16 u32 u64);

impl Shared for Be16 {
    const SIZE: usize = 2;

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|chunk| Self(u16::from_be_bytes(*chunk)))
    }

    fn write(&self, bytes: &mut [u8]) -> Option<()> {
        *bytes.first_chunk_mut()? = self.0.to_be_bytes();
        Some(())
    }
}

impl Shared for Be32 {
    const SIZE: usize = 4;

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|chunk| Self(u32::from_be_bytes(*chunk)))
    }

    fn write(&self, bytes: &mut [u8]) -> Option<()> {
        *bytes.first_chunk_mut()? = self.0.to_be_bytes();
        Some(())
    }
}

impl<T: Shared + Copy + Default, const N: usize> Shared for [T; N] {
    const SIZE: usize = T::SIZE * N;

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut values = [T::default(); N];
        for (value, chunk) in values.iter_mut().zip(bytes.get(..Self::SIZE)?.chunks_exact(T::SIZE)) {
            *value = T::read(chunk)?;
        }
        Some(values)
    }

    fn write(&self, bytes: &mut [u8]) -> Option<()> {
        for (value, chunk) in self.iter().zip(bytes.get_mut(..Self::SIZE)?.chunks_exact_mut(T::SIZE)) {
            value.write(chunk)?;
        }
        Some(())
    }
}

/// A struct of ebpf-src/abi.h: `name in C, size, { field: type = offset }`. Padding is left out, and written as zero.
macro_rules! shared_struct {
    ($(#[$doc:meta])* $name:ident, $c:literal, $size:literal, { $($(#[$note:meta])* $field:ident: $type:ty = $offset:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$note])* pub $field: $type,)*
        }

        impl $name {
            /// Where each field lies.
            pub const LAYOUT: Layout = Layout {
                name: $c,
                size: $size,
                fields: &[$((stringify!($field), $offset, <$type as Shared>::SIZE),)*],
            };
        }

        impl Shared for $name {
            const SIZE: usize = $size;

            fn read(bytes: &[u8]) -> Option<Self> {
                let bytes = bytes.get(..$size)?;
                Some(Self { $($field: at(bytes, $offset)?,)* })
            }

            fn write(&self, bytes: &mut [u8]) -> Option<()> {
                let bytes = bytes.get_mut(..$size)?;
                bytes.fill(0);
                $(put(bytes, $offset, &self.$field)?;)*
                Some(())
            }
        }
    };
}
pub(super) use shared_struct;
