//! Which schemas the objects lie in that a statement makes, alters or drops.
//!
//! # Invariants
//! 1. Objects that the server makes, alters or drops by itself do not count.
//! 2. The schema of a dropped object is looked up before it goes, that of any other one after the statement.

use core::ffi::{CStr, c_char, c_int};
use pgrx::pg_sys;
use std::cell::RefCell;

use super::script::elements;

/// An object of the server's catalogs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub class: pg_sys::Oid,
    pub object: pg_sys::Oid,
    pub part: c_int,
}

#[derive(Default)]
struct Notes {
    /// To be looked up when the statement is done.
    there: Vec<Address>,
    /// Schemas of what is gone; `None`: in no schema.
    gone: Vec<Option<String>>,
}

thread_local! {
    static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) };
}

/// Takes notes while it lives.
///
/// On ERROR: still runs. It puts back notes of an outer statement.
pub struct Watch {
    outer: Option<Notes>,
}

impl Watch {
    /// Starts.
    pub fn start() -> Self {
        Self { outer: NOTES.replace(Some(Notes::default())) }
    }

    /// The schemas of all objects so far; `None` for one that is in no schema.
    pub fn schemas(&self) -> Vec<Option<String>> {
        let Some(notes) = NOTES.replace(Some(Notes::default())) else { return Vec::new() };
        // SAFETY: the statement is done, and what it made is visible.
        let there = notes.there.iter().map(|address| unsafe { schema_of(*address) });
        notes.gone.into_iter().chain(there).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        NOTES.set(self.outer.take());
    }
}

/// An object was made or altered.
pub(super) fn note(address: Address) {
    NOTES.with_borrow_mut(|notes| {
        if let Some(notes) = notes {
            notes.there.push(address);
        }
    });
}

/// An object is about to go.
///
/// # Safety
/// Inside the transaction that drops it, before it is gone.
pub(super) unsafe fn note_drop(address: Address) {
    if NOTES.with_borrow(Option::is_none) {
        return;
    }
    // SAFETY: the caller's promise.
    let schema = unsafe { schema_of(address) };
    NOTES.with_borrow_mut(|notes| {
        if let Some(notes) = notes {
            notes.gone.push(schema);
        }
    });
}

/// The schema of an object that a statement names. `None`: it is in no schema, or is not there.
///
/// # Safety
/// `name` is what the parser makes of names of that kind.
pub(super) unsafe fn schema_of_named(kind: pg_sys::ObjectType::Type, name: *mut pg_sys::Node) -> Option<String> {
    let mut relation: pg_sys::Relation = core::ptr::null_mut();
    // SAFETY: the caller's promise. The lock is the weakest one, and the statement takes one on the object anyway.
    let found = unsafe {
        pg_sys::get_object_address(kind, name, &mut relation, pg_sys::AccessShareLock as pg_sys::LOCKMODE, true)
    };
    if !relation.is_null() {
        // SAFETY: opened by the look-up; the lock stays to the end of the transaction.
        unsafe { pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE) }
    }
    if found.objectId == pg_sys::InvalidOid {
        return None;
    }
    // SAFETY: an object that was found just now.
    unsafe { schema_of(Address { class: found.classId, object: found.objectId, part: found.objectSubId }) }
}

/// # Safety
/// The object is visible, or was dropped since.
unsafe fn schema_of(address: Address) -> Option<String> {
    let owned = |text: *const c_char| {
        // SAFETY: a NUL-terminated string of the server.
        (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    // Only relations have parts that are addressed.
    let whole = pg_sys::ObjectAddress { classId: address.class, objectId: address.object, objectSubId: 0 };
    let is = |class: u32| address.class.to_u32() == class;
    // SAFETY: look-ups in the catalogs that do not mind a missing object.
    unsafe {
        if is(pg_sys::NamespaceRelationId.to_u32()) {
            return owned(pg_sys::get_namespace_name(address.object));
        }
        // The server names a new default by its table and column.
        let default_of_column = is(pg_sys::AttrDefaultRelationId.to_u32()) && address.part != 0;
        if is(pg_sys::RelationRelationId.to_u32()) || default_of_column {
            return owned(pg_sys::get_namespace_name(pg_sys::get_rel_namespace(address.object)));
        }
        let parts_of_relations = [
            pg_sys::TriggerRelationId,
            pg_sys::PolicyRelationId,
            pg_sys::RewriteRelationId,
            pg_sys::AttrDefaultRelationId,
            pg_sys::ConstraintRelationId,
        ];
        let hangs_on_relation = parts_of_relations.iter().any(|class| is(class.to_u32()));
        if !hangs_on_relation {
            let known = pg_sys::is_objectclass_supported(address.class)
                && i32::from(pg_sys::get_object_attnum_namespace(address.class)) > 0;
            if !known {
                return None;
            }
        }
        let mut names: *mut pg_sys::List = core::ptr::null_mut();
        let mut arguments: *mut pg_sys::List = core::ptr::null_mut();
        if pg_sys::getObjectIdentityParts(&whole, &mut names, &mut arguments, true).is_null() {
            return None;
        }
        if hangs_on_relation {
            return elements(names).next().and_then(|first| owned(first.cast()));
        }
        owned(pg_sys::get_namespace_name(pg_sys::get_object_namespace(&whole)))
    }
}
