//! What to do after an error. By now the local transaction is rolled back and the origin has not moved: the provider
//! sends the same transaction again, so nothing is lost whatever is decided here.
//!
//! # Invariants
//! 1. Only an error inside a remote transaction, or a message that cannot be handled, counts against it.
//! 2. A cause that may pass by itself is retried for ever; the worker spaces the attempts.
//! 3. The record of a disabled subscription and the switch itself are one transaction.

use super::{Exit, Stream};
use crate::catalog::exceptions::{RemoteTransaction, record_disable};
use crate::catalog::topology::{Subscription, set_subscription_enabled};
use crate::conflict::statistics::Counted;
use crate::error::{OrRaise, Report};
use crate::pg::attempt::{Caught, attempt};
use crate::pg::conn::sqlstate_text;
use crate::pg::error_context::{Place, StatementShown};
use crate::pg::origin;
use crate::pg::raise::{Level, log, log_line};
use crate::pg::scope::Txn;
use crate::settings;
use crate::worker::failure::Failure;
use crate::worker::registry;
use pgrx::PgSqlErrorCode;
use spock_core::exceptions::{self, Mode, Next};
use spock_core::merge::ConflictType;
use spock_core::types::{Lsn, NodeId, PgTime};

/// Whether an error of that code may pass by itself.
pub fn may_pass(code: PgSqlErrorCode) -> bool {
    exceptions::may_pass(sqlstate_text(code))
}

/// Decides, and carries it out.
pub fn react(subscription: &Subscription, stream: &Stream, caught: Caught) -> Exit {
    origin::clear_stamp();
    let report = with_statement(caught.report, &stream.place);
    let code = sqlstate_text(report.code);
    let place = &stream.place;
    if stream.again.get() {
        return Exit::Again(report);
    }
    // That there is no room for more passes when somebody makes some.
    if !place.streaming.get() || exceptions::may_pass(code) && !stream.disables.get() {
        return Exit::Retry(report);
    }
    let text = exceptions::error_text(code, &report.message);
    let mode = settings::exception_behaviour();
    let next = match Lsn::new(place.commit_lsn.get()) {
        _ if stream.disables.get() => Next::Disable,
        Some(_) if stream.recording.get() => exceptions::after_log_failure(mode),
        Some(commit_lsn) => {
            let failure = count(stream, commit_lsn, &text);
            let updating = place.action.get() == "UPDATE" && report.code == PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION;
            if updating && failure.failures.count == 1 {
                let mut counted = Counted::default();
                counted.one(ConflictType::UpdateExists);
                counted.publish(subscription.id);
            }
            let next = exceptions::after(mode, settings::exception_logging(), stream.treatment.get(), failure.failures);
            if next == Next::Again {
                log_line(format!(
                    "subscription \"{}\" takes transaction {} at {commit_lsn} again: attempt {} failed",
                    subscription.name,
                    place.xid.get(),
                    failure.failures.count
                ));
            }
            next
        }
        // Between transactions there is nothing that could be left out.
        None if mode == Mode::SubDisable => Next::Disable,
        None => Next::BackOff,
    };
    match next {
        Next::Again => Exit::Again(report),
        Next::BackOff => Exit::Retry(report),
        Next::Disable => {
            // First: the manager ends this process as soon as it sees that the subscription is disabled.
            registry::report_error(&report);
            match attempt(|| disable(subscription, place, &text)) {
                Ok(()) => {
                    registry::remember_failure(None);
                    Exit::Disabled
                }
                // The record could not be written: what was wrong first is tried again.
                Err(second) => {
                    log(Level::Warning, &second.report);
                    Exit::Retry(report)
                }
            }
        }
    }
}

/// Says which queued statement failed, if one did.
pub fn with_statement(mut report: Report, place: &Place) -> Report {
    if let Some(StatementShown { text, role }) = place.statement.take() {
        let said = format!("In a replicated statement of role \"{role}\": {text}");
        report.detail = Some(match report.detail {
            Some(detail) => format!("{detail}\n{said}"),
            None => said,
        });
    }
    report
}

/// Remembers that the transaction has failed once more.
fn count(stream: &Stream, commit_lsn: Lsn, text: &str) -> Failure {
    let place = &stream.place;
    let before = registry::failure().filter(|failure| failure.commit_lsn == commit_lsn);
    let treatment = stream.treatment.get();
    let mut failure = match before {
        // It was not tried.
        Some(before) if !treatment.executes() => before,
        before => Failure {
            commit_lsn,
            failures: before.map(|before| before.failures).unwrap_or_default(),
            // Outside of any message it is no action's fault.
            action: if place.action.get().is_empty() { 0 } else { place.number.get() },
            text: text.to_owned(),
        },
    };
    failure.failures = failure.failures.and(treatment);
    registry::remember_failure(Some(&failure));
    failure
}

fn disable(subscription: &Subscription, place: &Place, text: &str) {
    let commit_lsn = Lsn::new(place.commit_lsn.get());
    let transaction = RemoteTransaction {
        origin: NodeId::new(place.origin.get()).unwrap_or(subscription.origin.id),
        commit_ts: PgTime::from_micros(place.commit_time.get()),
        xid: place.xid.get(),
    };
    let txn = Txn::begin();
    record_disable(&transaction, 1, commit_lsn, text).or_raise();
    set_subscription_enabled(subscription.id, false).or_raise();
    txn.commit();
    say_disabled(subscription, commit_lsn, text);
}

/// Tells the administrator.
pub fn say_disabled(subscription: &Subscription, commit_lsn: Option<Lsn>, text: &str) {
    let mut warning = Report::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("subscription \"{}\" is disabled because a transaction cannot be applied", subscription.name),
    )
    .detail(text);
    if let Some(lsn) = commit_lsn {
        warning = warning.hint(format!(
            "Remove the cause and call spock.sub_enable: the transaction is sent again. Or leave it out with \
             spock.sub_alter_skiplsn('{}', '{lsn}').",
            subscription.name
        ));
    }
    log(Level::Warning, &warning);
}
