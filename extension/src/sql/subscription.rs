//! `sub_create`, `sub_drop` and what changes a subscription.
//!
//! # Invariants
//! 1. The topology's mutex is not held while the network is asked; what was read before is checked again under it.
//! 2. A worker reads its subscription once, so every change restarts it, at commit.
//! 3. What cannot be rolled back (ending a worker, dropping a slot) waits until the transaction is about to commit.
//! 4. A slot is made by the worker, never here; an existing one of the same name is never taken over.

use pgrx::PgSqlErrorCode;
use spock_core::names::{self, NameError};
use spock_core::sync::{SyncKind, SyncState};
use spock_core::types::{NodeId, SubId};

use super::node::{checked_dsn, refuse_taken_id};
use super::options::check_forward_origins;
use super::provider::{self, Provider, ProviderSession};
use super::{null_argument, required_name};
use crate::apply::discard;
use crate::catalog::topology::{self, Dsn, LocalNode, NewSubscription, Subscription};
use crate::catalog::{parked, sync};
use crate::conflict::statistics;
use crate::error::Report;
use crate::pg::authority::{refuse_in_transaction_block, require_administrator};
use crate::pg::before_commit::before_commit;
use crate::pg::function::{Answer, ArgType, Call, Value};
use crate::pg::log_filter::hide_statement;
use crate::pg::raise::{Level, log, warn};
use crate::pg::server;
use crate::sync::{finish, initial, structure};
use crate::worker::progress;
use crate::worker::registry::{Change, signal_at_commit, terminate_workers_and_wait};

/// The only value of `forward_origins`.
pub(super) const FORWARD_ALL: &str = "all";

/// The arguments of `sub_create`, checked as far as they can be without looking anywhere.
struct Wish {
    name: String,
    dsn: Dsn,
    kind: SyncKind,
    sets: Vec<String>,
    forward_origins: Vec<String>,
    apply_delay: String,
    force_text: bool,
    enabled: bool,
    skip_schemas: Vec<String>,
}

impl Wish {
    fn of(call: &Call) -> Result<Self, Report> {
        let name = required_name(call, 0, "the subscription's name")?;
        check_name(&name)?;
        let dsn = checked_dsn(call.text(1).ok_or_else(|| null_argument("the connection string"))?)?;
        let flag = |n| call.boolean(n) == Some(true);
        let kind = match (flag(3), flag(4)) {
            (false, false) => SyncKind::Init,
            (true, false) => SyncKind::Structure,
            (false, true) => SyncKind::Data,
            (true, true) => SyncKind::Full,
        };
        if kind != SyncKind::Init && call.boolean(8) == Some(false) {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("subscription \"{name}\" cannot copy anything while it is not enabled"),
            )
            .hint("Use enabled := true, or neither synchronize_structure nor synchronize_data."));
        }
        let forward_origins = names_of(call, 5, "forward_origins")?;
        check_forward_origins(&forward_origins)?;
        Ok(Self {
            name,
            dsn,
            kind,
            sets: names_of(call, 2, "replication_sets")?,
            forward_origins,
            apply_delay: call.output(6, ArgType::Interval).unwrap_or_default(),
            force_text: call.boolean(7).unwrap_or(false),
            enabled: call.boolean(8).unwrap_or(true),
            skip_schemas: names_of(call, 9, "skip_schema")?,
        })
    }
}

