//! Any bytes as a frame of the replication sub-protocol, in both directions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spock_core::wire::frame::{Frame, StandbyStatus};

fuzz_target!(|bytes: &[u8]| {
    let mut again = Vec::new();
    match Frame::read(bytes) {
        Ok(Frame::Other(tag)) => assert_eq!(bytes.first(), Some(&tag)),
        Ok(frame) => {
            frame.write(&mut again);
            assert_eq!(again, bytes);
        }
        Err(_) => {}
    }
    if let Ok(status) = StandbyStatus::read(bytes) {
        again.clear();
        status.write(&mut again);
        assert_eq!(again, bytes);
    }
});
