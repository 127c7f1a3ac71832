//! What to do after an error. By now the local transaction is rolled back and the origin has not moved: the provider
//! sends the same transaction again, so nothing is lost whatever is decided here.
//!
//! # Invariants
//! 1. Only an error inside a remote transaction, or a message that cannot be handled, disables the subscription.
//! 2. A cause that may pass by itself is retried for ever; the worker spaces the attempts.
//! 3. The record of a disabled subscription and the switch itself are one transaction.

use super::Exit;
use crate::catalog::exceptions::record_disable;
use crate::catalog::topology::{Subscription, set_subscription_enabled};
use crate::error::{OrRaise, Report};
use crate::pg::attempt::{Caught, attempt};
use crate::pg::error_context::Place;
use crate::pg::origin;
use crate::pg::raise::{Level, log};
use crate::pg::scope::Txn;
use pgrx::PgSqlErrorCode;
use spock_core::types::{Lsn, PgTime};

/// What an error calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// May pass by itself.
    Retry,
    /// Will come again until somebody changes something.
    Disable,
}

/// Classes and codes that may pass by themselves: connection, resources, an operator, contention, a cancel.
fn reaction(code: PgSqlErrorCode) -> Reaction {
    use PgSqlErrorCode as E;
    let text = crate::pg::conn::sqlstate_text(code);
    let passing_class = matches!(&text[..2], b"08" | b"53" | b"57" | b"58");
    let contention = matches!(
        code,
        E::ERRCODE_T_R_SERIALIZATION_FAILURE | E::ERRCODE_T_R_DEADLOCK_DETECTED | E::ERRCODE_LOCK_NOT_AVAILABLE
    );
    // 08P01 is of the connection class, but a message that is wrong is wrong again.
    if code != E::ERRCODE_PROTOCOL_VIOLATION && (passing_class || contention) {
        Reaction::Retry
    } else {
        Reaction::Disable
    }
}

/// Decides, and carries it out.
pub fn react(subscription: &Subscription, place: &Place, caught: Caught) -> Exit {
    origin::clear_stamp();
    let report = caught.report;
    if !place.streaming.get() || reaction(report.code) == Reaction::Retry {
        return Exit::Retry(report);
    }
    match attempt(|| disable(subscription, place, &report)) {
        Ok(()) => Exit::Disabled,
        // The record could not be written: what was wrong first is tried again.
        Err(second) => {
            log(Level::Warning, &second.report);
            Exit::Retry(report)
        }
    }
}

fn disable(subscription: &Subscription, place: &Place, report: &Report) {
    let code = crate::pg::conn::sqlstate_text(report.code);
    let message = format!("[SQLSTATE {}] {}", String::from_utf8_lossy(&code), report.message);
    let commit_lsn = Lsn::new(place.commit_lsn.get());
    let commit_time = PgTime::from_micros(place.commit_time.get());
    let txn = Txn::begin();
    record_disable(subscription, place.xid.get(), commit_time, commit_lsn, &message).or_raise();
    set_subscription_enabled(subscription.id, false).or_raise();
    txn.commit();
    let mut warning = Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("subscription \"{}\" is disabled because a transaction cannot be applied", subscription.name),
    )
    .detail(message);
    if let Some(lsn) = commit_lsn {
        warning = warning.hint(format!(
            "Remove the cause and call spock.sub_enable: the transaction is sent again. Or leave it out with \
             spock.sub_alter_skiplsn('{}', '{lsn}').",
            subscription.name
        ));
    }
    log(Level::Warning, &warning);
}
