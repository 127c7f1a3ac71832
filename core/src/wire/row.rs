//! Relations and rows: RELATION, INSERT, UPDATE, DELETE, TRUNCATE and the tuples in them. Source: the protocol, sections
//! 3.5 to 3.7. The hot path: nothing here allocates for a row.
//!
//! # Invariants
//! 1. A row message is checked whole when it is read, so that walking its columns later cannot fail.
//! 2. A writer appends to the caller's buffer; [`TupleWriter`] takes columns one by one.

use super::io::In;
use super::{ProtocolVersion, WireError, begin_message};
use crate::names::NAME_LEN_MAX;
use crate::types::{Lsn, OriginId, PgTime, RelId, TypeOid};

/// With this option a subscriber asks for UPDATEs that carry their unchanged out-of-line values, and under this key a provider
/// promises them: an UPDATE that lacks one says whether it is superseded. From protocol 6 on.
pub const COMPLETION_OPTION: &str = "spock.complete_updates";

/// With this option a subscriber asks for versions of rows where they differ from their transaction's ([`RowVersion`]), and under
/// this key a provider promises them, and leaves out DELETEs that only displace a row. From protocol 6 on.
pub const VERSIONS_OPTION: &str = "spock.row_versions";

/// Most columns of a relation or row: what the server allows in a table (`MaxHeapAttributeNumber`).
pub const COLUMN_COUNT_MAX: u16 = 1600;

fn read_column_count(input: &mut In<'_>, field: &'static str) -> Result<u16, WireError> {
    let count = input.u16(field)?;
    if count <= COLUMN_COUNT_MAX { Ok(count) } else { Err(WireError::BadLength { field }) }
}

/// A name of the server: not empty, at most [`NAME_LEN_MAX`] bytes. `len` counts its NUL.
fn read_name<'a>(input: &mut In<'a>, len: usize, field: &'static str) -> Result<&'a [u8], WireError> {
    let name = input.cstr_of(len, field)?;
    if (1..=NAME_LEN_MAX).contains(&name.len()) { Ok(name) } else { Err(WireError::BadLength { field }) }
}

/// One column's value, borrowed from the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datum<'a> {
    /// NULL. In a key tuple also: not part of the key.
    Null,
    /// An out-of-line value that did not change and is not here.
    Unchanged,
    /// The provider's memory image, host order.
    Internal(&'a [u8]),
    /// What the type's send function made.
    Binary(&'a [u8]),
    /// What the type's output function made, without its NUL, in the session's encoding.
    Text(&'a [u8]),
}

impl<'a> Datum<'a> {
    fn read(input: &mut In<'a>) -> Result<Self, WireError> {
        let marker = input.u8("column marker")?;
        Ok(match marker {
            b'n' => Self::Null,
            b'u' => Self::Unchanged,
            b'i' => Self::Internal(Self::sized(input)?),
            b'b' => Self::Binary(Self::sized(input)?),
            b't' => {
                let len = input.len32("column length")?;
                Self::Text(input.cstr_of(len, "column text")?)
            }
            got => return Err(WireError::Unexpected { field: "column marker", got }),
        })
    }

    fn sized(input: &mut In<'a>) -> Result<&'a [u8], WireError> {
        let len = input.len32("column length")?;
        input.take(len, "column value")
    }
}

/// A row's columns as they stand in the message, already checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: u16,
    bytes: &'a [u8],
}

impl<'a> Tuple<'a> {
    const TAG: u8 = b'T';

    /// How many columns it has; the same as its relation.
    pub const fn len(&self) -> usize {
        self.columns as usize
    }

    /// A relation without columns.
    pub const fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The columns in the relation's order.
    pub const fn columns(&self) -> TupleReader<'a> {
        TupleReader { left: self.columns, input: In::new(self.bytes) }
    }

    fn read(input: &mut In<'a>) -> Result<Self, WireError> {
        input.expect(Self::TAG, "tuple")?;
        let columns = read_column_count(input, "tuple column count")?;
        let start = input.rest();
        for _ in 0..columns {
            Datum::read(input)?;
        }
        let bytes = &start[..start.len() - input.rest().len()];
        Ok(Self { columns, bytes })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(Self::TAG);
        out.extend_from_slice(&self.columns.to_be_bytes());
        out.extend_from_slice(self.bytes);
    }
}

/// Walks the columns of a [`Tuple`].
#[derive(Debug, Clone, Copy)]
pub struct TupleReader<'a> {
    left: u16,
    input: In<'a>,
}

