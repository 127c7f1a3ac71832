//! The rows of one table for which any of some stored filters is true, streamed into the result of a set-returning function.
//!
//! # Invariants
//! 1. A filter is used in its stored form, as the output plugin uses it: nothing is parsed again, so no search path of the
//!    caller can change what it means.
//! 2. What may be read is asked for the caller, under the snapshot of the calling statement: privileges and row security are the
//!    server's. Filters run as the table's owner, see `predicate`; where policies hold for the caller, who is no superuser then, all
//!    runs as the caller, because policies ask who that is.
//! 3. Memory does not grow with the table: rows go to the tuplestore one by one, which spills beyond `work_mem`.

use super::compat::executor as compat;
use super::relation::{LockMode, Table, TableId};
use super::session::OwnerScope;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CString;

use crate::error::Report;

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilteredRows {
    /// The table, which the caller has locked.
    pub relation: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// With the rows of its partitions. Tables that inherit from an ordinary one are tables of their own.
    pub partitioned: bool,
    /// Stored filters (`pg_node_tree`), any of which is enough. `None`: every row.
    pub filters: Option<Vec<String>>,
}

/// The row type of a relation. `None`: it has none.
pub fn row_type(relation: u32) -> Option<u32> {
    // SAFETY: a look-up in the system caches, inside a transaction.
    let found = unsafe { pg_sys::get_rel_type_id(pg_sys::Oid::from(relation)) };
    (found != pg_sys::InvalidOid).then(|| found.to_u32())
}

/// The type's name, for messages.
pub fn type_name(oid: u32) -> String {
    // SAFETY: returns a palloc'd string, also for types that do not exist.
    let name = unsafe { core::ffi::CStr::from_ptr(pg_sys::format_type_be(pg_sys::Oid::from(oid))) };
    name.to_string_lossy().into_owned()
}

impl FilteredRows {
    fn text(&self) -> CString {
        let quote = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let only = if self.partitioned { "" } else { "ONLY " };
        let text = format!("SELECT * FROM {only}{}.{}", quote(&self.schema), quote(&self.name));
        CString::new(text).unwrap_or_default()
    }

    /// The query with the filters as its condition.
    ///
    /// # Safety
    /// Inside a transaction; the result lives in the current memory context.
    unsafe fn query(&self, text: &CString) -> Result<*mut pg_sys::Query, Report> {
        // SAFETY: one statement is parsed, so the list has one element; it names one table, which is range table entry 1,
        // the one that stored filters refer to. The lists and trees live in the current context.
        unsafe {
            let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
            let statement = (*(*statements).elements).ptr_value.cast::<pg_sys::RawStmt>();
            let query = pg_sys::parse_analyze_fixedparams(
                statement,
                text.as_ptr(),
                core::ptr::null(),
                0,
                core::ptr::null_mut(),
            );
            let entry = (*(*(*query).rtable).elements).ptr_value.cast::<pg_sys::RangeTblEntry>();
            if (*entry).relid.to_u32() != self.relation {
                return Err(Report::new(
                    PgSqlErrorCode::ERRCODE_OBJECT_IN_USE,
                    format!("table \"{}.{}\" was replaced while it was looked up", self.schema, self.name),
                ));
            }
            if let Some(filters) = &self.filters {
                let mut conditions = core::ptr::null_mut();
                for filter in filters {
                    let tree = CString::new(filter.as_str()).unwrap_or_default();
                    conditions = pg_sys::lappend(conditions, pg_sys::stringToNode(tree.as_ptr()));
                }
                (*(*query).jointree).quals = pg_sys::make_orclause(conditions).cast();
                compat::check_as(query, pg_sys::GetUserId());
            }
            Ok(query)
        }
    }

    /// `None`: there are no filters, or all runs as the caller.
    fn enter_owner(&self) -> Option<OwnerScope> {
        self.filters.as_ref()?;
        let relation = pg_sys::Oid::from(self.relation);
        // SAFETY: looks at catalogs, and raises nothing about policies.
        let policies = unsafe { pg_sys::check_enable_rls(relation, pg_sys::InvalidOid, true) };
        if policies == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32 {
            return None;
        }
        Table::try_open(TableId::of(self.relation), LockMode::AccessShare).as_ref().and_then(OwnerScope::enter)
    }

    /// Answers a call of a set-returning function whose rows have the type of the table.
    ///
    /// # Safety
    /// `raw` is the argument of the version-1 function that is being called.
    pub(super) unsafe fn answer(&self, raw: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum, Report> {
        let text = self.text();
        // SAFETY: sets up the tuplestore or raises when the caller takes no set. The receiver, the plan and the executor's
        // state live in the call's context and in those of the executor; on ERROR abort cleans up all of them. A calling
        // statement has an active snapshot.
        unsafe {
            pg_sys::InitMaterializedSRF(raw, 0);
            let result = (*raw).resultinfo.cast::<pg_sys::ReturnSetInfo>();
            let query = self.query(&text)?;
            let owner = self.enter_owner();
            let rewritten = pg_sys::QueryRewrite(query);
            let query = (*(*rewritten).elements).ptr_value.cast::<pg_sys::Query>();
            let plan = pg_sys::pg_plan_query(query, text.as_ptr(), 0, core::ptr::null_mut());
            let receiver = pg_sys::CreateTuplestoreDestReceiver();
            pg_sys::SetTuplestoreDestReceiverParams(
                receiver,
                (*result).setResult,
                (*(*result).econtext).ecxt_per_query_memory,
                false,
                // Fills the places of dropped columns.
                (*result).setDesc,
                c"the table's columns do not fit its row type".as_ptr(),
            );
            let run = pg_sys::CreateQueryDesc(
                plan,
                text.as_ptr(),
                pg_sys::GetActiveSnapshot(),
                core::ptr::null_mut(),
                receiver,
                core::ptr::null_mut(),
                core::ptr::null_mut(),
                0,
            );
            pg_sys::ExecutorStart(run, 0);
            compat::run_to_end(run);
            pg_sys::ExecutorFinish(run);
            pg_sys::ExecutorEnd(run);
            pg_sys::FreeQueryDesc(run);
            drop(owner);
        }
        Ok(pg_sys::Datum::from(0_usize))
    }
}
