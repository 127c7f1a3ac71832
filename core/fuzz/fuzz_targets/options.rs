//! Lines `name=value` as the options of START_REPLICATION: no panic, and what is granted is in the startup reply.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spock_core::options::provider::{OptionPair, ProviderFacts};
use spock_core::options::subscriber::Session;
use spock_core::options::{BuildFacts, OutputOptions};
use spock_core::wire::control::Startup;
use spock_core::wire::{Envelope, Message, ProtocolVersion};

fuzz_target!(|text: &str| {
    // The server hands over C strings.
    if text.contains('\0') {
        return;
    }
    let facts = ProviderFacts {
        build: BuildFacts::of_this_machine(170_011),
        pg_version: "17.11".to_owned(),
        catalog_version: 202_406_281,
        max_align: 8,
        encoding: "UTF8".to_owned(),
        spock_version: "7.0.0".to_owned(),
        spock_version_num: 70_000,
    };
    let pairs: Vec<OptionPair<'_>> = text
        .lines()
        .map(|line| line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value))))
        .collect();
    match OutputOptions::parse(&pairs, &facts) {
        Ok(options) => {
            let reply = options.startup_reply(&facts, 1);
            let mut bytes = Vec::new();
            Startup::write_of(&mut bytes, reply.iter().map(|(key, value)| (*key, value.as_str())));
            let Ok(Envelope { message: Message::Startup(startup), .. }) = Envelope::read(&bytes, ProtocolVersion::V4)
            else {
                panic!("our own reply cannot be read");
            };
            if options.encoding == facts.encoding {
                assert_eq!(Session::accept(&startup, "UTF8").map(|session| session.version), Ok(options.version));
            }
        }
        Err(error) => {
            assert_eq!(error.sqlstate().len(), 5);
            assert!(!error.to_string().is_empty());
        }
    }
});
