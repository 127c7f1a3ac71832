//! What becomes of a remote transaction that cannot be applied: which errors count, what the next attempt does, what the
//! log says. The extension catches, remembers and writes; it decides nothing of this.
//!
//! ```text
//! Apply ──fails──► Apply again ──fails──► LeaveOut        (transdiscard)
//!                              └────────► LogAndDisable   (sub_disable)
//!                              └────────► Park            (park)
//! Apply ──fails──► EachAlone ──fails as a whole──► LeaveOut   (discard)
//! ```
//!
//! # Invariants
//! 1. An error that may pass by itself changes nothing: the same attempt is made again.
//! 2. Only failures that were seen count. A transaction that was merely begun before is applied as any other.
//! 3. At most three attempts follow each other without growing pauses.
//! 4. As long as what is left out cannot be written down, nothing is left out.

use crate::change_log::string;

/// Bytes kept of an error's text.
pub const ERROR_TEXT_BYTES_MAX: usize = 1023;

/// `spock.exception_behaviour`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Leave out the changes that fail.
    Discard,
    /// Leave out the transaction.
    TransDiscard,
    /// Disable the subscription.
    SubDisable,
    /// Put the transaction aside whole, and go on with those that do not depend on it.
    Park,
}

impl Mode {
    /// The setting's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discard => "discard",
            Self::TransDiscard => "transdiscard",
            Self::SubDisable => "sub_disable",
            Self::Park => "park",
        }
    }
}

/// `spock.exception_logging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logging {
    /// Nothing but that a subscription was disabled.
    None,
    /// What was left out.
    Discard,
    /// And statements that were executed between changes that were left out.
    All,
}

/// Whether an error with this SQLSTATE may pass by itself: connection, resources, contention, an operator's cancel or
/// shutdown, trouble outside the database.
pub fn may_pass(sqlstate: [u8; 5]) -> bool {
    match &sqlstate {
        // A message that is wrong is wrong again; a violated integrity constraint of a transaction stays violated.
        b"08P01" | b"40002" => false,
        b"55P03" => true,
        code => matches!(&code[..2], b"08" | b"40" | b"53" | b"57" | b"58"),
    }
}

/// How a transaction is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// As usual.
    Apply,
    /// Each change by itself; those that fail are left out.
    EachAlone,
    /// Nothing of it is executed, all of it is logged, and the position moves past it.
    LeaveOut,
    /// Nothing of it is executed, all of it is logged, the position stays and the subscription is disabled.
    LogAndDisable,
    /// Nothing of it is executed, all of it is stored, and the position moves past it.
    Park,
}

impl Treatment {
    /// Whether changes are carried out.
    pub const fn executes(self) -> bool {
        matches!(self, Self::Apply | Self::EachAlone)
    }
}

/// What is remembered of a transaction that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures {
    /// Attempts that failed by themselves.
    pub count: u32,
    /// One of them took each change alone.
    pub alone: bool,
    /// It did not fail by itself: it must wait for one that is parked, which was noticed too late to keep it.
    pub waits: bool,
}

impl Failures {
    /// With one more, of an attempt that was made like `failed`.
    #[must_use]
    pub fn and(self, failed: Treatment) -> Self {
        Self { count: self.count.saturating_add(1), alone: self.alone || failed == Treatment::EachAlone, ..self }
    }
}

/// How the transaction is taken this time.
pub fn treatment(mode: Mode, before: Failures) -> Treatment {
    match (mode, before) {
        (_, Failures { waits: true, .. }) => Treatment::Park,
        (_, Failures { count: 0, .. })
        // A second attempt that succeeds is simply applied.
        | (Mode::TransDiscard | Mode::SubDisable | Mode::Park, Failures { count: 1, .. }) => Treatment::Apply,
        (Mode::Discard, Failures { alone: false, .. }) => Treatment::EachAlone,
        // It fails as a whole, at its commit: no single change is to blame.
        (Mode::Discard, Failures { alone: true, .. }) | (Mode::TransDiscard, _) => Treatment::LeaveOut,
        (Mode::SubDisable, _) => Treatment::LogAndDisable,
        (Mode::Park, _) => Treatment::Park,
    }
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, after `spock.restart_delay_on_exception`.
    Again,
    /// Another attempt of the same kind, after a pause that grows.
    BackOff,
    /// The subscription is disabled without one.
    Disable,
}

