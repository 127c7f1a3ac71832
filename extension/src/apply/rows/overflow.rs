//! A sum has passed the limit of its type, and gone around: said in `spock.resolutions`, beside the warning in the log. The values
//! are the same on all nodes in the end; which additions pass the limit, and on which nodes, depends on the order of arrival.

use super::Row;
use crate::apply::version::Versions;
use crate::catalog::resolutions::{self, Resolution, Version};
use crate::catalog::topology;
use crate::error::Report;
use crate::settings;
use spock_core::merge::Resolution as Outcome;

/// In `spock.resolutions`, beside the names of [`spock_core::merge::ConflictType`].
const OVERFLOW: &str = "counter_overflow";

impl Row<'_> {
    /// Writes it down, if the change that was applied passed a limit. `merged` holds the sums, if a row was there.
    pub(super) fn overflowed(&mut self, versions: &Versions) -> Result<(), Report> {
        if !self.mapping.deltas.take_passed() || !settings::save_resolutions() {
            return Ok(());
        }
        let (local, remote) = (&self.target.merged, &self.target.remote);
        let version = versions.remote();
        resolutions::insert(&Resolution {
            node_name: topology::require_local_node()?.node.name,
            relation: Some(self.remote.subject.relation.to_string()),
            index: self.mapping.key.as_ref().map(|key| key.name.clone()),
            conflict_type: OVERFLOW,
            outcome: Outcome::ApplyRemote.name(),
            local: Version { tuple: (!local.is_empty()).then(|| local.to_json()), ..Version::default() },
            remote: Version {
                origin: Some(version.origin),
                tuple: (!remote.is_empty()).then(|| remote.to_json()),
                time: version.time,
                xid: None,
            },
            remote_lsn: None,
        })
    }
}
