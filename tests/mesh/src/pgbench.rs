//! The server's own load generator, as a child, and the numbers that it prints.

use crate::error::MeshError;
use crate::node::Node;
use crate::process;

/// More tries than any transaction needs: one that fails for good would count as lost work in the demo.
const TRIES_MAX: &str = "1000";

/// What one run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Transactions that were committed.
    pub processed: u64,
    /// Transactions given up after all tries (deadlocks, serialization failures).
    pub failed: u64,
}

/// Makes and fills pgbench's four tables.
pub fn initialize(node: &Node, scale: u32) -> Result<(), MeshError> {
    let mut command = node.prefix().command("pgbench");
    command.args(["-i", "-q", "-s", &scale.to_string()]).args(address(node));
    process::output_of(&mut command).map(|_| ())
}

/// Runs the built-in TPC-B script for `seconds` with `clients` connections.
pub fn run(node: &Node, clients: u32, seconds: u32) -> Result<Outcome, MeshError> {
    let mut command = node.prefix().command("pgbench");
    command.args(["-n", "-c", &clients.to_string(), "-T", &seconds.to_string(), "--max-tries", TRIES_MAX]);
    let said = process::output_of(command.args(address(node)))?;
    parse(&said).ok_or_else(|| MeshError::Unexpected(format!("pgbench printed no count:\n{said}")))
}

/// Runs `transactions` simple updates (an UPDATE of an account, an INSERT into the history) with one connection.
pub fn run_simple_updates(node: &Node, transactions: u64) -> Result<(), MeshError> {
    let mut command = node.prefix().command("pgbench");
    command.args(["-n", "-N", "-M", "prepared", "-c", "1", "-t", &transactions.to_string()]);
    process::output_of(command.args(address(node))).map(|_| ())
}

fn address(node: &Node) -> [String; 7] {
    let host = node.dir().display().to_string();
    ["-h".into(), host, "-p".into(), node.port().to_string(), "-U".into(), "postgres".into(), "postgres".into()]
}

fn parse(said: &str) -> Option<Outcome> {
    let number_after = |label: &str| -> Option<u64> {
        let rest = said.lines().find_map(|line| line.strip_prefix(label))?;
        rest.trim().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some(Outcome {
        processed: number_after("number of transactions actually processed:")?,
        failed: number_after("number of failed transactions:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_read_from_what_pgbench_prints() {
        let said = "scaling factor: 1\nnumber of transactions actually processed: 4711\n\
                    number of failed transactions: 2 (0.042%)\nlatency average = 1.2 ms\n";
        assert_eq!(parse(said), Some(Outcome { processed: 4711, failed: 2 }));
        assert_eq!(parse("pgbench: error"), None);
    }
}
