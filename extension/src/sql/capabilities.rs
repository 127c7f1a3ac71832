//! Versions, and what this server and this build can do.

use spock_core::wire::ProtocolVersion;

use crate::error::Report;
use crate::pg::compat::server::MAJOR;
use crate::pg::function::{Answer, Call, Value};
use crate::pg::server;

const PROTOCOL_MAX: i32 = ProtocolVersion::MAX.number() as i32;
const PROTOCOL_MIN: i32 = ProtocolVersion::MIN.number() as i32;

/// `spock_version()`
pub fn version(_: &Call) -> Result<Answer, Report> {
    Ok(Answer::One(Value::Text(server::VERSION.to_owned())))
}

/// `spock_version_num()`: major * 10000 + minor * 100 + patch.
pub fn version_num(_: &Call) -> Result<Answer, Report> {
    let number = server::VERSION.split('.').fold(0, |all, part| all * 100 + part.parse::<i32>().unwrap_or(0));
    Ok(Answer::One(Value::Int(number)))
}

/// `spock_max_proto_version()`
pub fn max_proto_version(_: &Call) -> Result<Answer, Report> {
    Ok(Answer::One(Value::Int(PROTOCOL_MAX)))
}

/// `spock_min_proto_version()`
pub fn min_proto_version(_: &Call) -> Result<Answer, Report> {
    Ok(Answer::One(Value::Int(PROTOCOL_MIN)))
}

fn row(capability: impl Into<String>, present: bool, detail: impl Into<String>) -> Vec<Value> {
    vec![Value::Text(capability.into()), Value::Bool(present), Value::Text(detail.into())]
}

/// `server_capabilities()`: one row per thing that a build or a server may have or lack.
pub fn server_capabilities(_: &Call) -> Result<Answer, Report> {
    let features = server::features();
    let mut rows = vec![
        row("spock", true, server::VERSION),
        row("protocol_versions", true, format!("{PROTOCOL_MIN} to {PROTOCOL_MAX}")),
        row("server_version", true, format!("{}, library built for {MAJOR}", server::pg_version_num())),
    ];
    let running = server::patchset_of_server();
    rows.push(row(
        "patchset_server",
        running.is_some(),
        running.as_deref().unwrap_or("this server records no patch series"),
    ));
    let built = server::PATCHSET_AT_BUILD;
    rows.push(row(
        "patchset_build",
        built.is_some(),
        built.unwrap_or("the library was built without naming a patch series"),
    ));
    rows.push(row(
        "old_values_in_wal",
        features.old_values_in_wal,
        if features.old_values_in_wal {
            "column options log_old_value and delta_apply_function"
        } else {
            "delta columns need REPLICA IDENTITY FULL"
        },
    ));
    rows.push(row(
        "commit_clock",
        features.commit_clock.is_some(),
        if features.commit_clock.is_some() {
            "commit times only move forward, also past remote ones"
        } else {
            "a commit waits up to spock.maximum_clock_skew for the local clock to pass the remote commit time"
        },
    ));
    rows.push(row(
        "subtransaction_commit_ts",
        features.subtransaction_commit_ts,
        if features.subtransaction_commit_ts {
            "one subtransaction can keep its own commit time and origin"
        } else {
            "a transaction has one commit time and origin"
        },
    ));
    rows.extend(
        server::patch_symbols().into_iter().map(|(symbol, present)| row(format!("symbol:{symbol}"), present, "")),
    );
    rows.push(output_plugin_row());
    rows.push(row("conflict_statistics", false, "not in this version"));
    Ok(Answer::Rows(rows))
}

fn output_plugin_row() -> Vec<Value> {
    match server::output_plugin_allowed() {
        None => row("output_plugin_libraries", true, "this server does not restrict output plugins"),
        Some(true) => row("output_plugin_libraries", true, "spock_output is listed"),
        Some(false) => row("output_plugin_libraries", false, crate::requirements::ALLOW_OUTPUT_PLUGIN),
    }
}
