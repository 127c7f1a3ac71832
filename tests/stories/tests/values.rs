//! Every kind of value survives the way, in each of the three transfer forms.

use spock_mesh::mesh::{MeshOptions, Stage};
use spock_mesh::story::must;
use spock_mesh::{Mesh, Node};

/// User types that the wide table needs.
const TYPES: &str = "create type mood as enum ('sad', 'ok', 'happy');
    create domain positive as int check (value > 0);
    create type point3 as (x int, y text, z numeric);
    create type span as range (subtype = float8)";

/// Columns and one value of each; the second column set is filled with other values by the update.
const COLUMNS: [(&str, &str, &str); 42] = [
    ("small", "smallint", "-32768"),
    ("big", "bigint", "9223372036854775807"),
    ("num", "numeric", "12345678901234567890.0123456789"),
    ("nan", "numeric(10,2)", "'NaN'"),
    ("r", "real", "1.17549e-38"),
    ("d", "double precision", "0.1::float8 + 0.2::float8"),
    ("inf", "double precision", "'-Infinity'"),
    ("b", "boolean", "true"),
    ("t", "text", "E'tab\\there, ünïcödé \\U0001F40C, quote '' and backslash \\\\'"),
    ("empty", "text", "''"),
    ("long", "text", "(select string_agg(md5(n::text), '') from generate_series(1, 500) n)"),
    ("vc", "varchar(10)", "'varchar'"),
    ("c", "char(8)", "'pad'"),
    ("c1", "\"char\"", "'x'"),
    ("n", "name", "'a_name'"),
    ("by", "bytea", "'\\x00ff10'"),
    ("dt", "date", "'0044-03-15 BC'"),
    ("tm", "time", "'23:59:59.999999'"),
    ("tmz", "timetz", "'12:00:00+05:30'"),
    ("ts", "timestamp", "'infinity'"),
    ("tsz", "timestamptz", "'2026-01-02 03:04:05.678901+02'"),
    ("iv", "interval", "'1 year -2 days 03:04:05.6'"),
    ("u", "uuid", "'00112233-4455-6677-8899-aabbccddeeff'"),
    ("js", "json", "'{\"a\": [1, null, \"x\"] }'"),
    ("jb", "jsonb", "'{\"a\": [1, null, \"x\"], \"b\": 1e10}'"),
    ("ip", "inet", "'2001:db8::1/64'"),
    ("ci", "cidr", "'10.0.0.0/8'"),
    ("mac", "macaddr", "'08:00:2b:01:02:03'"),
    ("bi", "bit(5)", "B'10101'"),
    ("vb", "varbit", "B'1'"),
    ("pt", "point", "'(1.5,-2)'"),
    ("bx", "box", "'(1,1),(0,0)'"),
    ("ir", "int4range", "'[1,10)'"),
    ("mr", "int4multirange", "'{[1,3),[7,9)}'"),
    ("tv", "tsvector", "to_tsvector('simple', 'a fat cat')"),
    ("mo", "money", "'$1,234.56'"),
    ("ai", "int[]", "'{1,NULL,3}'"),
    ("at", "text[][]", "'{{a,\"b,c\"},{NULL,\"\"}}'"),
    ("en", "mood", "'ok'"),
    ("dom", "positive", "7"),
    ("co", "point3", "row(1, 'two, \"quoted\"', null)::point3"),
    ("aen", "mood[]", "'{sad,happy}'"),
];

/// Types that only arrays, ranges and composites of user types exercise.
const NESTED: [(&str, &str, &str); 4] = [
    ("aco", "point3[]", "array[row(1, 'a', 1.5)::point3, null]"),
    ("adom", "positive[]", "'{1,2}'"),
    ("sp", "span", "'[0.5,1.5)'"),
    ("rc", "regclass", "'pg_class'"),
];

fn columns() -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> {
    COLUMNS.iter().chain(&NESTED)
}

fn wide_table() -> String {
    let list: Vec<String> = columns().map(|(name, kind, _)| format!("{name} {kind}")).collect();
    format!("wide (id int primary key, {})", list.join(", "))
}

/// Nodes with the user's types, joined only then, with the given arguments for `sub_create`.
fn typed_mesh(arguments: &str) -> Mesh {
    let names = vec!["n1".to_owned(), "n2".to_owned()];
    let mesh = Mesh::with(&MeshOptions { names, stage: Stage::Nodes, ..MeshOptions::default() });
    mesh.everywhere(TYPES);
    mesh.subscribe("n1", "n2", arguments).subscribe("n2", "n1", arguments);
    mesh.with_table(&wide_table())
}

