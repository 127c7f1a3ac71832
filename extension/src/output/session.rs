//! The start of a session: what the client asked for, what this node is, and what both agree on.

use super::format::Granted;
use super::sets::{self, Sets};
use super::tables::Coverage;
use crate::error::Report;
use crate::pg::decoding::Session;
use crate::pg::platform;
use crate::pg::scope::Txn;
use pgrx::PgSqlErrorCode;
use spock_core::filter::ForwardOrigins;
use spock_core::options::{OptionsError, OutputOptions};
use spock_core::types::{NodeId, OriginId};
use spock_core::wire::ProtocolVersion;

/// What holds for the whole session.
pub struct Terms {
    /// Layout of the messages.
    pub version: ProtocolVersion,
    /// Forms of values.
    pub granted: Granted,
    /// Whose transactions are sent.
    pub forward_origins: ForwardOrigins,
    /// This node, as it travels in ORIGIN.
    pub origin: OriginId,
    /// Name of this node.
    pub node_name: String,
    /// The client takes announcements.
    pub announcements: bool,
    /// UPDATEs are sent with their unchanged out-of-line values.
    pub completion: bool,
    /// Versions of single rows are sent.
    pub row_versions: bool,
    /// The startup message, in order.
    pub reply: Vec<(&'static str, String)>,
}

/// Agrees on the terms, or says why not.
pub fn negotiate(session: &Session<'_>, given: &[(String, Option<String>)]) -> Result<(Terms, Coverage), Report> {
    let pairs: Vec<_> = given.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    let facts = platform::provider_facts();
    let options = OutputOptions::parse(&pairs, &facts).map_err(|error| refusal(&error))?;
    platform::neutral_text_formats();
    let (node, node_name, sets) = in_transaction(session, || {
        let (node, name) = sets::local_node()?;
        Ok((node, name, Sets::load(node, &options.replication_sets)?))
    })?;
    let terms = Terms {
        version: options.version,
        granted: Granted { internal: options.internal, binary: options.binary },
        forward_origins: options.forward_origins,
        origin: OriginId(NodeId::wire(node)),
        node_name,
        announcements: options.announcements,
        completion: options.completion,
        row_versions: options.row_versions,
        reply: options.startup_reply(&facts, platform::process_id()),
    };
    // A table that catches up comes without sets: then all of it is wanted.
    let whole_table = options.only_table.is_some() && options.replication_sets.is_empty();
    Ok((terms, Coverage { sets, only: options.only_table, whole_table }))
}

/// Runs `work` in the open transaction, or in one of its own. The memory context is left as found.
fn in_transaction<R>(session: &Session<'_>, work: impl FnOnce() -> Result<R, Report>) -> Result<R, Report> {
    if Txn::is_open() {
        return work();
    }
    // Ending a transaction moves the current context; this puts it back.
    let _scope = session.context().enter();
    let txn = Txn::begin();
    let result = work()?;
    txn.commit();
    Ok(result)
}

fn refusal(error: &OptionsError) -> Report {
    let code = match error.sqlstate() {
        "0A000" => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        _ => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
    };
    let report = Report::new(code, error.to_string());
    match error.hint() {
        Some(hint) => report.hint(hint),
        None => report,
    }
}
