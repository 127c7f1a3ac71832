//! Row filters: SQL text in, the server's stored form of an expression out. The output plugin evaluates the stored form.
//!
//! # Invariants
//! 1. A filter is one expression over the columns of one table: no other table, no subquery, no aggregate.
//! 2. The stored form names columns by number, so a filter is made for each partition on its own, never copied to one.
//! 3. Filters run as the owner of their table, who must be allowed to.

use core::ffi::CStr;
use pgrx::datum::DatumWithOid;
use pgrx::{PgSqlErrorCode, pg_sys};
use std::ffi::CString;

use super::session::OwnerScope;
use crate::error::Report;

/// A checked filter in its stored form (`pg_node_tree`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFilter(String);

fn not_one_expression() -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, "the row filter is not a single expression")
        .hint("Give what would stand behind WHERE, for example: id > 100 AND kind = 'a'.")
}

/// The one expression that `text` consists of, as the parser left it.
///
/// # Safety
/// Inside a transaction; the result lives in the current memory context.
unsafe fn parse_expression(text: &CStr) -> Result<*mut pg_sys::Node, Report> {
    // SAFETY: the parser returns a list of one RawStmt over a SelectStmt in this mode, or raises; each step looks at the
    // node's tag or at null before it goes on.
    unsafe {
        let statements = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_PLPGSQL_EXPR);
        if statements.is_null() || (*statements).length != 1 {
            return Err(not_one_expression());
        }
        let statement = (*(*statements).elements).ptr_value.cast::<pg_sys::RawStmt>();
        let select = (*statement).stmt;
        if select.is_null() || (*select).type_ != pg_sys::NodeTag::T_SelectStmt {
            return Err(not_one_expression());
        }
        let select = &*select.cast::<pg_sys::SelectStmt>();
        let clauses = [
            select.distinctClause,
            select.fromClause,
            select.groupClause,
            select.windowClause,
            select.valuesLists,
            select.sortClause,
            select.lockingClause,
        ];
        let more = clauses.iter().any(|clause| !clause.is_null())
            || !select.whereClause.is_null()
            || !select.havingClause.is_null()
            || !select.limitOffset.is_null()
            || !select.limitCount.is_null()
            || !select.intoClause.is_null()
            || !select.withClause.is_null()
            || select.op != pg_sys::SetOperation::SETOP_NONE;
        if more || select.targetList.is_null() || (*select.targetList).length != 1 {
            return Err(not_one_expression());
        }
        let target = (*(*select.targetList).elements).ptr_value.cast::<pg_sys::ResTarget>();
        let value = (*target).val;
        if !(*target).name.is_null() || !(*target).indirection.is_null() || value.is_null() || is_bare_star(value) {
            return Err(not_one_expression());
        }
        Ok(value)
    }
}

/// `*` alone, which is a list of columns and no expression.
///
/// # Safety
/// `node` is a raw parse node.
unsafe fn is_bare_star(node: *const pg_sys::Node) -> bool {
    // SAFETY: a ColumnRef has a list of at least one field.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_ColumnRef {
            return false;
        }
        let fields = (*node.cast::<pg_sys::ColumnRef>()).fields;
        let first = (*(*fields).elements).ptr_value.cast::<pg_sys::Node>();
        (*first).type_ == pg_sys::NodeTag::T_A_Star
    }
}

impl RowFilter {
    /// Checks `text` against the columns of `relation` under the rules of CHECK constraints. Errors of the parser and of
    /// name resolution are the server's own.
    pub fn parse(text: &str, relation: u32) -> Result<Self, Report> {
        let source = CString::new(text).map_err(|_| not_one_expression())?;
        // SAFETY: inside a transaction. The relation stays open until its columns have been resolved and locked to the end
        // of the transaction; on ERROR, abort closes it. The expression is only written out, not kept.
        unsafe {
            let expression = parse_expression(&source)?;
            let table = pg_sys::table_open(pg_sys::Oid::from(relation), pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            let state = pg_sys::make_parsestate(core::ptr::null_mut());
            (*state).p_sourcetext = source.as_ptr();
            let item = pg_sys::addRangeTableEntryForRelation(
                state,
                table,
                pg_sys::AccessShareLock as core::ffi::c_int,
                core::ptr::null_mut(),
                false,
                true,
            );
            pg_sys::addNSItemToQuery(state, item, true, true, true);
            let checked = pg_sys::transformExpr(state, expression, pg_sys::ParseExprKind::EXPR_KIND_CHECK_CONSTRAINT);
            let checked = pg_sys::coerce_to_boolean(state, checked, c"row filter".as_ptr());
            pg_sys::assign_expr_collations(state, checked);
            let volatile = pg_sys::contain_volatile_functions(checked);
            let owner = OwnerScope::enter_as((*(*table).rd_rel).relowner);
            // Asks whether the owner may call the functions.
            pg_sys::ExecInitExpr(pg_sys::expression_planner(checked.cast()), core::ptr::null_mut());
            drop(owner);
            let stored = CStr::from_ptr(pg_sys::nodeToString(checked.cast())).to_string_lossy().into_owned();
            pg_sys::free_parsestate(state);
            pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
            if volatile {
                return Err(Report::new(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    "the row filter calls a volatile function",
                )
                .hint("What a filter decides must depend on the row alone."));
            }
            Ok(Self(stored))
        }
    }

    /// The stored form.
    pub fn tree(&self) -> &str {
        &self.0
    }

    /// As a parameter of a statement.
    pub fn parameter(&self) -> DatumWithOid<'_> {
        // SAFETY: a pg_node_tree is stored as text is, and the text came from the server's own writer of expressions.
        unsafe { DatumWithOid::new(self.0.as_str(), pg_sys::PG_NODE_TREEOID) }
    }

    /// The parameter for "no filter".
    pub fn null_parameter() -> DatumWithOid<'static> {
        DatumWithOid::null_oid(pg_sys::PG_NODE_TREEOID)
    }
}
