//! The cases of `docs/convergence.md`, each by its id: what n1 and n2 write is held, and reaches n3 in either order.
//!
//! Cases that other files have under a name with their id are not repeated here.

mod joins;
mod keys;
mod life;
mod rows;
mod times;

use spock_mesh::Mesh;
use spock_mesh::mesh::MeshOptions;

/// What n1 and n2 write with keys from here on reaches n3 from n1 first.
const FIRST_FROM_N1: u32 = 10;
/// The same from n2 first.
const FIRST_FROM_N2: u32 = 20;
/// Both.
const BASES: [u32; 2] = [FIRST_FROM_N1, FIRST_FROM_N2];

/// What a node recorded: kinds of conflicts and what was done about them.
const RECORDED: &str = "select coalesce(string_agg(distinct conflict_type || ' ' || conflict_resolution, ', '
                                        order by conflict_type || ' ' || conflict_resolution), 'nothing')
                          from spock.resolutions";

/// Nodes that write every conflict down.
fn recording<const N: usize>(names: [&str; N]) -> Mesh {
    let settings = [("spock.save_resolutions", "on"), ("spock.log_origin_change", "since_sub_creation")];
    Mesh::with(&MeshOptions {
        names: names.map(str::to_owned).to_vec(),
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..MeshOptions::default()
    })
}

/// Three nodes with the table `t` and its rows, all of `n1`.
fn three(ids: &str) -> Mesh {
    let mesh = recording(["n1", "n2", "n3"]).with_table("t (id int primary key, v text)");
    mesh.node("n1").sql(&format!("insert into t select id, 'old' from unnest('{{{ids}}}'::int[]) id"));
    mesh.settle();
    mesh
}

/// `write` is done once for each of [`BASES`] while nobody hears of anybody. Then everything is delivered.
fn in_both_orders(mesh: &Mesh, write: impl Fn(&Mesh, u32)) {
    mesh.isolate();
    write(mesh, FIRST_FROM_N1);
    mesh.deliver("n1", "n3");
    write(mesh, FIRST_FROM_N2);
    mesh.deliver("n2", "n3").deliver("n1", "n3").reunite();
}

/// Every node holds these rows of `t`, written `id` and `v`: the digests are equal.
fn all_hold(mesh: &Mesh, rows: &str) {
    mesh.every_node_reads("select coalesce(string_agg(id || v, ' ' order by id), 'none') from t", rows);
    mesh.same_everywhere("t");
}

/// Each node recorded these conflicts, in the order of the nodes.
fn recorded(mesh: &Mesh, by: [&str; 3]) {
    let got: Vec<String> = mesh.nodes().iter().map(|node| node.query_one(RECORDED)).collect();
    assert_eq!(got, by, "conflicts that n1, n2 and n3 recorded");
}