/// A `text[]` argument without NULLs; what is given twice counts once.
fn names_of(call: &Call, n: usize, what: &str) -> Result<Vec<String>, Report> {
    let mut names: Vec<String> = Vec::new();
    for name in call.texts(n).unwrap_or_default() {
        let name = name.ok_or_else(|| null_argument(&format!("an element of {what}")))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The name becomes part of slot names, so it follows their rules.
fn check_name(name: &str) -> Result<(), Report> {
    names::check_subscription_name(name).map_err(|error| {
        let code = match error {
            NameError::TooLong { .. } => PgSqlErrorCode::ERRCODE_NAME_TOO_LONG,
            NameError::Empty | NameError::BadCharacter { .. } | NameError::ReservedId => {
                PgSqlErrorCode::ERRCODE_INVALID_NAME
            }
        };
        Report::new(code, format!("subscription name \"{name}\" {error}"))
            .hint("Use lower case letters, digits and the underscore, at most 63 of them.")
    })
}

fn no_such_subscription(name: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, format!("subscription \"{name}\" does not exist"))
        .hint("spock.sub_show_status() shows the subscriptions of this node.")
}

/// The subscription of that name; 42704 when there is none.
pub fn require(name: &str) -> Result<Subscription, Report> {
    topology::subscription_by_name(name)?.ok_or_else(|| no_such_subscription(name))
}

fn refuse_duplicate(name: &str) -> Result<(), Report> {
    if topology::subscription_by_name(name)?.is_none() {
        return Ok(());
    }
    Err(Report::new(PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT, format!("subscription \"{name}\" already exists"))
        .hint("Choose another name, or drop it first with spock.sub_drop."))
}

/// A node that gets the changes of others through one provider must not get them from those others, too: they would arrive
/// twice and out of order. 55000.
pub(super) fn refuse_mixed_forwarding(local: &LocalNode, name: &str, forwards: bool) -> Result<(), Report> {
    let others = topology::subscriptions_of(local.node.id)?;
    let other = others
        .iter()
        .filter(|subscription| subscription.enabled && subscription.name != name)
        .find(|subscription| forwards || !subscription.forward_origins.is_empty());
    let Some(other) = other else {
        return Ok(());
    };
    let which = if forwards { name } else { &other.name };
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("subscription \"{name}\" cannot be enabled beside subscription \"{}\"", other.name),
    )
    .detail(format!(
        "Subscription \"{which}\" receives the changes of other nodes through its provider; a second enabled subscription \
         could receive them again."
    ))
    .hint("Disable or drop one of them, or use forward_origins = '{}'."))
}

/// `sub_create(…)`
pub fn create(call: &Call) -> Result<Answer, Report> {
    hide_statement();
    require_administrator("create a subscription")?;
    let wish = Wish::of(call)?;
    let local = topology::require_local_node()?;
    refuse_duplicate(&wish.name)?;
    if wish.enabled {
        refuse_mixed_forwarding(&local, &wish.name, !wish.forward_origins.is_empty())?;
    }
    let (provider, slot_name) = ask_provider(&wish, &local)?;

    let local = topology::local_node_locked()?;
    refuse_duplicate(&wish.name)?;
    if wish.enabled {
        refuse_mixed_forwarding(&local, &wish.name, !wish.forward_origins.is_empty())?;
    }
    let origin_if = known_interface(&provider, &wish.dsn)?;
    look_at_others(&wish, &local, &provider, &slot_name)?;
    let id = topology::insert_subscription(&NewSubscription {
        name: &wish.name,
        origin: provider.id,
        target: local.node.id,
        origin_if,
        target_if: local.interface.id,
        enabled: wish.enabled,
        slot_name: &slot_name,
        replication_sets: &wish.sets,
        forward_origins: &wish.forward_origins,
        apply_delay: &wish.apply_delay,
        force_text: wish.force_text,
        skip_schemas: &wish.skip_schemas,
    })?;
    if wish.enabled {
        sync::insert_sync_state(id, wish.kind, SyncState::Init)?;
    } else {
        // Whoever enables it later brings the slot; from here on the origin remembers where to go on.
        sync::insert_sync_state(id, SyncKind::Init, SyncState::Ready)?;
        topology::create_origin(&slot_name)?;
    }
    warn_of_few_origins()?;
    signal_at_commit(Change::Restart(id));
    Ok(Answer::One(Value::Oid(id.get())))
}

/// Too few origin states are noticed only when a crashed server cannot recover, so they are named before.
fn warn_of_few_origins() -> Result<(), Report> {
    let (needed, room) = topology::origin_states()?;
    if needed > room {
        let setting = if server::pg_version_num() >= 180_000 {
            "max_active_replication_origins"
        } else {
            "max_replication_slots"
        };
        let report = Report::new(
            PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            format!("this node may need {needed} replication origins to recover from a crash, and has room for {room}"),
        )
        .hint(format!("Set \"{setting}\" to {needed} or more and restart the server."));
        log(Level::Warning, &report);
    }
    Ok(())
}