impl<'a> Iterator for TupleReader<'a> {
    type Item = Datum<'a>;

    fn next(&mut self) -> Option<Datum<'a>> {
        self.left = self.left.checked_sub(1)?;
        // `Tuple::read` walked the same bytes, so this does not fail; if it did, the row would end here.
        Datum::read(&mut self.input).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for TupleReader<'_> {}

/// Appends a tuple column by column. The caller announced the count and must write that many.
#[derive(Debug)]
pub struct TupleWriter<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> TupleWriter<'o> {
    fn begin(out: &'o mut Vec<u8>, part: u8, columns: u16) -> Self {
        out.extend_from_slice(&[part, Tuple::TAG]);
        out.extend_from_slice(&columns.to_be_bytes());
        Self { out }
    }

    /// NULL, or not part of the key.
    pub fn null(&mut self) {
        self.out.push(b'n');
    }

    /// An out-of-line value that did not change.
    pub fn unchanged(&mut self) {
        self.out.push(b'u');
    }

    /// A memory image, host order. At most 1 GiB, as every value of the server.
    pub fn internal(&mut self, bytes: &[u8]) {
        self.sized(b'i', bytes);
    }

    /// Bytes of the type's send function. At most 1 GiB.
    pub fn binary(&mut self, bytes: &[u8]) {
        self.sized(b'b', bytes);
    }

    /// Text of the type's output function, without NUL. At most 1 GiB.
    pub fn text(&mut self, text: &[u8]) {
        self.out.push(b't');
        self.out.extend_from_slice(&(text.len() as u32 + 1).to_be_bytes());
        self.out.extend_from_slice(text);
        self.out.push(0);
    }

    fn sized(&mut self, marker: u8, bytes: &[u8]) {
        self.out.push(marker);
        self.out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.out.extend_from_slice(bytes);
    }
}

/// Which part of a row message a tuple is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The new row.
    New,
    /// The old row's key columns; the others are NULL.
    Key,
    /// The whole old row. Understood, never sent.
    Old,
}

impl Part {
    const fn tag(self) -> u8 {
        match self {
            Self::New => b'N',
            Self::Key => b'K',
            Self::Old => b'O',
        }
    }
}

/// Starts a row message; the tuples follow through [`write_tuple`].
pub fn begin_row(out: &mut Vec<u8>, version: ProtocolVersion, insert_lsn: Option<Lsn>, kind: RowKind, relation: RelId) {
    begin_message(out, version, insert_lsn);
    put_row_head(out, kind.tag(), false, relation, None);
}

/// The same in a batch, for a row that `own` says something of.
pub fn begin_row_with(out: &mut Vec<u8>, kind: RowKind, relation: RelId, own: RowFlags) {
    put_row_head(out, kind.tag(), own.superseded, relation, own.version);
}

/// What a row message says beside its row. Each only to a subscriber that has asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowFlags {
    /// An UPDATE that lacks values which its provider has no more: the key has a newer state.
    pub superseded: bool,
    /// The row's own version.
    pub version: Option<RowVersion>,
}

/// When and where a row was written, if that is not what BEGIN and ORIGIN say: it was added to, or copied, by a transaction that is
/// older or of another node. Protocol 6 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowVersion {
    /// Commit time on the node where it was written.
    pub time: PgTime,
    /// That node. Never 0.
    pub origin: OriginId,
}

impl RowVersion {
    fn read(input: &mut In<'_>) -> Result<Self, WireError> {
        let time = input.time("row time")?;
        match OriginId(input.u16("row origin")?) {
            OriginId::LOCAL => Err(WireError::Unexpected { field: "row origin", got: 0 }),
            origin => Ok(Self { time, origin }),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.time.micros().to_be_bytes());
        out.extend_from_slice(&self.origin.0.to_be_bytes());
    }
}

