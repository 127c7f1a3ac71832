//! Names and ids that other nodes rely on: node, interface and set ids, slot names, application names. Source: the SQL
//! contract, section 5. Quirks of the C edition are part of the format and are kept.

use crate::hash::hash_bytes;
use crate::types::NodeId;
use core::fmt;

/// Bytes that a name of the server can have, its NUL not counted.
pub const NAME_LEN_MAX: usize = 63;
/// Bytes that each part of a slot name keeps.
const SLOT_PART_LEN: usize = 16;
/// Bytes of an application name that a base and a suffix share, the blank between them not counted.
const APPLICATION_NAME_LEN: usize = 62;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// No byte in it.
    Empty,
    /// More than [`NAME_LEN_MAX`] bytes.
    TooLong {
        /// How many bytes it has.
        len: usize,
    },
    /// A character that slot names do not allow.
    BadCharacter {
        /// The first such character.
        found: char,
    },
    /// Its id would be 0 ("written here") or 65535 ("do not replicate"), which the server reserves.
    ReservedId,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { len } => write!(f, "has {len} bytes, at most {NAME_LEN_MAX} are allowed"),
            Self::BadCharacter { found } => write!(f, "contains the character \"{found}\""),
            Self::ReservedId => f.write_str("hashes to an id that the server reserves"),
        }
    }
}

impl std::error::Error for NameError {}

fn check_length(name: &str) -> Result<(), NameError> {
    match name.len() {
        0 => Err(NameError::Empty),
        len if len > NAME_LEN_MAX => Err(NameError::TooLong { len }),
        _ => Ok(()),
    }
}

/// The id of the node called `name`: 16 bits of its hash, because it travels as a replication origin number.
///
/// # Errors
/// [`NameError`] for an empty or long name and for a name whose id the server reserves.
pub fn node_id(name: &str) -> Result<NodeId, NameError> {
    check_length(name)?;
    match hash_bytes(name.as_bytes()) & 0xffff {
        0xffff => Err(NameError::ReservedId),
        id => NodeId::new(id).ok_or(NameError::ReservedId),
    }
}

/// Hash of a node id and a name in the byte order of a little-endian server.
fn id_in_node(node: NodeId, name: &str) -> u32 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&node.get().to_le_bytes());
    bytes[4..].copy_from_slice(&hash_bytes(name.as_bytes()).to_le_bytes());
    hash_bytes(&bytes)
}

/// The id of a node's interface.
pub fn interface_id(node: NodeId, interface: &str) -> u32 {
    id_in_node(node, interface)
}

/// The id of a node's replication set.
pub fn replication_set_id(node: NodeId, set: &str) -> u32 {
    id_in_node(node, set)
}

/// `name` cut to `len` bytes with a hash in place of its tail. A shortened name has `len` - 1 bytes, because the last of
/// the eight hex digits falls off.
pub fn shorten(name: &[u8], len: usize) -> Vec<u8> {
    if name.len() <= len {
        return name.to_vec();
    }
    let mut short = name[..len.saturating_sub(8)].to_vec();
    short.extend_from_slice(format!("{:08x}", hash_bytes(name)).as_bytes());
    short.truncate(len.saturating_sub(1));
    short
}

/// The slot on the provider, and the replication origin on the subscriber. `database` is the subscriber's.
pub fn slot_name(database: &str, provider: &str, subscription: &str) -> String {
    let parts = [database, provider, subscription].map(|part| shorten(part.as_bytes(), SLOT_PART_LEN));
    let mut name = b"spk_".to_vec();
    name.extend_from_slice(&parts.join(&b'_'));
    name.truncate(NAME_LEN_MAX);
    let legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    name.into_iter().map(|byte| if legal(byte) { char::from(byte) } else { '_' }).collect()
}

/// The slot and origin of a single table's copy. `table` is the quoted qualified name.
pub fn table_sync_slot_name(slot: &str, table: &str) -> String {
    format!("{slot}_{:08x}", hash_bytes(table.as_bytes()))
}

/// What a connection calls itself: the base, shortened, and the suffix that tells its purpose.
pub fn application_name(base: &str, suffix: Option<&str>) -> String {
    let Some(suffix) = suffix else { return base.to_owned() };
    let short = shorten(base.as_bytes(), APPLICATION_NAME_LEN.saturating_sub(suffix.len()));
    let mut name = String::from_utf8_lossy(&short).into_owned();
    name.push('_');
    name.push_str(suffix);
    name
}