/// Everything that the network must answer before a subscription is written. Returns the provider and the slot's name.
fn ask_provider(wish: &Wish, local: &LocalNode) -> Result<(Provider, String), Report> {
    let structure = matches!(wish.kind, SyncKind::Structure | SyncKind::Full);
    if structure {
        structure::check_programs()?;
    }
    let mut session = ProviderSession::open(&wish.dsn, &wish.name)?;
    if structure {
        initial::check_version(session.server_version_num())?;
    }
    let provider = session.node_info()?;
    let here =
        provider.system == server::system_identifier().to_string() && provider.database == server::database_name();
    if here || provider.name == local.node.name || provider.id == local.node.id {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("node \"{}\" cannot subscribe to node \"{}\"", local.node.name, provider.name),
        )
        .detail("Provider and subscriber are the same database, or their node names give the same id.")
        .hint("Check the connection string; every node of a cluster needs a name with an id of its own."));
    }
    require_provider_sets(&provider, &wish.sets)?;
    warn_of_shared_tables(&mut session, local, provider.id, &wish.name, &wish.sets);
    session.check_output_plugin()?;
    let slot_name = names::slot_name(&server::database_name(), &provider.name, &wish.name);
    if wish.enabled {
        session.refuse_existing_slot(&slot_name)?;
    }
    session.check_replication_login(&wish.name)?;
    provider::check_local_login(&local.interface.dsn, &wish.name)?;
    Ok((provider, slot_name))
}

/// 22023 when the provider has not all of `sets`: it would refuse to stream.
fn require_provider_sets(provider: &Provider, sets: &[String]) -> Result<(), Report> {
    let unknown: Vec<String> =
        sets.iter().filter(|set| !provider.sets.contains(set)).map(|set| format!("\"{set}\"")).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("node \"{}\" has no replication set {}", provider.name, unknown.join(", ")),
    )
    .hint(format!("Its replication sets: {}.", provider.sets.join(", "))))
}

/// The id of the interface by which the provider is reached; writes node and interface when they are new here.
fn known_interface(provider: &Provider, dsn: &Dsn) -> Result<u32, Report> {
    let Some(node) = topology::node_by_name(&provider.name)? else {
        refuse_taken_id(provider.id, &provider.name)?;
        topology::insert_node(
            provider.id,
            &provider.name,
            provider.location.as_deref(),
            provider.country.as_deref(),
            provider.info.as_deref(),
        )?;
        let id = names::interface_id(provider.id, &provider.name);
        topology::insert_interface(id, &provider.name, provider.id, dsn)?;
        return Ok(id);
    };
    if node.id != provider.id {
        return Err(Report::new(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("node \"{}\" is known here with another id", provider.name),
        )
        .hint("Check the connection string: another node may have that name."));
    }
    let interface = topology::interface_by_name(node.id, &node.name)?.ok_or_else(|| {
        Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("node \"{0}\" has no interface named \"{0}\"", node.name),
        )
        .hint("Add it with spock.node_add_interface.")
    })?;
    if interface.dsn == *dsn {
        return Ok(interface.id);
    }
    Err(Report::new(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("node \"{}\" is known here with another connection string", node.name),
    )
    .detail(format!("Known: \"{}\".", interface.dsn.redacted()))
    .hint("Use that one, or change it afterwards with spock.node_add_interface and spock.sub_alter_interface."))
}

/// Other subscriptions: one with the same slot is refused, and one to the same provider with one of the same sets, unless the
/// new one is made disabled.
fn look_at_others(wish: &Wish, local: &LocalNode, provider: &Provider, slot_name: &str) -> Result<(), Report> {
    for other in topology::subscriptions_of(local.node.id)? {
        if other.slot_name == slot_name {
            return Err(Report::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("subscription \"{}\" already uses the slot name \"{slot_name}\"", other.name),
            )
            .hint("Slot names hold a shortened form of the subscription's name. Choose another name."));
        }
        match already_received(&other, provider.id, &wish.sets) {
            Some(report) if wish.enabled && other.enabled => return Err(report),
            Some(report) => log(Level::Warning, &report),
            None => {}
        }
    }
    Ok(())
}

