//! How a conflict is named in the log, in `spock.resolutions` and in statistics.
//!
//! # Invariants
//! 1. Names and the order of [`ConflictType::ALL`] are a contract with other nodes, tools and stored statistics.

/// What was found out when a remote change met the local table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictType {
    /// INSERT of a row that is there.
    InsertExists,
    /// UPDATE of a row that another node wrote last.
    UpdateOriginDiffers,
    /// UPDATE that would break a unique index.
    UpdateExists,
    /// UPDATE of a row that is not there.
    UpdateMissing,
    /// DELETE of a row that another node wrote last, and before.
    DeleteOriginDiffers,
    /// DELETE of a row that is not there.
    DeleteMissing,
    /// DELETE of a row that was written later.
    DeleteExists,
}

impl ConflictType {
    /// All types, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::InsertExists,
        Self::UpdateOriginDiffers,
        Self::UpdateExists,
        Self::UpdateMissing,
        Self::DeleteOriginDiffers,
        Self::DeleteMissing,
        Self::DeleteExists,
    ];

    /// As `spock.resolutions` and the log name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InsertExists => "insert_exists",
            Self::UpdateOriginDiffers => "update_origin_differs",
            Self::UpdateExists => "update_exists",
            Self::UpdateMissing => "update_missing",
            Self::DeleteOriginDiffers => "delete_origin_differs",
            Self::DeleteMissing => "delete_missing",
            Self::DeleteExists => "delete_exists",
        }
    }
}

/// What was done about a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// The remote change was written.
    ApplyRemote,
    /// The local row stayed.
    KeepLocal,
    /// There was nothing to do.
    Skip,
}

impl Resolution {
    /// As `spock.resolutions` and the log name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApplyRemote => "apply_remote",
            Self::KeepLocal => "keep_local",
            Self::Skip => "skip",
        }
    }
}
