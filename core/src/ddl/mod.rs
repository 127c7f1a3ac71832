//! Which statements that define something are sent to subscribers by themselves (`spock.enable_ddl_replication`), and what
//! becomes of the replication sets afterwards ([`membership`]); and who changes schemas at a time ([`lock`]).
//!
//! # Invariants
//! 1. A statement is sent whole or not at all.
//! 2. What is not sent is said, with its reason.
//! 3. A statement is sent only when its text means on another node what it did here: nothing that was temporary, prepared or
//!    a parameter here.

pub mod lock;
pub mod membership;

/// Where a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A client sent it.
    TopLevel,
    /// A function, a DO block or a procedure runs it.
    Function,
    /// It is a part of another statement.
    Part,
}

/// What decides whether a statement is looked at at all.
#[derive(Debug, Clone, Copy)]
pub struct Gate {
    /// `spock.enable_ddl_replication`
    pub enabled: bool,
    /// `spock.allow_ddl_from_functions`
    pub from_functions: bool,
    /// It runs because it was queued, or the session hides what it does, or restores a structure.
    pub silent: bool,
    /// The script of an extension runs it.
    pub in_extension_script: bool,
    /// Where it runs.
    pub place: Place,
    /// CREATE EXTENSION, DROP EXTENSION, CREATE SCHEMA: not from functions.
    pub top_level_only: bool,
}

impl Gate {
    /// Whether the statement is looked at.
    pub fn opens(self) -> bool {
        if self.silent || !self.enabled {
            return false;
        }
        match self.place {
            Place::TopLevel => true,
            Place::Part => false,
            Place::Function => !self.in_extension_script && self.from_functions && !self.top_level_only,
        }
    }
}

/// What CLUSTER is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clustered {
    /// One table.
    Table,
    /// A partitioned table.
    Partitioned,
    /// Every table that was clustered before.
    All,
}

/// Statements with a rule of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// CREATE TABLE AS, SELECT INTO, CREATE MATERIALIZED VIEW.
    CreateAs {
        /// The query is a prepared statement of this session.
        prepared: bool,
        /// The query reads a temporary relation.
        reads_temporary: bool,
        /// The query has parameters: variables of a function.
        has_parameters: bool,
    },
    /// CREATE INDEX CONCURRENTLY, DROP INDEX CONCURRENTLY, DETACH PARTITION CONCURRENTLY.
    Concurrently,
    /// CLUSTER
    Cluster(Clustered),
    /// Subscriptions of the server's own logical replication.
    Subscription,
    /// Databases.
    Database,
    /// ALTER SYSTEM
    System,
    /// CREATE TABLESPACE, DROP TABLESPACE
    Tablespace,
    /// Options, owner or name of a tablespace.
    TablespaceChange,
    /// All others.
    Other,
}

/// What is known of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Its kind.
    pub statement: Statement,
    /// It makes, changes, drops or copies the definition of a temporary relation.
    pub temporary: bool,
    /// All that it is about lies in schemas whose statements stay here (`spock.reserved_object`).
    pub in_local_schema: bool,
}

/// Why a statement stays here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The schema is marked so.
    LocalSchema,
    /// Temporary objects are of this session.
    Temporary,
    /// Prepared statements are of this session.
    Prepared,
    /// Variables of a function are of this session.
    Parameters,
    /// It cannot run inside a transaction, as replicated statements do.
    OwnTransaction,
    /// It is about this server.
    ThisServer,
}

impl Reason {
    /// As a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::LocalSchema => "Statements about its schema stay on this node (spock.reserved_object).",
            Self::Temporary => "It is about a temporary object of this session.",
            Self::Prepared => "It runs a prepared statement of this session.",
            Self::Parameters => "Its query has variables of a function.",
            Self::OwnTransaction => "It cannot run inside a transaction, as replicated statements do.",
            Self::ThisServer => "It is about this server.",
        }
    }
}

/// What happens to a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Sent {
        /// With the `search_path` that it ran with.
        search_path: bool,
        /// Its result may differ on other nodes: it reads rows.
        risky: bool,
    },
    /// It stays here.
    Stays(Reason),
}

/// Whether a statement may turn out to be sent, as far as can be told before it runs: its kind and what is known to be temporary
/// or of a local schema by then.
pub fn may_be_sent(facts: &Facts) -> bool {
    matches!(verdict(facts), Verdict::Sent { .. })
}

