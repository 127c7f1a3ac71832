//! SQL functions: check arguments, call one function, shape the result. May call anything; nothing calls it.
//!
//! # Invariants
//! 1. Privileges are checked first, then arguments, then the state of the catalogs, then the network; changes come last.
//! 2. No error, warning or result holds a connection string that has a secret in it.
//! 3. The left side of the table below is what `CREATE FUNCTION` of every installed version names: symbols are never
//!    renamed.

mod capabilities;
mod compare;
mod delta;
pub mod dropped;
mod failover;
mod former;
mod maintenance;
mod marker;
mod membership;
mod node;
mod options;
mod parked;
mod partition;
mod pause;
mod provider;
mod replicate;
mod repset;
mod resync;
mod sequence;
mod settled;
mod skew;
mod slots;
mod status;
mod subscription;
mod tombstones;

use crate::error::Report;
use crate::pg::function::Call;
use pgrx::PgSqlErrorCode;

crate::sql_functions! {
    spock_version => capabilities::version,
    spock_version_num => capabilities::version_num,
    spock_max_proto_version => capabilities::max_proto_version,
    spock_min_proto_version => capabilities::min_proto_version,
    spock_server_capabilities => capabilities::server_capabilities,
    spock_create_node => node::create,
    spock_drop_node => node::drop,
    spock_alter_node_add_interface => node::add_interface,
    spock_alter_node_drop_interface => node::drop_interface,
    spock_node_info => node::info,
    spock_create_replication_set => repset::create,
    spock_alter_replication_set => repset::alter,
    spock_drop_replication_set => repset::drop,
    spock_replication_set_add_table => membership::add_table,
    spock_replication_set_add_all_tables => membership::add_all_tables,
    spock_replication_set_remove_table => membership::remove_table,
    spock_replication_set_add_partition => partition::add,
    spock_replication_set_remove_partition => partition::remove,
    spock_replication_set_add_sequence => sequence::add_sequence,
    spock_replication_set_add_all_sequences => sequence::add_all_sequences,
    spock_replication_set_remove_sequence => sequence::remove_sequence,
    spock_synchronize_sequence => sequence::synchronize,
    spock_show_repset_table_info => membership::show_table,
    spock_table_data_filtered => membership::table_data_filtered,
    spock_create_subscription => subscription::create,
    spock_drop_subscription => subscription::drop,
    spock_alter_subscription_enable => subscription::enable,
    spock_alter_subscription_disable => subscription::disable,
    spock_alter_subscription_interface => subscription::alter_interface,
    spock_alter_subscription_add_replication_set => subscription::add_repset,
    spock_alter_subscription_remove_replication_set => subscription::remove_repset,
    spock_alter_subscription_skip_lsn => subscription::alter_skip_lsn,
    spock_alter_subscription_options => options::alter,
    spock_alter_subscription_synchronize => resync::alter_sync,
    spock_alter_subscription_resynchronize_table => resync::resync_table,
    spock_wait_for_table_sync_complete => resync::wait_for_table,
    spock_gen_slot_name => subscription::gen_slot_name,
    spock_show_subscription_status => former::show_subscriptions,
    spock_subscription_status => status::show_subscriptions,
    spock_show_subscription_worker => status::show_workers,
    spock_show_subscription_table => status::show_table,
    spock_wait_for_subscription_sync_complete => status::wait_for_sync,
    get_apply_group_progress => status::group_progress,
    get_apply_worker_status => status::apply_workers,
    get_channel_stats => status::channel_stats,
    reset_channel_stats => status::reset_channel_stats,
    spock_pause_apply_workers => pause::pause,
    spock_resume_apply_workers => pause::resume,
    spock_apply_workers_paused => pause::paused,
    spock_replay_parked => parked::replay,
    spock_discard_parked => parked::discard,
    spock_wait_slot_confirm_lsn => slots::wait_confirm,
    spock_slot_enable_failover => slots::enable_failover,
    spock_get_lsn_from_commit_ts => slots::lsn_at,
    spockro_terminate_active_transactions => maintenance::terminate_active_transactions,
    spock_cleanup_resolutions_sql => maintenance::cleanup_resolutions,
    spock_get_subscription_stats => status::subscription_stats,
    spock_reset_subscription_stats => status::reset_subscription_stats,
    spock_failover_slot_status => failover::slot_status,
    spock_tombstone_status => tombstones::status,
    spock_settled => settled::settled,
    spock_removed_keys => settled::removed_keys,
    spock_clock_skew_status => skew::status,
    spock_create_sync_event => marker::sync_event,
    spock_table_digest => compare::table_digest,
    spock_diff => compare::diff,
    spock_repair => compare::repair,
    spock_apply_version => crate::compare::write::apply_version,
    spock_replicate_ddl_command => replicate::command,
    spock_repair_mode => marker::set_repair_mode,
    spock_adopt_progress => former::adopt_progress,
    spock_xact_commit_timestamp_origin => former::commit_timestamp_origin,
    spock_delta_apply => delta::delta_apply,
    delta_apply_int2 => former::delta_int2,
    delta_apply_int4 => former::delta_int4,
    delta_apply_int8 => former::delta_int8,
    delta_apply_float4 => former::delta_float4,
    delta_apply_float8 => former::delta_float8,
    delta_apply_numeric => former::delta_numeric,
    delta_apply_money => former::delta_money,
    spock_truncate_trigger_add => former::nothing,
    spock_dependency_check_trigger => former::nothing,
    spock_hooks_setup => former::nothing,
    spock_show_repset_table_info_by_target => former::gone,
}

/// Argument `n`, a `name` that must be given and not be empty.
fn required_name(call: &Call, n: usize, what: &str) -> Result<String, Report> {
    let name = call.name(n).ok_or_else(|| null_argument(what))?;
    if name.is_empty() {
        return Err(
            Report::new(PgSqlErrorCode::ERRCODE_INVALID_NAME, format!("{what} must not be empty")).hint("Give a name.")
        );
    }
    Ok(name)
}

/// 22004: an argument is NULL that must not be.
fn null_argument(what: &str) -> Report {
    Report::new(PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED, format!("{what} must not be null"))
}
