//! The cluster's lock on schema changes: who has to take it, and where.
//!
//! # Invariants
//! 1. Two nodes that subscribe to each other take it at each other and at themselves, so only one of them holds it: whatever else
//!    either knows of the cluster.
//! 2. Members are locked in the order of their ids, which all nodes agree on: nobody waits for somebody who waits for it.
//! 3. It is not taken while something that a provider has changed cannot come here: a disabled subscription refuses.

use crate::types::NodeId;

/// What the lock is called in the server's table of advisory locks: two numbers, `spoc` in ASCII and the lock's own.
pub const KEY: (i32, i32) = (0x7370_6f63, 1);

/// A node that this one subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// Which.
    pub node: NodeId,
    /// Whether what it changes arrives here.
    pub enabled: bool,
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// `spock.ddl_lock`
    pub wanted: bool,
    /// Somebody has a slot here: statements of this node go elsewhere.
    pub subscribed_to: bool,
    /// This node.
    pub own: NodeId,
    /// Of every subscription of this node.
    pub providers: &'a [Provider],
}

/// A node where the lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// This one.
    Here,
    /// Another one.
    At(NodeId),
}

/// What is to be done before a statement that will be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    NotNeeded,
    /// The statement is refused: what this provider has changed does not arrive here.
    Refused(NodeId),
    /// Lock these, in this order.
    Take(Vec<Member>),
}

/// Decides.
pub fn plan(facts: &Facts<'_>) -> Plan {
    let others = || facts.providers.iter().filter(|provider| provider.node != facts.own);
    if !facts.wanted || !facts.subscribed_to || others().next().is_none() {
        return Plan::NotNeeded;
    }
    if let Some(disabled) = others().find(|provider| !provider.enabled) {
        return Plan::Refused(disabled.node);
    }
    let mut members: Vec<NodeId> = others().map(|provider| provider.node).chain([facts.own]).collect();
    members.sort_unstable();
    members.dedup();
    let member = |node| if node == facts.own { Member::Here } else { Member::At(node) };
    Plan::Take(members.into_iter().map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> NodeId {
        NodeId::new(number).expect("not zero")
    }

    fn providers(list: &[(u32, bool)]) -> Vec<Provider> {
        list.iter().map(|(node, enabled)| Provider { node: id(*node), enabled: *enabled }).collect()
    }

    #[test]
    fn plans() {
        use Member::{At, Here};
        let cases = [
            // providers of node 5, wanted, subscribed to; plan
            ("nobody else", vec![], true, true, Plan::NotNeeded),
            ("only itself", vec![(5, true)], true, true, Plan::NotNeeded),
            ("switched off", vec![(7, true)], false, true, Plan::NotNeeded),
            ("nobody listens", vec![(7, true)], true, false, Plan::NotNeeded),
            ("a higher one", vec![(7, true)], true, true, Plan::Take(vec![Here, At(id(7))])),
            ("a lower one", vec![(3, true)], true, true, Plan::Take(vec![At(id(3)), Here])),
            (
                "both, one twice",
                vec![(7, true), (3, true), (7, true)],
                true,
                true,
                Plan::Take(vec![At(id(3)), Here, At(id(7))]),
            ),
            ("one is disabled", vec![(3, true), (7, false)], true, true, Plan::Refused(id(7))),
            ("disabled, switched off", vec![(7, false)], false, true, Plan::NotNeeded),
        ];
        for (name, list, wanted, subscribed_to, want) in cases {
            let providers = providers(&list);
            let facts = Facts { wanted, subscribed_to, own: id(5), providers: &providers };
            assert_eq!(plan(&facts), want, "{name}");
        }
    }

    #[test]
    fn nodes_that_subscribe_to_each_other_exclude_each_other_and_agree_on_the_order() {
        // Every pair among four nodes, each of which knows the other and any of the rest.
        for (one, other) in [(1, 2), (2, 1), (1, 4), (4, 3)] {
            let order = |own: u32, knows: &[u32]| {
                let list: Vec<_> = knows.iter().map(|node| (*node, true)).collect();
                let providers = providers(&list);
                let facts = Facts { wanted: true, subscribed_to: true, own: id(own), providers: &providers };
                let Plan::Take(members) = plan(&facts) else { panic!("nothing is taken") };
                members.into_iter().map(|member| if let Member::At(node) = member { node } else { id(own) }).collect()
            };
            for rest in [vec![], vec![3], vec![2, 3]] {
                let knows = |node| rest.iter().copied().filter(|more| *more != node).chain([]).collect::<Vec<u32>>();
                let ours: Vec<NodeId> = order(one, &[&knows(one)[..], &[other]].concat());
                let theirs: Vec<NodeId> = order(other, &[one]);
                assert!(ours.is_sorted() && theirs.is_sorted());
                assert!([one, other].iter().all(|node| ours.contains(&id(*node)) && theirs.contains(&id(*node))));
            }
        }
    }
}