/// Starts one tuple of a row message; the caller writes `columns` columns.
pub fn write_tuple(out: &mut Vec<u8>, part: Part, columns: u16) -> TupleWriter<'_> {
    TupleWriter::begin(out, part.tag(), columns)
}

/// Which row message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// A new row.
    Insert,
    /// A changed row.
    Update,
    /// A row that is gone.
    Delete,
}

impl RowKind {
    const fn tag(self) -> u8 {
        match self {
            Self::Insert => Insert::TAG,
            Self::Update => Update::TAG,
            Self::Delete => Delete::TAG,
        }
    }
}

/// Flag of an UPDATE: [`Update::superseded`].
const SUPERSEDED: u8 = 1;
/// Flag of every row: a [`RowVersion`] follows the relation.
const HAS_VERSION: u8 = 2;

fn put_row_head(out: &mut Vec<u8>, tag: u8, superseded: bool, relation: RelId, own: Option<RowVersion>) {
    let flags = if superseded { SUPERSEDED } else { 0 } | if own.is_some() { HAS_VERSION } else { 0 };
    out.extend_from_slice(&[tag, flags]);
    out.extend_from_slice(&relation.0.to_be_bytes());
    if let Some(own) = own {
        own.write(out);
    }
}

/// What stands before the tuples: flags of the kind, relation, version.
fn read_row_head(input: &mut In<'_>, version: ProtocolVersion, kind: RowKind) -> Result<(RelId, RowFlags), WireError> {
    let flags = input.u8("row flags")?;
    let known = match (version, kind) {
        (ProtocolVersion::V4 | ProtocolVersion::V5, _) => 0,
        (ProtocolVersion::V6, RowKind::Update) => SUPERSEDED | HAS_VERSION,
        (ProtocolVersion::V6, RowKind::Insert | RowKind::Delete) => HAS_VERSION,
    };
    if flags & !known != 0 {
        return Err(WireError::Unexpected { field: "row flags", got: flags });
    }
    let relation = RelId(input.u32("relation id")?);
    let own = if flags & HAS_VERSION != 0 { Some(RowVersion::read(input)?) } else { None };
    Ok((relation, RowFlags { superseded: flags & SUPERSEDED != 0, version: own }))
}

/// A new row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insert<'a> {
    /// Its relation.
    pub relation: RelId,
    /// Its values.
    pub new: Tuple<'a>,
    /// Its own version.
    pub version: Option<RowVersion>,
}

impl<'a> Insert<'a> {
    /// The type byte.
    pub const TAG: u8 = b'I';

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_row_head(out, Self::TAG, false, self.relation, self.version);
        out.push(Part::New.tag());
        self.new.write(out);
    }

    pub(super) fn read(input: &mut In<'a>, version: ProtocolVersion) -> Result<Self, WireError> {
        let (relation, own) = read_row_head(input, version, RowKind::Insert)?;
        input.expect(Part::New.tag(), "row part")?;
        Ok(Self { relation, new: Tuple::read(input)?, version: own.version })
    }
}

/// An old row as an UPDATE or DELETE carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldTuple<'a> {
    /// Key columns only.
    Key(Tuple<'a>),
    /// Every column.
    Whole(Tuple<'a>),
}

impl<'a> OldTuple<'a> {
    /// The columns, whichever kind it is.
    pub const fn tuple(&self) -> Tuple<'a> {
        match self {
            Self::Key(tuple) | Self::Whole(tuple) => *tuple,
        }
    }

    /// The same, where they stand.
    pub const fn as_tuple(&self) -> &Tuple<'a> {
        match self {
            Self::Key(tuple) | Self::Whole(tuple) => tuple,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Key(tuple) => {
                out.push(Part::Key.tag());
                tuple.write(out);
            }
            Self::Whole(tuple) => {
                out.push(Part::Old.tag());
                tuple.write(out);
            }
        }
    }

    fn read_after(part: u8, input: &mut In<'a>) -> Result<Self, WireError> {
        match part {
            b'K' => Ok(Self::Key(Tuple::read(input)?)),
            b'O' => Ok(Self::Whole(Tuple::read(input)?)),
            got => Err(WireError::Unexpected { field: "row part", got }),
        }
    }
}

