//! Transactions that are just committing: their commit time is taken, their commit record may not be in the WAL yet.

use core::ffi::c_int;
use pgrx::pg_sys;

/// `DELAY_CHKPT_START`: set by a commit before it takes its time, cleared after its record is in the WAL. The same in 15 to 18.
const COMMITTING: c_int = 1;

/// The transactions that were committing when it was taken.
pub struct Committing(Vec<pg_sys::VirtualTransactionId>);

impl Committing {
    /// Those of now, of all databases. Others that set the same flag for a moment may be among them.
    pub fn now() -> Self {
        let mut count: c_int = 0;
        // SAFETY: the result is a fresh array of `count` elements, copied and freed here.
        unsafe {
            let found = pg_sys::GetVirtualXIDsDelayingChkpt(&mut count, COMMITTING);
            let list = core::slice::from_raw_parts(found, usize::try_from(count).unwrap_or_default()).to_vec();
            pg_sys::pfree(found.cast());
            Self(list)
        }
    }

    /// Whether the commit records of all of them are in the WAL.
    pub fn are_done(&mut self) -> bool {
        // At most one for each backend.
        let count = self.0.len() as c_int;
        // SAFETY: reads an array of `count` elements and shared memory.
        count == 0 || unsafe { !pg_sys::HaveVirtualXIDsDelayingChkpt(self.0.as_mut_ptr(), count, COMMITTING) }
    }
}
