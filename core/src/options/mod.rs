//! What a subscriber asks for when it starts a stream, and what a provider grants. Source: the protocol, sections 1.5, 2, 4.
//!
//! Order in this folder: [`identifiers`] (lists of names in one string), [`provider`] (options to [`OutputOptions`], startup
//! reply), [`subscriber`] (the START_REPLICATION command, the check of the reply).
//!
//! # Invariants
//! 1. Strings from outside become typed once, here; nobody sees an option string afterwards.
//! 2. Options that we do not know are ignored, because peers of other versions send some.
//! 3. `float4_byval` and `integer_datetimes` are said to be false on the wire, as every C peer says: the symbols behind them
//!    are gone from the server, and an honest "true" is refused the internal format.

pub mod identifiers;
pub mod provider;
pub mod subscriber;

pub use provider::{OptionsError, OutputOptions};

/// Facts of a node's build that both sides compare before memory images may travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFacts {
    /// `PG_VERSION_NUM`, for example 170011.
    pub pg_version_num: u32,
    /// The machine is big-endian.
    pub big_endian: bool,
    /// Bytes of a Datum.
    pub size_of_datum: u32,
    /// Bytes of a C int.
    pub size_of_int: u32,
    /// Bytes of a C long.
    pub size_of_long: u32,
    /// float8 is passed by value.
    pub float8_by_value: bool,
}

impl BuildFacts {
    /// The facts of this build under a server of this version.
    pub fn of_this_machine(pg_version_num: u32) -> Self {
        Self {
            pg_version_num,
            big_endian: cfg!(target_endian = "big"),
            size_of_datum: usize::BITS / 8,
            size_of_int: i32::BITS / 8,
            size_of_long: usize::BITS / 8,
            float8_by_value: usize::BITS == 64,
        }
    }

    /// What the options call the major version: `PG_VERSION_NUM / 100`, for example 1700.
    pub const fn basetypes_version(&self) -> u32 {
        self.pg_version_num / 100
    }
}