/// A changed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a> {
    /// Its relation.
    pub relation: RelId,
    /// The old key, if it changed or is logged whole. `None`: the new row has the key.
    pub old: Option<OldTuple<'a>>,
    /// Its values now.
    pub new: Tuple<'a>,
    /// Values that are not here are gone at the provider, so the key has a newer state, which is on its way. Protocol 6 only.
    pub superseded: bool,
    /// Its own version.
    pub version: Option<RowVersion>,
}

impl<'a> Update<'a> {
    /// The type byte.
    pub const TAG: u8 = b'U';

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_row_head(out, Self::TAG, self.superseded, self.relation, self.version);
        if let Some(old) = &self.old {
            old.write(out);
        }
        out.push(Part::New.tag());
        self.new.write(out);
    }

    pub(super) fn read(input: &mut In<'a>, version: ProtocolVersion) -> Result<Self, WireError> {
        let (relation, RowFlags { superseded, version }) = read_row_head(input, version, RowKind::Update)?;
        let part = input.u8("row part")?;
        if part == Part::New.tag() {
            return Ok(Self { relation, old: None, new: Tuple::read(input)?, superseded, version });
        }
        let old = OldTuple::read_after(part, input)?;
        input.expect(Part::New.tag(), "row part")?;
        Ok(Self { relation, old: Some(old), new: Tuple::read(input)?, superseded, version })
    }
}

/// A row that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete<'a> {
    /// Its relation.
    pub relation: RelId,
    /// Which row.
    pub old: OldTuple<'a>,
    /// The version of its end.
    pub version: Option<RowVersion>,
}

impl<'a> Delete<'a> {
    /// The type byte.
    pub const TAG: u8 = b'D';

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_row_head(out, Self::TAG, false, self.relation, self.version);
        self.old.write(out);
    }

    pub(super) fn read(input: &mut In<'a>, version: ProtocolVersion) -> Result<Self, WireError> {
        let (relation, own) = read_row_head(input, version, RowKind::Delete)?;
        let part = input.u8("row part")?;
        Ok(Self { relation, old: OldTuple::read_after(part, input)?, version: own.version })
    }
}

/// Emptied relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncate<'a> {
    /// Dependent tables as well. Receivers do not follow it: each table is named.
    pub cascade: bool,
    /// Owned sequences start again.
    pub restart_identity: bool,
    ids: &'a [u8],
}

impl<'a> Truncate<'a> {
    /// The type byte.
    pub const TAG: u8 = b'T';
    const CASCADE: u8 = 1;
    const RESTART_IDENTITY: u8 = 2;

    /// The relations.
    pub fn relations(&self) -> impl ExactSizeIterator<Item = RelId> + 'a {
        self.ids.chunks_exact(4).map(|id| RelId(u32::from_be_bytes([id[0], id[1], id[2], id[3]])))
    }

    /// Appends the type byte and a body made from values.
    pub fn write_of(out: &mut Vec<u8>, relations: &[RelId], cascade: bool, restart_identity: bool) {
        out.push(Self::TAG);
        out.extend_from_slice(&(relations.len() as u32).to_be_bytes());
        out.push(Self::flags(cascade, restart_identity));
        for relation in relations {
            out.extend_from_slice(&relation.0.to_be_bytes());
        }
    }

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(Self::TAG);
        out.extend_from_slice(&((self.ids.len() / 4) as u32).to_be_bytes());
        out.push(Self::flags(self.cascade, self.restart_identity));
        out.extend_from_slice(self.ids);
    }

    const fn flags(cascade: bool, restart_identity: bool) -> u8 {
        (if cascade { Self::CASCADE } else { 0 }) | (if restart_identity { Self::RESTART_IDENTITY } else { 0 })
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, WireError> {
        let count = input.len32("truncate relation count")?;
        let flags = input.u8("truncate flags")?;
        if flags & !(Self::CASCADE | Self::RESTART_IDENTITY) != 0 {
            return Err(WireError::Unexpected { field: "truncate flags", got: flags });
        }
        let len = count.checked_mul(4).ok_or(WireError::BadLength { field: "truncate relation count" })?;
        Ok(Self {
            cascade: flags & Self::CASCADE != 0,
            restart_identity: flags & Self::RESTART_IDENTITY != 0,
            ids: input.take(len, "truncate relations")?,
        })
    }
}