/// After an attempt made like `failed`; `now` counts it.
pub fn after(mode: Mode, logging: Logging, failed: Treatment, now: Failures) -> Next {
    // Without a log there is nothing that another pass could find out.
    let last = match (mode, logging) {
        (Mode::SubDisable, Logging::None) => 2,
        _ => 3,
    };
    match mode {
        _ if failed.executes() && now.count < last => Next::Again,
        Mode::SubDisable => Next::Disable,
        Mode::Discard | Mode::TransDiscard | Mode::Park => Next::BackOff,
    }
}

/// After an error that kept the log from being written: it says nothing about the transaction and does not count.
pub const fn after_log_failure(mode: Mode) -> Next {
    match mode {
        Mode::SubDisable => Next::Disable,
        Mode::Discard | Mode::TransDiscard | Mode::Park => Next::BackOff,
    }
}

/// An error as the log has it: no code for an internal error, cut to [`ERROR_TEXT_BYTES_MAX`].
pub fn error_text(sqlstate: [u8; 5], message: &str) -> String {
    let mut text = match &sqlstate {
        b"XX000" => message.to_owned(),
        code => format!("[SQLSTATE {}] {message}", String::from_utf8_lossy(code)),
    };
    let mut end = text.len().min(ERROR_TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// As a JSON string.
pub fn quoted(statement: &str) -> String {
    let mut out = String::with_capacity(statement.len() + 2);
    string(&mut out, statement);
    out
}

/// What kind of action a row of the log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// A row, or TRUNCATE.
    Tuple,
    /// A queued command.
    Statement,
}

/// Why the action with this number was left out. `failure`: number of the action that failed, 0 if it was the commit, and
/// its error.
pub fn reason(mode: Mode, object: Object, number: u32, failure: Option<(u32, &str)>) -> String {
    let object = match object {
        Object::Tuple => "tuple",
        Object::Statement => "statement",
    };
    let mode = mode.name();
    match failure {
        Some((failed, error)) if failed == number => error.to_owned(),
        Some((0, error)) => format!("{mode}: {object} left out because its transaction cannot be committed: {error}"),
        Some((failed, _)) => {
            format!("{mode}: {object} left out because of the error of its transaction at command_counter {failed}")
        }
        None => format!("{mode}: {object} left out; no cause was captured"),
    }
}

/// One value of a row in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedValue {
    /// Name of the column.
    pub column: String,
    /// Name of its type; `None`: not known here.
    pub kind: Option<String>,
    /// The value as JSON; `None`: null, or not sent.
    pub json: Option<String>,
}

impl LoggedValue {
    /// A value of which only the text is known.
    pub fn from_text(column: &str, text: Option<&str>) -> Self {
        Self { column: column.to_owned(), kind: None, json: text.map(quoted) }
    }
}