/// A table that other subscriptions to `provider` have in their sets gets a warning, as the C edition takes it. A set that both
/// have is told by [`already_received`].
fn warn_of_shared_tables(
    session: &mut ProviderSession,
    local: &LocalNode,
    provider: NodeId,
    name: &str,
    sets: &[String],
) {
    let mut look = || -> Result<(), Report> {
        for other in topology::subscriptions_of(local.node.id)? {
            let ours: Vec<String> = sets.iter().filter(|set| !other.replication_sets.contains(set)).cloned().collect();
            if other.origin.id != provider || other.name == name || ours.is_empty() {
                continue;
            }
            if let Some(table) = session.shared_table(&ours, &other.replication_sets)? {
                log(Level::Warning, &shared(&other, &table));
            }
        }
        Ok(())
    };
    // What only warns does not keep anybody from subscribing.
    if let Err(report) = look() {
        let message = format!("could not ask the provider which tables two subscriptions share: {}", report.message);
        log(Level::Warning, &Report::new(PgSqlErrorCode::ERRCODE_WARNING, message));
    }
}

fn shared(other: &Subscription, table: &str) -> Report {
    Report::new(
        PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
        format!("subscription \"{}\" receives table \"{table}\" of node \"{}\" too", other.name, other.origin.name),
    )
    .detail(
        "It is in replication sets of both: while both are enabled, each change of it arrives twice, and counts twice in columns \
         that count.",
    )
    .hint("Take it out of one of the sets on that node: spock.tables shows which table is in which set.")
}

/// What is wrong with a second subscription to `other`'s provider that asks for one of its sets; `None`: nothing.
fn already_received(other: &Subscription, provider: NodeId, sets: &[String]) -> Option<Report> {
    let set = sets.iter().find(|set| other.origin.id == provider && other.replication_sets.contains(set))?;
    let report = Report::new(
        PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
        format!(
            "subscription \"{}\" already receives replication set \"{set}\" of node \"{}\"",
            other.name, other.origin.name
        ),
    )
    .detail("With two such subscriptions enabled, each change would arrive twice and each replicated statement would run twice.")
    .hint(format!("Use other replication sets, or disable or drop subscription \"{}\" first.", other.name));
    Some(report)
}

/// 42710 when another enabled subscription to the provider of `subscription` has one of `sets`.
fn refuse_shared_sets(local: &LocalNode, subscription: &Subscription, sets: &[String]) -> Result<(), Report> {
    let others = topology::subscriptions_of(local.node.id)?;
    let mut others = others.iter().filter(|other| other.enabled && other.id != subscription.id);
    others.find_map(|other| already_received(other, subscription.origin.id, sets)).map_or(Ok(()), Err)
}

/// `sub_drop(subscription_name, ifexists)`: 1 when it was dropped, 0 when it was not there.
pub fn drop(call: &Call) -> Result<Answer, Report> {
    require_administrator("drop a subscription")?;
    let name = required_name(call, 0, "the subscription's name")?;
    let if_exists = call.boolean(1).unwrap_or(false);
    topology::local_node_locked()?;
    let Some(subscription) = topology::subscription_by_name(&name)? else {
        return if if_exists { Ok(Answer::One(Value::Oid(0))) } else { Err(no_such_subscription(&name)) };
    };
    topology::delete_subscription(subscription.id)?;
    statistics::drop_at_commit(subscription.id);
    signal_at_commit(Change::Restart(subscription.id));
    if topology::subscriptions_with(subscription.origin.id)?.is_empty() {
        topology::delete_node(subscription.origin.id)?;
    }
    before_commit(move || clean_up(&subscription));
    Ok(Answer::One(Value::Oid(1)))
}