/// One column of a RELATION message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// Part of the provider's replica identity.
    pub is_key: bool,
    /// Its name.
    pub name: &'a [u8],
    /// Its type on the provider.
    pub type_oid: TypeOid,
    /// Its type modifier, -1 for none.
    pub type_mod: i32,
}

impl<'a> Column<'a> {
    const IS_KEY: u8 = 1;

    fn read(input: &mut In<'a>) -> Result<Self, WireError> {
        input.expect(b'C', "column")?;
        let flags = input.u8("column flags")?;
        if flags & !Self::IS_KEY != 0 {
            return Err(WireError::Unexpected { field: "column flags", got: flags });
        }
        input.expect(b'N', "column name")?;
        let len = usize::from(input.u16("column name length")?);
        Ok(Self {
            is_key: flags & Self::IS_KEY != 0,
            name: read_name(input, len, "column name")?,
            type_oid: TypeOid(input.u32("column type")?),
            type_mod: input.u32("column type modifier")? as i32,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[b'C', if self.is_key { Self::IS_KEY } else { 0 }, b'N']);
        out.extend_from_slice(&(self.name.len() as u16 + 1).to_be_bytes());
        out.extend_from_slice(self.name);
        out.push(0);
        out.extend_from_slice(&self.type_oid.0.to_be_bytes());
        out.extend_from_slice(&self.type_mod.to_be_bytes());
    }
}

/// Name and columns of a relation. Comes before the first row that refers to it, and again after it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relation<'a> {
    /// What row messages call it.
    pub id: RelId,
    /// Schema, at most 63 bytes.
    pub schema: &'a [u8],
    /// Table, at most 63 bytes.
    pub name: &'a [u8],
    columns: u16,
    bytes: &'a [u8],
}

impl<'a> Relation<'a> {
    /// The type byte.
    pub const TAG: u8 = b'R';

    /// How many columns it has.
    pub const fn column_count(&self) -> usize {
        self.columns as usize
    }

    /// The columns in the order of its tuples.
    pub fn columns(&self) -> impl Iterator<Item = Column<'a>> + use<'a> {
        let mut input = In::new(self.bytes);
        (0..self.columns).map_while(move |_| Column::read(&mut input).ok())
    }

    /// Appends the type byte and a body made from values. Names are the server's, at most 63 bytes.
    pub fn write_of(out: &mut Vec<u8>, id: RelId, schema: &[u8], name: &[u8], columns: &[Column<'_>]) {
        Self::put_head(out, id, schema, name, columns.len() as u16);
        for column in columns {
            column.write(out);
        }
    }

    /// Appends type byte and body.
    pub fn write(&self, out: &mut Vec<u8>) {
        Self::put_head(out, self.id, self.schema, self.name, self.columns);
        out.extend_from_slice(self.bytes);
    }

    fn put_head(out: &mut Vec<u8>, id: RelId, schema: &[u8], name: &[u8], columns: u16) {
        out.extend_from_slice(&[Self::TAG, 0]);
        out.extend_from_slice(&id.0.to_be_bytes());
        for text in [schema, name] {
            out.push(text.len() as u8 + 1);
            out.extend_from_slice(text);
            out.push(0);
        }
        out.push(b'A');
        out.extend_from_slice(&columns.to_be_bytes());
    }

    pub(super) fn read(input: &mut In<'a>) -> Result<Self, WireError> {
        input.expect(0, "relation flags")?;
        let id = RelId(input.u32("relation id")?);
        let schema_len = usize::from(input.u8("schema length")?);
        let schema = read_name(input, schema_len, "schema")?;
        let name_len = usize::from(input.u8("relation name length")?);
        let name = read_name(input, name_len, "relation name")?;
        input.expect(b'A', "attributes")?;
        let columns = read_column_count(input, "column count")?;
        let start = input.rest();
        for _ in 0..columns {
            Column::read(input)?;
        }
        let bytes = &start[..start.len() - input.rest().len()];
        Ok(Self { id, schema, name, columns, bytes })
    }
}
