//! Any three lines as database, provider and subscription: names that the server accepts come out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spock_core::names;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n').chain(["", "", ""]);
    let (Some(database), Some(provider), Some(subscription)) = (lines.next(), lines.next(), lines.next()) else {
        return;
    };
    let slot = names::slot_name(database, provider, subscription);
    assert!(slot.len() <= 54 && slot.starts_with("spk_"), "{slot}");
    assert!(slot.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_')), "{slot}");
    assert!(names::table_sync_slot_name(&slot, provider).len() <= names::NAME_LEN_MAX);
    let application = names::application_name(subscription, Some("copy_slot"));
    assert!(application.ends_with("_copy_slot"));
    if let Ok(node) = names::node_id(provider) {
        assert!((1..0xffff).contains(&node.get()));
        let _ = names::interface_id(node, database);
    }
    let _ = (names::check_subscription_name(subscription), names::slot_group(text));
});
