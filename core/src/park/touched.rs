//! What a transaction touches: rows, by the values of their keys; whole tables, where the keys are not known or do not say
//! enough; or everything.
//!
//! Kept are hashes of keys, not keys: two keys with one hash make a transaction wait that need not, never the other way round.
//!
//! # Invariants
//! 1. Values that are equal have one hash, in whatever form they were sent. Of a type whose equal values can have different
//!    bytes (`numeric`, `float`, text of a collation that ignores differences), the whole table is touched.
//! 2. The set is bounded: a table of which more than [`KEYS_MAX`] keys are touched is touched whole.
//! 3. Hashes and stored form are the same in every version of the library.

use crate::types::TypeOid;
use crate::wire::WireError;
use crate::wire::io::In;
use crate::wire::row::{Datum, Tuple};
use std::collections::{BTreeMap, BTreeSet};

/// Keys of one table that are told apart in one transaction.
pub const KEYS_MAX: usize = 10_000;

/// FNV-1a, 64 bits.
#[derive(Debug, Clone, Copy)]
struct Hash(u64);

impl Hash {
    const START: Self = Self(0xcbf2_9ce4_8422_2325);

    fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    /// Bytes with their length, so that values that follow each other cannot run together.
    fn value(self, bytes: &[u8]) -> Self {
        self.bytes(&(bytes.len() as u64).to_be_bytes()).bytes(bytes)
    }
}

/// Schema and table as one name.
pub fn table_name(schema: &[u8], table: &[u8]) -> Vec<u8> {
    [schema, b"\0", table].concat()
}

/// A column of a table as far as keys are concerned.
#[derive(Debug, Clone, Copy)]
pub struct KeyColumn<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Part of the provider's replica identity.
    pub in_identity: bool,
    /// Its type on the provider.
    pub kind: TypeOid,
}

/// What is known of unique indexes of the local table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalKeys {
    /// For each the places of its columns in the provider's table; the one that finds rows comes first.
    pub columns: Vec<Vec<usize>>,
    /// There are others that the values of columns alone say nothing about: of expressions, exclusion constraints, collations
    /// that take different texts for equal.
    pub opaque: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    columns: Vec<usize>,
    /// Hash of the columns' names.
    names: u64,
}

/// Which columns of a table tell its rows apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    kinds: Vec<TypeOid>,
    /// The first one finds rows.
    keys: Vec<Key>,
    /// Sets of two shapes cannot be compared.
    hash: u64,
    whole: bool,
}

