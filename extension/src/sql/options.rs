//! `sub_alter_options`: what a subscription asks for besides its sets, changed by a JSON object.
//!
//! # Invariants
//! 1. Every key is checked before anything is written.
//! 2. A change restarts the worker at commit, as every change of a subscription does.

use pgrx::PgSqlErrorCode;

use super::subscription::{FORWARD_ALL, refuse_mixed_forwarding, require};
use super::{null_argument, required_name};
use crate::catalog::query::{Row, select, select_one};
use crate::catalog::topology::{self, SubscriptionOptions};
use crate::error::Report;
use crate::pg::authority::require_administrator;
use crate::pg::function::{Answer, ArgType, Call, Value};
use crate::worker::registry::{Change, signal_at_commit};

const HINT_KEYS: &str = "The options are forward_origins, apply_delay and skip_schema.";

fn invalid(message: String) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
}

/// One member of the object.
struct Member {
    key: String,
    /// `jsonb_typeof`
    kind: String,
    /// The value as text, a string without its quotes.
    text: Option<String>,
    /// Elements of an array of strings; `None`: it is no such array.
    strings: Option<Vec<String>>,
}

impl Member {
    fn read(row: &Row<'_>) -> Result<Self, Report> {
        let all_strings: bool = row.get(4)?;
        let strings = row.texts(5)?;
        Ok(Self { key: row.get(1)?, kind: row.get(2)?, text: row.opt(3)?, strings: all_strings.then_some(strings) })
    }

    fn string(self) -> Result<String, Report> {
        match self.text {
            Some(text) if self.kind == "string" => Ok(text),
            _ => Err(invalid(format!("option \"{}\" must be a string", self.key))),
        }
    }

    fn names(self) -> Result<Vec<String>, Report> {
        let Self { key, strings, .. } = self;
        let mut names: Vec<String> = Vec::new();
        for name in strings.ok_or_else(|| invalid(format!("option \"{key}\" must be an array of strings")))? {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }
}

/// The members of a JSON object in the order in which the server keeps them.
fn members(json: &str) -> Result<Vec<Member>, Report> {
    let kind = select_one("SELECT pg_catalog.jsonb_typeof($1::jsonb)", &[json.into()], |row| row.get::<String>(1))?;
    if kind.as_deref() != Some("object") {
        return Err(invalid("the options must be a JSON object".to_owned()).hint(HINT_KEYS));
    }
    select(
        "SELECT m.key, pg_catalog.jsonb_typeof(m.value), m.value #>> '{}',
             pg_catalog.jsonb_typeof(m.value) = 'array' AND NOT EXISTS (
                 SELECT FROM pg_catalog.jsonb_array_elements(a.elements) e WHERE pg_catalog.jsonb_typeof(e) <> 'string'),
             ARRAY(SELECT e #>> '{}' FROM pg_catalog.jsonb_array_elements(a.elements) e)
           FROM pg_catalog.jsonb_each($1::jsonb) m
           CROSS JOIN LATERAL (
               SELECT CASE pg_catalog.jsonb_typeof(m.value) WHEN 'array' THEN m.value ELSE '[]' END AS elements) a",
        &[json.into()],
        Member::read,
    )
}

/// 22023 when `forward_origins` names something that does not exist.
pub(super) fn check_forward_origins(names: &[String]) -> Result<(), Report> {
    match names.iter().find(|name| *name != FORWARD_ALL) {
        None => Ok(()),
        Some(other) => Err(invalid(format!("forward_origins does not know \"{other}\""))
            .hint("Leave it empty for the provider's own changes, or give \"all\" for everything that arrives there.")),
    }
}

/// `sub_alter_options(subscription_name, options)`
pub fn alter(call: &Call) -> Result<Answer, Report> {
    require_administrator("alter a subscription")?;
    let name = required_name(call, 0, "the subscription's name")?;
    let json = call.output(1, ArgType::Jsonb).ok_or_else(|| null_argument("the options"))?;
    let local = topology::local_node_locked()?;
    let subscription = require(&name)?;
    let mut wanted = SubscriptionOptions::default();
    for member in members(&json)? {
        match member.key.as_str() {
            "forward_origins" => {
                let names = member.names()?;
                check_forward_origins(&names)?;
                wanted.forward_origins = Some(names);
            }
            "apply_delay" => wanted.apply_delay = Some(member.string()?),
            "skip_schema" => wanted.skip_schemas = Some(member.names()?),
            other => {
                return Err(invalid(format!("subscriptions have no option \"{other}\"")).hint(HINT_KEYS));
            }
        }
    }
    if wanted == SubscriptionOptions::default() {
        return Ok(Answer::One(Value::Bool(false)));
    }
    if let Some(origins) = &wanted.forward_origins
        && subscription.enabled
    {
        refuse_mixed_forwarding(&local, &name, !origins.is_empty())?;
    }
    topology::set_subscription_options(subscription.id, &wanted)?;
    signal_at_commit(Change::Restart(subscription.id));
    Ok(Answer::One(Value::Bool(true)))
}