fn insert_row(node: &Node, id: u32) {
    let values: Vec<&str> = columns().map(|(_, _, value)| *value).collect();
    node.sql(&format!("insert into wide values ({id}, {})", values.join(", ")));
}

fn every_value_survives(arguments: &str) {
    let mesh = typed_mesh(arguments);
    insert_row(mesh.node("n1"), 1);
    mesh.node("n1").sql("insert into wide (id) values (2)");
    insert_row(mesh.node("n2"), 3);
    mesh.settle();
    assert_eq!(mesh.same_everywhere("wide").rows, 3);
    // Values become NULL, and NULLs become values.
    let nulls: Vec<String> = columns().map(|(name, _, _)| format!("{name} = null")).collect();
    let values: Vec<String> = columns().map(|(name, _, value)| format!("{name} = {value}")).collect();
    mesh.node("n2").sql(&format!("update wide set {} where id = 1", nulls.join(", ")));
    mesh.node("n1").sql(&format!("update wide set {} where id = 2", values.join(", ")));
    mesh.settle();
    assert_eq!(mesh.same_everywhere("wide").rows, 3);
    mesh.every_node_reads("select id from wide where t is null", "1");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn every_type_survives_in_the_default_transfer_form() {
    every_value_survives("");
}

#[test]
fn every_type_survives_as_text() {
    every_value_survives(", force_text_transfer := true");
}

#[test]
fn text_form_does_not_depend_on_the_sessions_style_settings() {
    let names = vec!["n1".to_owned(), "n2".to_owned()];
    let styles = [
        ("datestyle", "German"),
        ("intervalstyle", "sql_standard"),
        ("extra_float_digits", "0"),
        ("bytea_output", "escape"),
    ];
    let settings = styles.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let arguments = ", force_text_transfer := true".to_owned();
    let mesh =
        Mesh::with(&MeshOptions { names, settings, subscription_arguments: arguments, ..MeshOptions::default() })
            .with_table("styled (id int primary key, d date, ts timestamptz, iv interval, f float8, b bytea)");
    must(mesh.node("n2").set("datestyle", "ISO, MDY"));
    must(mesh.node("n2").reload());
    mesh.node("n1").sql("insert into styled values (1, '2026-02-03', '2026-02-03 04:05:06.789+00', '1 day -2 hours', 0.1::float8 + 0.2::float8, '\\x00ff')");
    mesh.settle();
    let same = "select d = date '2026-02-03', ts = timestamptz '2026-02-03 04:05:06.789+00', iv = interval '1 day -2 hours', f = 0.1::float8 + 0.2::float8, b = '\\x00ff'::bytea from styled";
    mesh.every_node_reads(same, "t|t|t|t|t");
}

#[test]
fn an_unchanged_toasted_column_keeps_its_value() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("doc (id int primary key, n int, body text)");
    mesh.everywhere("alter table doc alter body set storage external");
    mesh.node("n1").sql("insert into doc values (1, 1, repeat('abcdefghij', 2000))");
    mesh.node("n1").sql("update doc set n = 2 where id = 1");
    mesh.settle();
    mesh.every_node_reads("select n, length(body), md5(body) = md5(repeat('abcdefghij', 2000)) from doc", "2|20000|t");
    // The row now came to n2 from elsewhere; its own update must not lose the value either.
    mesh.node("n2").sql("update doc set n = 3 where id = 1");
    mesh.node("n1").sql("insert into doc values (2, 1, repeat('0123456789', 3000))");
    mesh.settle();
    mesh.node("n2").sql("update doc set id = 20 where id = 2");
    mesh.settle();
    mesh.every_node_reads("select id, n, length(body) from doc order by id", "1|3|20000\n20|1|30000");
    mesh.same_everywhere("doc");
    mesh.logs_hold_nothing_unexpected(&[]);
}

#[test]
fn a_compressed_toasted_value_survives_a_change_of_itself() {
    let mesh = Mesh::of(["n1", "n2"]).with_table("doc (id int primary key, body text)");
    mesh.node("n1").sql("insert into doc values (1, repeat('a', 500000))");
    mesh.node("n1").sql("update doc set body = body || 'b'");
    mesh.settle();
    mesh.every_node_reads("select length(body), right(body, 2) from doc", "500001|ab");
    mesh.same_everywhere("doc");
}