/// Subscription names become part of slot names, so they are as narrow: `a-z`, `0-9`, `_`, at most 63 bytes.
///
/// # Errors
/// [`NameError`] says what is wrong.
pub fn check_subscription_name(name: &str) -> Result<(), NameError> {
    check_length(name)?;
    match name.chars().find(|found| !matches!(found, 'a'..='z' | '0'..='9' | '_')) {
        Some(found) => Err(NameError::BadCharacter { found }),
        None => Ok(()),
    }
}

/// The group that the C edition puts this slot into: a name that ends in `_` and one digit. We never group; a subscriber
/// warns when its C provider would.
pub fn slot_group(slot: &str) -> Option<&str> {
    let (group, digit) = slot.rsplit_once('_')?;
    (digit.len() == 1 && digit.bytes().all(|byte| byte.is_ascii_digit())).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> u32 {
        node_id(name).expect(name).get()
    }

    #[test]
    fn node_ids_are_those_of_existing_clusters() {
        let known = [
            ("n1", 49708),
            ("n2", 26863),
            ("n3", 9057),
            ("n4", 64086),
            ("test_subscriber", 52665),
            ("test_provider", 45328),
        ];
        for (name, id) in known {
            assert_eq!(node(name), id, "{name}");
        }
        assert_eq!(node_id(""), Err(NameError::Empty));
        assert_eq!(node_id(&"x".repeat(64)), Err(NameError::TooLong { len: 64 }));
    }

    #[test]
    fn ids_in_a_node_are_those_of_existing_clusters() {
        let provider = node_id("test_provider").expect("provider");
        let subscriber = node_id("test_subscriber").expect("subscriber");
        assert_eq!(interface_id(provider, "super2"), 1_679_954_453);
        let sets = [
            (provider, "repset_replicate_all", 2_353_314_786),
            (provider, "repset_replicate_instrunc", 1_585_236_067),
            (provider, "repset_replicate_insupd", 384_626_605),
            (subscriber, "default", 1_814_541_545),
            (subscriber, "default_insert_only", 1_909_385_617),
            (subscriber, "ddl_sql", 2_586_246_310),
        ];
        for (node, set, id) in sets {
            assert_eq!(replication_set_id(node, set), id, "{set}");
        }
    }

    #[test]
    fn a_shortened_name_loses_its_last_digit() {
        let cases = [
            ("short", 16, "short"),
            ("exactly_16_bytes", 16, "exactly_16_bytes"),
            ("a_very_long_subscription_name", 16, "a_very_le964e89"),
            ("test_subscription", 16, "test_sube55bf37"),
            ("aaaaaaaaaaaaaaaaa", 16, "aaaaaaaa0e8e031"),
        ];
        for (name, len, want) in cases {
            assert_eq!(shorten(name.as_bytes(), len), want.as_bytes(), "{name}");
        }
    }

    #[test]
    fn slot_names_are_those_of_existing_clusters() {
        assert_eq!(
            slot_name("postgres", "test_provider", "test_subscription"),
            "spk_postgres_test_provider_test_sube55bf37"
        );
        assert_eq!(slot_name("pgedge", "n1", "sub_n1_n2"), "spk_pgedge_n1_sub_n1_n2");
        assert_eq!(slot_name("My-DB", "n1", "s"), "spk__y____n1_s");
        let longest = slot_name(&"d".repeat(63), &"p".repeat(63), &"s".repeat(63));
        assert!(longest.len() <= 54, "{longest}");
        assert!(table_sync_slot_name(&longest, "public.t1").ends_with("_7255cc5d"));
    }

    #[test]
    fn subscription_names_are_checked() {
        assert_eq!(check_subscription_name("sub_n1_2"), Ok(()));
        assert_eq!(check_subscription_name(""), Err(NameError::Empty));
        assert_eq!(check_subscription_name("Sub"), Err(NameError::BadCharacter { found: 'S' }));
        assert_eq!(check_subscription_name(&"s".repeat(64)), Err(NameError::TooLong { len: 64 }));
    }

    #[test]
    fn application_names_fit_and_keep_their_suffix() {
        assert_eq!(application_name("spk_a_b_c", None), "spk_a_b_c");
        assert_eq!(application_name("sub", Some("create")), "sub_create");
        let long = application_name(&"s".repeat(63), Some("copy_slot"));
        assert!(long.len() <= NAME_LEN_MAX && long.ends_with("_copy_slot"), "{long}");
    }

    #[test]
    fn groups_are_recognised() {
        for (slot, group) in [("spk_db_n1_sub_1", Some("spk_db_n1_sub")), ("spk_db_n1_sub_12", None), ("spk", None)] {
            assert_eq!(slot_group(slot), group, "{slot}");
        }
    }
}