/// Decides.
pub fn verdict(facts: &Facts) -> Verdict {
    let sent = Verdict::Sent { search_path: true, risky: false };
    if facts.in_local_schema {
        return Verdict::Stays(Reason::LocalSchema);
    }
    if facts.temporary {
        return Verdict::Stays(Reason::Temporary);
    }
    match facts.statement {
        Statement::CreateAs { prepared: true, .. } => Verdict::Stays(Reason::Prepared),
        Statement::CreateAs { reads_temporary: true, .. } => Verdict::Stays(Reason::Temporary),
        Statement::CreateAs { has_parameters: true, .. } => Verdict::Stays(Reason::Parameters),
        Statement::CreateAs { .. } => Verdict::Sent { search_path: true, risky: true },
        Statement::Concurrently | Statement::Cluster(Clustered::Partitioned | Clustered::All) => {
            Verdict::Stays(Reason::OwnTransaction)
        }
        Statement::Cluster(Clustered::Table) => Verdict::Sent { search_path: false, risky: false },
        Statement::Subscription | Statement::Database | Statement::System | Statement::Tablespace => {
            Verdict::Stays(Reason::ThisServer)
        }
        Statement::TablespaceChange => Verdict::Sent { search_path: false, risky: false },
        Statement::Other => sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        use Reason::{LocalSchema, OwnTransaction, Parameters, Prepared, Temporary, ThisServer};
        let sent = Verdict::Sent { search_path: true, risky: false };
        let bare = Verdict::Sent { search_path: false, risky: false };
        let create_as = |prepared, reads_temporary, has_parameters| Statement::CreateAs {
            prepared,
            reads_temporary,
            has_parameters,
        };
        let cases = [
            // statement, temporary, in a local schema, verdict
            (Statement::Other, false, false, sent),
            (Statement::Other, true, false, Verdict::Stays(Temporary)),
            (Statement::Other, false, true, Verdict::Stays(LocalSchema)),
            (create_as(false, false, false), false, false, Verdict::Sent { search_path: true, risky: true }),
            (create_as(true, false, false), false, false, Verdict::Stays(Prepared)),
            (create_as(false, true, false), false, false, Verdict::Stays(Temporary)),
            (create_as(false, false, true), false, false, Verdict::Stays(Parameters)),
            (create_as(false, false, false), true, false, Verdict::Stays(Temporary)),
            (Statement::Concurrently, false, false, Verdict::Stays(OwnTransaction)),
            (Statement::Cluster(Clustered::Table), false, false, bare),
            (Statement::Cluster(Clustered::Table), true, false, Verdict::Stays(Temporary)),
            (Statement::Cluster(Clustered::Partitioned), false, false, Verdict::Stays(OwnTransaction)),
            (Statement::Cluster(Clustered::All), false, false, Verdict::Stays(OwnTransaction)),
            (Statement::Subscription, false, false, Verdict::Stays(ThisServer)),
            (Statement::Database, false, false, Verdict::Stays(ThisServer)),
            (Statement::System, false, false, Verdict::Stays(ThisServer)),
            (Statement::Tablespace, false, false, Verdict::Stays(ThisServer)),
            (Statement::TablespaceChange, false, false, bare),
        ];
        for (statement, temporary, in_local_schema, want) in cases {
            let facts = Facts { statement, temporary, in_local_schema };
            assert_eq!(verdict(&facts), want, "{facts:?}");
        }
    }

    #[test]
    fn gates() {
        let open = Gate {
            enabled: true,
            from_functions: false,
            silent: false,
            in_extension_script: false,
            place: Place::TopLevel,
            top_level_only: true,
        };
        let function = Gate { place: Place::Function, from_functions: true, top_level_only: false, ..open };
        let cases = [
            ("given by a client", open, true),
            ("switched off", Gate { enabled: false, ..open }, false),
            ("because it was queued", Gate { silent: true, ..open }, false),
            ("a part of another", Gate { place: Place::Part, ..function }, false),
            ("in a function", function, true),
            ("in a function, not allowed", Gate { from_functions: false, ..function }, false),
            ("CREATE SCHEMA in a function", Gate { top_level_only: true, ..function }, false),
            ("in the script of an extension", Gate { in_extension_script: true, ..function }, false),
        ];
        for (name, gate, want) in cases {
            assert_eq!(gate.opens(), want, "{name}");
        }
    }
}
