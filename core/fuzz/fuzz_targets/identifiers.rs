//! Any text as a list of identifiers: no panic, and what is split is joined to a list that splits the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spock_core::options::identifiers::{join, split};
use spock_core::options::provider::boolean;

fuzz_target!(|text: &str| {
    for separator in [',', '.'] {
        if let Ok(names) = split(text, separator) {
            assert!(names.iter().all(|name| !name.is_empty()));
            assert_eq!(split(&join(&names), ','), Ok(names));
        }
    }
    let _ = boolean(text);
});
