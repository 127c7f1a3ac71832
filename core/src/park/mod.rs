//! Transactions that are put aside whole because they cannot be applied: what each of them touches, which later ones must wait
//! behind them, in which order they are applied in the end, how they are stored. The extension writes tables; it decides
//! nothing of this.
//!
//! Order in this folder: [`touched`] (what a transaction touches), [`order`] (who waits for whom, and how many may), [`content`]
//! (the stored form of a transaction).
//!
//! # Invariants
//! 1. Two transactions that change one row are applied in the order in which they were committed. Where it cannot be told
//!    whether they do, they are taken to.
//! 2. A transaction that waits is parked itself, so that the stream goes on.
//! 3. What is parked is bounded in number and size; beyond that nothing is parked.

pub mod content;
pub mod order;
pub mod touched;

/// An error of the log, `[SQLSTATE xxxxx] message`, in its parts. An internal error has no code in front.
pub fn cause(text: &str) -> (&str, &str) {
    let parts = text.strip_prefix("[SQLSTATE ").and_then(|rest| rest.split_once("] "));
    match parts {
        Some((code, message)) if code.len() == 5 => (code, message),
        _ => ("XX000", text),
    }
}

#[cfg(test)]
mod tests {
    use super::cause;
    use crate::exceptions::error_text;

    #[test]
    fn causes_are_what_error_texts_were_made_of() {
        for (code, message) in [("23505", "duplicate key"), ("XX000", "broken"), ("P0001", "[SQLSTATE 1] x")] {
            let mut sqlstate = [0; 5];
            sqlstate.copy_from_slice(code.as_bytes());
            assert_eq!(cause(&error_text(sqlstate, message)), (code, message));
        }
        assert_eq!(cause("[SQLSTATE 12] short"), ("XX000", "[SQLSTATE 12] short"));
    }
}
