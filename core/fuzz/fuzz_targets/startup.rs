//! Any bytes as the body of a startup message: the pairs can be walked and the check of the reply never panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spock_core::options::subscriber::Session;
use spock_core::wire::control::Payload;
use spock_core::wire::{Envelope, Message, ProtocolVersion};

fuzz_target!(|body: &[u8]| {
    let bytes = [b"S\x01", body].concat();
    if let Ok(Envelope { message: Message::Startup(startup), .. }) = Envelope::read(&bytes, ProtocolVersion::V5) {
        let length: usize = startup.pairs().map(|(key, value)| key.len() + value.len() + 2).sum();
        assert_eq!(length, body.len());
        let _ = Session::accept(&startup, "UTF8");
    }
    if let Ok(payload) = Payload::read(body) {
        assert_eq!(Payload::read(&payload.to_bytes()), Ok(payload));
    }
});
