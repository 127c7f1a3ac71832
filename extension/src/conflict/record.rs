//! Writing down a conflict: a line in the server log, a row in `spock.resolutions`, a counter.
//!
//! # Invariants
//! 1. The row is part of the apply transaction: it is there exactly if the transaction is.
//! 2. The log line never holds row values: they may be secret, and the resolutions table has its own rights.

use super::Conflict;
use crate::apply::version::LocalVersion;
use crate::catalog::resolutions::{self, Resolution as Row, Version};
use crate::error::Report;
use crate::pg::raise::{Level, log};
use crate::pg::session::time_text;
use crate::settings::{self, ConflictLogLevel, LogOriginChange};
use pgrx::PgSqlErrorCode;
use spock_core::merge::{ConflictType, Resolution};
use spock_core::types::{Lsn, NodeId, PgTime, Xid};

/// The remote side of a conflict: what is the same for the whole transaction.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Node where the change was made.
    pub origin: NodeId,
    /// Its commit time there.
    pub time: PgTime,
    /// Transaction on the provider.
    pub xid: Xid,
    /// Start of its commit record.
    pub commit_lsn: Option<Lsn>,
}

/// The rows of a conflict as JSON, made under the table owner's rights.
pub struct RowTexts {
    /// The local row, if there is one.
    pub local: Option<String>,
    /// The row or key that came.
    pub remote: String,
}

/// Where a conflict happened.
pub struct Scene<'a> {
    /// Quoted schema and table.
    pub relation: &'a str,
    /// Key index that found the row.
    pub index: Option<String>,
    /// The rows, if they are to be saved.
    pub texts: Option<RowTexts>,
    /// When the subscription was made.
    pub subscribed_at: Option<PgTime>,
    /// The local node.
    pub node: (&'a str, NodeId),
}

/// Whether the conflict is to be reported at all: a newer change of a row that another node wrote is daily business.
fn reported(conflict: &Conflict, scene: &Scene<'_>) -> bool {
    let only_differs = matches!(conflict.kind, ConflictType::UpdateOriginDiffers | ConflictType::DeleteOriginDiffers);
    if !only_differs || conflict.outcome == Resolution::KeepLocal {
        return true;
    }
    let Some(LocalVersion::Known { origin, time, .. }) = conflict.local else { return false };
    match settings::log_origin_change() {
        LogOriginChange::None => false,
        LogOriginChange::RemoteOnlyDiffers => origin != scene.node.1,
        LogOriginChange::SinceSubCreation => scene.subscribed_at.is_some_and(|since| time >= since),
    }
}

/// Writes the conflict down. Returns whether it was reported. Runs as the worker's own user.
pub fn record(conflict: &Conflict, scene: &Scene<'_>, remote: &Remote) -> Result<bool, Report> {
    if !reported(conflict, scene) {
        return Ok(false);
    }
    log(log_level(settings::conflict_log_level()), &report(conflict, scene, remote));
    if let Some(texts) = &scene.texts {
        resolutions::insert(&resolution(conflict, scene, texts, remote))?;
    }
    Ok(true)
}

fn report(conflict: &Conflict, scene: &Scene<'_>, remote: &Remote) -> Report {
    let local = match conflict.local {
        None => "There is no local row.".to_owned(),
        Some(LocalVersion::OwnTransaction) => "The local row was written by this transaction.".to_owned(),
        Some(LocalVersion::Unknown) => "The local row is older than what commit data is kept for.".to_owned(),
        Some(LocalVersion::Known { xid, time, origin }) => {
            format!("The local row was written by transaction {xid}, origin {}, at {}.", origin.get(), time_text(time))
        }
    };
    Report::new(
        PgSqlErrorCode::ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION,
        format!("CONFLICT: {} on relation {}: {}", conflict.kind.name(), scene.relation, conflict.outcome.name()),
    )
    .detail(format!(
        "{local} The remote change is of transaction {}, origin {}, at {}.",
        remote.xid.0,
        remote.origin.get(),
        time_text(remote.time)
    ))
}

fn resolution(conflict: &Conflict, scene: &Scene<'_>, texts: &RowTexts, remote: &Remote) -> Row {
    let local = match conflict.local {
        Some(LocalVersion::Known { xid, time, origin }) => Version {
            origin: (origin != scene.node.1).then_some(origin),
            tuple: texts.local.clone(),
            xid: Some(xid),
            time: Some(time),
        },
        Some(LocalVersion::OwnTransaction | LocalVersion::Unknown) => {
            Version { tuple: texts.local.clone(), ..Version::default() }
        }
        None => Version::default(),
    };
    Row {
        node_name: scene.node.0.to_owned(),
        relation: Some(scene.relation.to_owned()),
        index: scene.index.clone(),
        conflict_type: conflict.kind.name(),
        outcome: conflict.outcome.name(),
        local,
        remote: Version {
            origin: Some(remote.origin),
            tuple: Some(texts.remote.clone()),
            xid: Some(remote.xid.0),
            time: Some(remote.time),
        },
        remote_lsn: remote.commit_lsn,
    }
}

/// The server's levels, as far as a worker's message can have them: a conflict never ends the worker.
fn log_level(setting: ConflictLogLevel) -> Level {
    use ConflictLogLevel as L;
    match setting {
        L::Debug5 => Level::Debug5,
        L::Debug4 => Level::Debug4,
        L::Debug3 => Level::Debug3,
        // The server takes "debug" for debug2.
        L::Debug2 | L::Debug => Level::Trace,
        L::Debug1 => Level::Debug,
        L::Info | L::Notice => Level::Notice,
        L::Warning => Level::Warning,
        L::Log | L::Error | L::Fatal | L::Panic => Level::Log,
    }
}