/// What a dropped subscription leaves behind, once nothing can bring it back: its worker, its slot on the provider, its
/// local origin. A provider that cannot be reached gets a warning, so that a lost node's subscription can be dropped.
fn clean_up(subscription: &Subscription) -> Result<(), Report> {
    if topology::subscription(subscription.id)?.is_some() {
        // The savepoint in which it was dropped was rolled back.
        return Ok(());
    }
    let Subscription { name, slot_name, origin, origin_if, target, .. } = subscription;
    terminate_workers_and_wait(server::database_oid(), subscription.id);
    if topology::subscriptions_with(origin.id)?.is_empty() {
        forget_progress(target.id, Some(origin.id));
    }
    give_up_parked(subscription)?;
    // Only now: a worker that was starting made slot and origin of its table until it was ended.
    let leftovers = finish::leftovers(subscription)?;
    let single = leftovers.iter().map(|hash| finish::slot_name(subscription, *hash));
    let slots: Vec<String> = single.chain([slot_name.clone()]).collect();
    for slot in &slots {
        if let Err(error) = provider::drop_slot(&origin_if.dsn, name, slot) {
            let message = format!("could not drop replication slot \"{slot}\" on node \"{}\"", origin.name);
            log(
                Level::Warning,
                &Report::new(PgSqlErrorCode::ERRCODE_WARNING, message)
                    .detail(provider::failure(&origin_if.dsn, &error))
                    .hint("The slot keeps WAL on that node. Drop it there with pg_drop_replication_slot."),
            );
            // The others cannot be reached either, and each try takes its time.
            break;
        }
    }
    slots.iter().try_for_each(|slot| topology::drop_origin(slot))
}

/// What is known of a provider's progress, or of all of a node's, goes with them.
pub(super) fn forget_progress(node: NodeId, remote: Option<NodeId>) {
    if let Err(error) = progress::forget(server::database_oid(), node, remote) {
        warn(format!("could not write spock/resource.dat: {error}"));
    }
}

/// What is parked for a subscription that goes is not lost without a trace.
fn give_up_parked(subscription: &Subscription) -> Result<(), Report> {
    let ids = parked::order(subscription.id)?.all();
    for id in &ids {
        discard::give_up(*id)?;
    }
    if !ids.is_empty() {
        let message =
            format!("subscription \"{}\" is dropped with {} parked transactions", subscription.name, ids.len());
        let report = Report::new(PgSqlErrorCode::ERRCODE_WARNING, message)
            .hint("Their changes are in spock.exception_log and will not be applied.");
        log(Level::Warning, &report);
    }
    Ok(())
}

/// `sub_enable(subscription_name, immediate)`
pub fn enable(call: &Call) -> Result<Answer, Report> {
    require_administrator("enable a subscription")?;
    let name = required_name(call, 0, "the subscription's name")?;
    if call.boolean(1) == Some(true) {
        refuse_in_transaction_block(c"spock.sub_enable with immediate");
    }
    let local = topology::local_node_locked()?;
    let subscription = require(&name)?;
    refuse_mixed_forwarding(&local, &name, !subscription.forward_origins.is_empty())?;
    refuse_shared_sets(&local, &subscription, &subscription.replication_sets)?;
    topology::set_subscription_enabled(subscription.id, true)?;
    signal_at_commit(Change::Replay(subscription.id));
    signal_at_commit(Change::Restart(subscription.id));
    Ok(Answer::One(Value::Bool(true)))
}

/// `sub_disable(subscription_name, immediate)`
pub fn disable(call: &Call) -> Result<Answer, Report> {
    require_administrator("disable a subscription")?;
    let name = required_name(call, 0, "the subscription's name")?;
    let immediate = call.boolean(1) == Some(true);
    if immediate {
        refuse_in_transaction_block(c"spock.sub_disable with immediate");
    }
    topology::local_node_locked()?;
    let subscription = require(&name)?;
    topology::set_subscription_enabled(subscription.id, false)?;
    signal_at_commit(Change::Restart(subscription.id));
    if immediate {
        terminate_workers_and_wait(server::database_oid(), subscription.id);
    }
    Ok(Answer::One(Value::Bool(true)))
}

/// `sub_alter_interface(subscription_name, interface_name)`
pub fn alter_interface(call: &Call) -> Result<Answer, Report> {
    require_administrator("alter a subscription")?;
    let name = required_name(call, 0, "the subscription's name")?;
    let interface_name = required_name(call, 1, "the interface's name")?;
    topology::local_node_locked()?;
    let subscription = require(&name)?;
    let interface = topology::interface_by_name(subscription.origin.id, &interface_name)?.ok_or_else(|| {
        Report::new(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            format!("node \"{}\" has no interface named \"{interface_name}\"", subscription.origin.name),
        )
        .hint("spock.node_interface shows the interfaces; spock.node_add_interface makes one.")
    })?;
    if interface.id == subscription.origin_if.id {
        return Ok(Answer::One(Value::Bool(false)));
    }
    topology::set_subscription_interface(subscription.id, interface.id)?;
    signal_at_commit(Change::Restart(subscription.id));
    Ok(Answer::One(Value::Bool(true)))
}