impl Shape {
    /// Of a table with these columns, in the provider's order.
    pub fn new(columns: &[KeyColumn<'_>], local: &LocalKeys) -> Self {
        let identity: Vec<usize> = (0..columns.len()).filter(|n| columns[*n].in_identity).collect();
        let mut keys: Vec<Key> = Vec::new();
        for mut places in core::iter::once(identity).chain(local.columns.iter().cloned()) {
            // An index may name the same columns in another order.
            places.retain(|place| *place < columns.len());
            places.sort_by_key(|place| columns[*place].name);
            places.dedup();
            if places.is_empty() || keys.iter().any(|key| key.columns == places) {
                continue;
            }
            let names = places.iter().fold(Hash::START, |hash, place| hash.value(columns[*place].name)).0;
            keys.push(Key { columns: places, names });
        }
        let mut names: Vec<u64> = keys.iter().map(|key| key.names).collect();
        names.sort_unstable();
        let hash = names.iter().fold(Hash::START, |hash, name| hash.bytes(&name.to_be_bytes())).0;
        let whole = local.opaque || keys.is_empty();
        Self { kinds: columns.iter().map(|column| column.kind).collect(), keys, hash, whole }
    }
}

/// A key's value in one row.
enum Value {
    Known(u64),
    /// NULL, or not sent with this row.
    Absent,
    /// Equal values may look different.
    Vague,
}

fn value_of(shape: &Shape, key: &Key, row: &[Datum<'_>]) -> Value {
    let mut hash = Hash::START.bytes(&key.names.to_be_bytes());
    for place in &key.columns {
        let (Some(datum), Some(kind)) = (row.get(*place), shape.kinds.get(*place)) else { return Value::Vague };
        if matches!(datum, Datum::Null | Datum::Unchanged) {
            return Value::Absent;
        }
        match canonical(*kind, datum) {
            Some(Canonical::Number(number)) => hash = hash.value(&number.to_be_bytes()),
            Some(Canonical::Bytes(bytes)) => hash = hash.value(bytes),
            Some(Canonical::Uuid(bytes)) => hash = hash.value(&bytes),
            None => return Value::Vague,
        }
    }
    Value::Known(hash.0)
}

enum Canonical<'a> {
    Number(i64),
    Bytes(&'a [u8]),
    Uuid([u8; 16]),
}

/// One form for all in which a value can be sent. `None`: a type, or a form of it, in which equal values can differ.
fn canonical<'a>(kind: TypeOid, datum: &Datum<'a>) -> Option<Canonical<'a>> {
    const BOOL: u32 = 16;
    const BYTEA: u32 = 17;
    const NAME: u32 = 19;
    const INT8: u32 = 20;
    const INT2: u32 = 21;
    const INT4: u32 = 23;
    const TEXT: u32 = 25;
    const OID: u32 = 26;
    const BPCHAR: u32 = 1042;
    const VARCHAR: u32 = 1043;
    const DATE: u32 = 1082;
    const TIME: u32 = 1083;
    const TIMESTAMP: u32 = 1114;
    const TIMESTAMPTZ: u32 = 1184;
    const UUID: u32 = 2950;
    match kind.0 {
        BOOL => match *datum {
            Datum::Internal([value]) | Datum::Binary([value]) => Some(Canonical::Number(i64::from(*value != 0))),
            Datum::Text(text) => Some(Canonical::Number(i64::from(text == b"t"))),
            _ => None,
        },
        INT2 | INT4 | INT8 | OID => number(datum, true),
        // Their text depends on settings of the session that sends it.
        DATE | TIME | TIMESTAMP | TIMESTAMPTZ => number(datum, false),
        TEXT | VARCHAR => text(datum).map(Canonical::Bytes),
        BPCHAR => text(datum).map(|text| Canonical::Bytes(text.trim_ascii_end())),
        NAME => match *datum {
            Datum::Internal(bytes) => bytes.split(|byte| *byte == 0).next().map(Canonical::Bytes),
            Datum::Binary(bytes) | Datum::Text(bytes) => Some(Canonical::Bytes(bytes)),
            _ => None,
        },
        BYTEA if matches!(datum, Datum::Internal(_) | Datum::Binary(_)) => text(datum).map(Canonical::Bytes),
        UUID => match *datum {
            Datum::Internal(bytes) | Datum::Binary(bytes) => bytes.try_into().ok().map(Canonical::Uuid),
            Datum::Text(text) => uuid(text).map(Canonical::Uuid),
            _ => None,
        },
        _ => None,
    }
}

fn number<'a>(datum: &Datum<'_>, from_text: bool) -> Option<Canonical<'a>> {
    // Sign does not matter: one type has one width.
    let value = match *datum {
        Datum::Internal(bytes) => match bytes.len() {
            2 => i64::from(i16::from_ne_bytes(bytes.try_into().ok()?)),
            4 => i64::from(i32::from_ne_bytes(bytes.try_into().ok()?)),
            8 => i64::from_ne_bytes(bytes.try_into().ok()?),
            _ => return None,
        },
        Datum::Binary(bytes) => match bytes.len() {
            2 => i64::from(i16::from_be_bytes(bytes.try_into().ok()?)),
            4 => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
            8 => i64::from_be_bytes(bytes.try_into().ok()?),
            _ => return None,
        },
        Datum::Text(text) if from_text => {
            let number: i64 = core::str::from_utf8(text).ok()?.parse().ok()?;
            // An oid beyond the signed range has the sign in its other forms.
            if number > i64::from(i32::MAX) && number <= i64::from(u32::MAX) {
                return None;
            }
            number
        }
        _ => return None,
    };
    Some(Canonical::Number(value))
}

/// The content of a value of variable length.
fn text<'a>(datum: &Datum<'a>) -> Option<&'a [u8]> {
    match *datum {
        Datum::Binary(bytes) | Datum::Text(bytes) => Some(bytes),
        // The provider's memory image: a header of one byte, or of four; else it is compressed.
        Datum::Internal(bytes) if cfg!(target_endian = "little") => match bytes.first()? {
            1 => None,
            head if head & 1 == 1 => bytes.get(1..),
            head if head & 3 == 0 => bytes.get(4..),
            _ => None,
        },
        _ => None,
    }
}

fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'-').collect();
    let digits = core::str::from_utf8(&digits).ok().filter(|digits| digits.len() == 32)?;
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

/// How much of one table is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// All of it, or it is not known which rows.
    Whole,
    /// Rows with these keys.
    Keys {
        /// Of the [`Shape`]; hashes of another one cannot be compared.
        shape: u64,
        /// Hashes of keys.
        keys: BTreeSet<u64>,
    },
}

