//! The door to what differs between PostgreSQL majors. Each `compatNN/` exports the same items; nothing else in the
//! crate asks for the major.

#[cfg_attr(feature = "pg15", path = "../../../compat15/mod.rs")]
#[cfg_attr(feature = "pg16", path = "../../../compat16/mod.rs")]
#[cfg_attr(feature = "pg17", path = "../../../compat17/mod.rs")]
#[cfg_attr(feature = "pg18", path = "../../../compat18/mod.rs")]
mod imp;

pub use imp::*;