/// `sub_add_repset(subscription_name, replication_set)`
pub fn add_repset(call: &Call) -> Result<Answer, Report> {
    let (name, set) = set_to_change(call)?;
    let subscription = require(&name)?;
    if !subscription.replication_sets.contains(&set) {
        look_for_set(&topology::require_local_node()?, &subscription, &set)?;
    }
    let local = topology::local_node_locked()?;
    let mut subscription = require(&name)?;
    if subscription.replication_sets.contains(&set) {
        return Ok(Answer::One(Value::Bool(false)));
    }
    if subscription.enabled {
        refuse_shared_sets(&local, &subscription, core::slice::from_ref(&set))?;
    }
    subscription.replication_sets.push(set);
    change_sets(&subscription)
}

/// 22023 when the provider says that it has no such set. One that cannot be asked gets a warning: the subscription may be
/// changed because of that.
fn look_for_set(local: &LocalNode, subscription: &Subscription, set: &str) -> Result<(), Report> {
    let (dsn, name) = (&subscription.origin_if.dsn, &subscription.name);
    let asked = ProviderSession::open(dsn, name).and_then(|mut session| Ok((session.node_info()?, session)));
    match asked {
        Ok((provider, mut session)) => {
            let sets = [set.to_owned()];
            require_provider_sets(&provider, &sets)?;
            warn_of_shared_tables(&mut session, local, provider.id, name, &sets);
            Ok(())
        }
        Err(report) => {
            let message = format!(
                "could not ask node \"{}\" for its replication sets: {}",
                subscription.origin.name, report.message
            );
            let warning = Report::new(PgSqlErrorCode::ERRCODE_WARNING, message);
            log(Level::Warning, &warning.hint("If it has none of that name, it will refuse to send anything."));
            Ok(())
        }
    }
}

/// `sub_remove_repset(subscription_name, replication_set)`
pub fn remove_repset(call: &Call) -> Result<Answer, Report> {
    let (name, set) = set_to_change(call)?;
    topology::local_node_locked()?;
    let mut subscription = require(&name)?;
    if !subscription.replication_sets.contains(&set) {
        return Ok(Answer::One(Value::Bool(false)));
    }
    subscription.replication_sets.retain(|other| *other != set);
    change_sets(&subscription)
}

/// The arguments of both: a subscription's name and a set's.
fn set_to_change(call: &Call) -> Result<(String, String), Report> {
    require_administrator("alter a subscription")?;
    Ok((required_name(call, 0, "the subscription's name")?, required_name(call, 1, "the replication set's name")?))
}

fn change_sets(subscription: &Subscription) -> Result<Answer, Report> {
    topology::set_subscription_sets(subscription.id, &subscription.replication_sets)?;
    signal_at_commit(Change::Restart(subscription.id));
    Ok(Answer::One(Value::Bool(true)))
}

/// `sub_alter_skiplsn(subscription_name, lsn)`
pub fn alter_skip_lsn(call: &Call) -> Result<Answer, Report> {
    require_administrator("alter a subscription")?;
    let name = required_name(call, 0, "the subscription's name")?;
    let lsn = call.lsn(1).ok_or_else(|| null_argument("the LSN"))?;
    topology::local_node_locked()?;
    let id: SubId = require(&name)?.id;
    topology::set_skip_lsn(id, lsn)?;
    signal_at_commit(Change::Restart(id));
    Ok(Answer::One(Value::Bool(true)))
}

/// `spock_gen_slot_name(dbname, provider_node, subscription)`
pub fn gen_slot_name(call: &Call) -> Result<Answer, Report> {
    let part = |n| call.name(n).unwrap_or_default();
    Ok(Answer::One(Value::Name(names::slot_name(&part(0), &part(1), &part(2)))))
}