/// A row in the log: a JSON array with an object for each column.
pub fn tuple_json(values: &[LoggedValue]) -> String {
    let mut out = String::from("[");
    for (n, value) in values.iter().enumerate() {
        out.push_str(if n == 0 { "{\"value\": " } else { ", {\"value\": " });
        out.push_str(value.json.as_deref().unwrap_or("null"));
        out.push_str(", \"attname\": ");
        string(&mut out, &value.column);
        out.push_str(", \"atttype\": ");
        match &value.kind {
            Some(kind) => string(&mut out, kind),
            None => out.push_str("null"),
        }
        out.push('}');
    }
    out.push(']');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_never_an_exception() {
        let cases = [
            ("deadlock", b"40P01", true),
            ("serialization", b"40001", true),
            ("transaction integrity", b"40002", false),
            ("lock time-out", b"55P03", true),
            ("object in use", b"55006", false),
            ("connection", b"08006", true),
            ("wrong message", b"08P01", false),
            ("disk full", b"53100", true),
            ("memory", b"53200", true),
            ("cancel, statement time-out", b"57014", true),
            ("shutdown", b"57P01", true),
            ("crash of another process", b"57P02", true),
            ("starting up", b"57P03", true),
            ("I/O", b"58030", true),
            ("unique", b"23505", false),
            ("check", b"23514", false),
            ("no table", b"42P01", false),
            ("raised by a trigger", b"P0001", false),
            ("internal", b"XX000", false),
        ];
        for (name, code, want) in cases {
            assert_eq!(may_pass(*code), want, "{name}");
        }
    }

    /// The attempts of a transaction that fails every time, until it is left out or the subscription disabled.
    fn attempts(mode: Mode, logging: Logging) -> (Vec<Treatment>, Next) {
        let mut before = Failures::default();
        let mut made = Vec::new();
        loop {
            let treatment = treatment(mode, before);
            made.push(treatment);
            before = before.and(treatment);
            match after(mode, logging, treatment, before) {
                Next::Again if made.len() < 10 => {}
                last => return (made, last),
            }
        }
    }

    #[test]
    fn attempts_end_in_every_mode() {
        use Treatment::{Apply, EachAlone, LeaveOut, LogAndDisable, Park};
        let cases: [(Mode, Logging, &[Treatment], Next); 8] = [
            (Mode::Park, Logging::All, &[Apply, Apply, Park], Next::BackOff),
            (Mode::Park, Logging::None, &[Apply, Apply, Park], Next::BackOff),
            (Mode::Discard, Logging::All, &[Apply, EachAlone, LeaveOut], Next::BackOff),
            (Mode::Discard, Logging::None, &[Apply, EachAlone, LeaveOut], Next::BackOff),
            (Mode::TransDiscard, Logging::Discard, &[Apply, Apply, LeaveOut], Next::BackOff),
            (Mode::TransDiscard, Logging::None, &[Apply, Apply, LeaveOut], Next::BackOff),
            (Mode::SubDisable, Logging::All, &[Apply, Apply, LogAndDisable], Next::Disable),
            (Mode::SubDisable, Logging::None, &[Apply, Apply], Next::Disable),
        ];
        for (mode, logging, made, last) in cases {
            assert_eq!(attempts(mode, logging), (made.to_vec(), last), "{mode:?} {logging:?}");
        }
    }

    #[test]
    fn a_mode_that_changes_between_attempts_leaves_nothing_out_untried() {
        let twice = Failures { count: 2, ..Failures::default() };
        assert_eq!(treatment(Mode::Discard, twice), Treatment::EachAlone);
        let alone = Failures { count: 2, alone: true, waits: false };
        assert_eq!(treatment(Mode::SubDisable, alone), Treatment::LogAndDisable);
        assert_eq!(treatment(Mode::Park, alone), Treatment::Park);
        // What waits for a parked transaction waits in every mode.
        let waits = Failures { count: 0, alone: false, waits: true };
        assert_eq!(treatment(Mode::SubDisable, waits), Treatment::Park);
        assert_eq!(treatment(Mode::SubDisable, Failures { count: 1, alone: true, waits: false }), Treatment::Apply);
    }

    #[test]
    fn reasons() {
        let failure = Some((3, "[SQLSTATE 23514] no"));
        let cases = [
            (Object::Tuple, 3, failure, "[SQLSTATE 23514] no"),
            (
                Object::Tuple,
                2,
                failure,
                "transdiscard: tuple left out because of the error of its transaction at command_counter 3",
            ),
            (
                Object::Statement,
                4,
                Some((0, "deferred")),
                "transdiscard: statement left out because its transaction cannot be committed: deferred",
            ),
            (Object::Tuple, 1, None, "transdiscard: tuple left out; no cause was captured"),
        ];
        for (object, number, failure, want) in cases {
            assert_eq!(reason(Mode::TransDiscard, object, number, failure), want);
        }
    }

    #[test]
    fn error_texts() {
        assert_eq!(error_text(*b"23505", "duplicate"), "[SQLSTATE 23505] duplicate");
        assert_eq!(error_text(*b"XX000", "broken"), "broken");
        let long = "é".repeat(2000);
        let text = error_text(*b"XX000", &long);
        assert_eq!(text.len(), ERROR_TEXT_BYTES_MAX - 1, "cut between characters");
    }

    #[test]
    fn tuples() {
        let value = |column: &str, kind: Option<&str>, json: Option<&str>| LoggedValue {
            column: column.to_owned(),
            kind: kind.map(str::to_owned),
            json: json.map(str::to_owned),
        };
        let values = [
            value("id", Some("int4"), Some("1")),
            value("a\"b", Some("text"), None),
            LoggedValue::from_text("note", Some("x\"y")),
        ];
        assert_eq!(
            tuple_json(&values),
            r#"[{"value": 1, "attname": "id", "atttype": "int4"}, {"value": null, "attname": "a\"b", "atttype": "text"}, {"value": "x\"y", "attname": "note", "atttype": null}]"#
        );
        assert_eq!(tuple_json(&[]), "[]");
    }
}