/// What a transaction touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    everything: bool,
    tables: BTreeMap<Vec<u8>, Extent>,
}

impl Touched {
    /// Everything: a statement that was replicated, or what cannot be read.
    pub fn all() -> Self {
        Self { everything: true, tables: BTreeMap::new() }
    }

    /// Whether it is everything.
    pub const fn is_everything(&self) -> bool {
        self.everything
    }

    /// Tables and how much of each, unless it is everything.
    pub fn tables(&self) -> impl Iterator<Item = (&[u8], &Extent)> {
        self.tables.iter().map(|(name, extent)| (name.as_slice(), extent))
    }

    /// From here on it is everything.
    pub fn add_everything(&mut self) {
        *self = Self::all();
    }

    /// All of a table, see [`table_name`].
    pub fn add_table(&mut self, table: &[u8]) {
        if !self.everything {
            self.tables.insert(table.to_vec(), Extent::Whole);
        }
    }

    /// One row as it was and as it is now, as far as it was sent.
    pub fn add_row(&mut self, table: &[u8], shape: &Shape, old: Option<&Tuple<'_>>, new: Option<&Tuple<'_>>) {
        if self.everything || self.tables.get(table) == Some(&Extent::Whole) {
            return;
        }
        match hashes(shape, old, new) {
            Some(keys) => self.add_keys(table, shape.hash, keys),
            None => self.add_table(table),
        }
    }

    /// Rows with these keys of a table of that shape.
    pub(super) fn add_keys(&mut self, table: &[u8], shape: u64, hashes: impl IntoIterator<Item = u64>) {
        let empty = || Extent::Keys { shape, keys: BTreeSet::new() };
        let extent = match self.tables.get_mut(table) {
            Some(extent) => extent,
            None => self.tables.entry(table.to_vec()).or_insert_with(empty),
        };
        match extent {
            Extent::Keys { shape: known, keys } if *known == shape => {
                keys.extend(hashes);
                if keys.len() > KEYS_MAX {
                    *extent = Extent::Whole;
                }
            }
            _ => *extent = Extent::Whole,
        }
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![Self::FORMAT, u8::from(self.everything)];
        out.extend_from_slice(&(self.tables.len() as u32).to_be_bytes());
        for (name, extent) in &self.tables {
            out.extend_from_slice(&(name.len() as u32).to_be_bytes());
            out.extend_from_slice(name);
            match extent {
                Extent::Whole => out.push(0),
                Extent::Keys { shape, keys } => {
                    out.push(1);
                    out.extend_from_slice(&shape.to_be_bytes());
                    out.extend_from_slice(&(keys.len() as u32).to_be_bytes());
                    keys.iter().for_each(|key| out.extend_from_slice(&key.to_be_bytes()));
                }
            }
        }
        out
    }

    const FORMAT: u8 = 1;

    /// From the stored form. What cannot be read, because a later version wrote it or it is damaged, is everything.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_else(|_| Self::all())
    }

    fn read(bytes: &[u8]) -> Result<Self, WireError> {
        let mut input = In::new(bytes);
        input.expect(Self::FORMAT, "format")?;
        let mut touched = Self { everything: input.u8("everything")? != 0, tables: BTreeMap::new() };
        for _ in 0..input.u32("tables")? {
            let length = input.len32("name length")?;
            let name = input.take(length, "name")?.to_vec();
            let extent = match input.u8("extent")? {
                0 => Extent::Whole,
                1 => {
                    let shape = input.u64("shape")?;
                    let count = input.u32("keys")?;
                    let keys = (0..count).map(|_| input.u64("key")).collect::<Result<_, _>>()?;
                    Extent::Keys { shape, keys }
                }
                got => return Err(WireError::Unexpected { field: "extent", got }),
            };
            touched.tables.insert(name, extent);
        }
        input.finish()?;
        Ok(touched)
    }
}

/// Hashes of all keys of a change. `None`: they do not say which rows it is about.
fn hashes(shape: &Shape, old: Option<&Tuple<'_>>, new: Option<&Tuple<'_>>) -> Option<Vec<u64>> {
    if shape.whole {
        return None;
    }
    let rows: Vec<Vec<Datum<'_>>> = [old, new].into_iter().flatten().map(|row| row.columns().collect()).collect();
    let mut found = Vec::new();
    for (n, key) in shape.keys.iter().enumerate() {
        let before = found.len();
        for row in &rows {
            match value_of(shape, key, row) {
                Value::Known(hash) => found.push(hash),
                Value::Absent => {}
                Value::Vague => return None,
            }
        }
        if n == 0 && found.len() == before {
            return None;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests;
