//! Rows as `spock.exception_log` has them. Between `apply::transaction`, which leaves changes out, and
//! `spock_core::exceptions`, which knows the form.
//!
//! # Invariants
//! 1. Values are read with the rights of the table's owner, in a subtransaction: whatever is wrong with them, the row of the
//!    log is written without them.
//! 2. A row for a table that is not here is described by what the provider said of it.

use super::relmap::{MappedColumn, Opened, RelMap, RemoteRelation};
use super::removals::Removals;
use super::rows::{Row, decode_value};
use super::version::{LocalVersion, Versions};
use crate::error::{OrRaise, Report};
use crate::pg::attempt::{Caught, attempt_nested};
use crate::pg::error_context::Place;
use crate::pg::heap::Target;
use crate::pg::relation::{Column, Table};
use crate::pg::search;
use crate::pg::session::OwnerScope;
use crate::pg::tuple::{Decoder, OwnedContext, Slot, check_jsonb};
use spock_core::exceptions::{LoggedValue, tuple_json};
use spock_core::types::{NodeId, PgTime, RelId};
use spock_core::wire::row::{Datum, RowKind, Tuple};

/// The local row that a change is about.
pub struct Found {
    /// Node that wrote it and commit time there; 0 and 2000-01-01: not known.
    pub version: (u32, PgTime),
    /// The row; `None`: it cannot be written as JSON.
    pub tuple: Option<String>,
}

/// A row that was sent. `None`: it was not, or nothing is known of its table. `Err`: its values cannot be read.
pub fn tuple(relations: &mut RelMap, id: RelId, row: Option<&Tuple<'_>>) -> Result<Option<String>, Caught> {
    let Some(row) = row else { return Ok(None) };
    attempt_nested(|| {
        let values = match relations.look(id) {
            Ok((table, mapping, _)) => {
                let _owner = OwnerScope::enter(&table);
                here(&table, &mut mapping.columns, &mapping.memory, row).or_raise()
            }
            Err(_) => match relations.remote(id) {
                Ok(remote) => elsewhere(remote, row).or_raise(),
                Err(_) => return None,
            },
        };
        Some(checked(&values))
    })
}

fn checked(values: &[LoggedValue]) -> String {
    let json = tuple_json(values);
    check_jsonb(&json);
    json
}

/// In columns of the local table.
fn here(
    table: &Table,
    mapped: &mut [MappedColumn],
    memory: &OwnedContext,
    row: &Tuple<'_>,
) -> Result<Vec<LoggedValue>, Report> {
    let sent: Vec<Datum<'_>> = row.columns().collect();
    let mut values = Vec::new();
    for column in table.columns().iter().filter(|column| !column.generated) {
        let name = column.name.to_string_lossy().into_owned();
        let at = mapped.iter().position(|mapped| mapped.number == Some(column.number));
        let mut json = None;
        if let Some(at) = at
            && let (Some(mapped), Some(value)) = (mapped.get_mut(at), sent.get(at))
        {
            let value = decode_value(mapped, value, memory, &name)?;
            json = value.and_then(|value| mapped.decoder.json(value));
        }
        values.push(LoggedValue { column: name, kind: Decoder::new(column).type_name(), json });
    }
    Ok(values)
}

/// In columns of the provider's table. Types that come with the server are the same everywhere.
fn elsewhere(remote: &RemoteRelation, row: &Tuple<'_>) -> Result<Vec<LoggedValue>, Report> {
    let memory = OwnedContext::new(c"spock exception log");
    let mut values = Vec::new();
    for (facts, value) in remote.columns.iter().zip(row.columns()) {
        let name = facts.name.to_string_lossy().into_owned();
        let known = facts.type_oid.is_built_in().then(|| Column::elsewhere(&facts.name, facts.type_oid.0)).flatten();
        values.push(match (known, value) {
            (Some(column), value) => {
                let decoder = Decoder::new(&column);
                let mut mapped = MappedColumn { number: None, decoder, same_type: true, types_clash: false };
                let value = decode_value(&mut mapped, &value, &memory, &name)?;
                let json = value.and_then(|value| mapped.decoder.json(value));
                LoggedValue { column: name, kind: mapped.decoder.type_name(), json }
            }
            (None, Datum::Text(text)) => LoggedValue::from_text(&name, Some(&String::from_utf8_lossy(text))),
            (None, _) => LoggedValue { column: name, kind: None, json: None },
        });
    }
    Ok(values)
}

/// Looks for the row that a change is about. Inside a subtransaction; the caller closes what was opened.
pub fn find(
    relations: &mut RelMap,
    versions: &mut Versions,
    place: &Place,
    (kind, id): (RowKind, RelId),
    key: &Tuple<'_>,
    node: NodeId,
) -> Result<Option<Found>, Report> {
    let Opened { target, mapping, counts, remote } = relations.open(id, kind, key)?;
    if kind == RowKind::Insert && mapping.key.is_none() {
        return Ok(None);
    }
    let _owner = OwnerScope::enter(target.table());
    if (Row { target, mapping, counts, remote, removals: &mut Removals::default(), place }).look(key)?
        == search::Found::Missing
    {
        return Ok(None);
    }
    let version = match versions.of(&target.local) {
        LocalVersion::Known { time, origin, .. } => (origin.get(), time),
        LocalVersion::OwnTransaction | LocalVersion::Unknown => (0, PgTime::from_micros(0)),
    };
    let version = if version.0 == 0 && version.1.micros() != 0 { (node.get(), version.1) } else { version };
    Ok(Some(Found { version, tuple: local(target) }))
}

/// The row that was found.
fn local(target: &Target) -> Option<String> {
    let row: &Slot = &target.local;
    let value = |column: &Column| {
        let decoder = Decoder::new(column);
        LoggedValue {
            column: column.name.to_string_lossy().into_owned(),
            kind: decoder.type_name(),
            json: decoder.json(row.get(column.number)),
        }
    };
    let values: Vec<LoggedValue> =
        target.table().columns().iter().filter(|column| !column.generated).map(value).collect();
    Some(checked(&values))
}
