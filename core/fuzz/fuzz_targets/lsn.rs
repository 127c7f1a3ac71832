//! Any text as a WAL position: no panic, and what is read is shown as text that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spock_core::types::Lsn;

fuzz_target!(|text: &str| {
    if let Ok(Some(lsn)) = Lsn::parse(text) {
        assert_eq!(Lsn::parse(&lsn.to_string()), Ok(Some(lsn)));
    }
});
