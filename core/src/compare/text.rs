//! The statements. Plain SQL of the server, so that a peer needs nothing of ours for it.
//!
//! # Invariants
//! 1. They run under [`SETTINGS`]: with an empty search path, functions and operators are those of `pg_catalog`. Types are
//!    qualified, because a temporary one would come first.
//! 2. Values are read by the output functions of their types, and by nothing that an ordinary user can define: no cast and
//!    no operator of a user's type, except the operator of the index that identifies rows.
//! 3. Every column of every answer is text.

use core::ffi::CStr;

use super::narrow::KEY_BITS;
use crate::options::identifiers::quote;

/// Settings that the text of a value can depend on, and what they are set to.
pub const SETTINGS: [(&CStr, &str); 10] = [
    (c"search_path", ""),
    (c"DateStyle", "ISO, YMD"),
    (c"IntervalStyle", "postgres"),
    (c"TimeZone", "UTC"),
    (c"extra_float_digits", "1"),
    (c"bytea_output", "hex"),
    (c"lc_monetary", "C"),
    (c"quote_all_identifiers", "off"),
    (c"standard_conforming_strings", "on"),
    (c"xmlbinary", "base64"),
];

/// A column that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, the same on both nodes.
    pub name: String,
    /// Its type came with the server.
    pub built_in: bool,
}

/// A column of the index that identifies rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyColumn {
    /// Its name, the same on both nodes.
    pub name: String,
    /// Its type as SQL text, without a domain around it.
    pub type_name: String,
    /// The index's operator for equality, as `OPERATOR(…)` takes it.
    pub operator: String,
}

/// A table as one node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Its qualified name as SQL text.
    pub table: String,
    /// Without tables that inherit from it: it is not partitioned.
    pub only: bool,
    /// What is compared, in the order of the names' bytes.
    pub columns: Vec<Column>,
    /// What identifies a row.
    pub key: Vec<KeyColumn>,
}

/// Some buckets of rows: those whose key's hash begins with one of `values`, `bits` long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets<'b> {
    /// Which.
    pub values: &'b [i64],
    /// Bits of the hash that tell buckets apart.
    pub bits: u32,
}

/// Number of columns in front of key and values in an answer to [`Shape::rows`].
pub const ROW_FACTS: usize = 6;

/// A string as SQL text, with `standard_conforming_strings` on.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An array of strings as SQL text, without its type.
pub fn array(values: &[&str]) -> String {
    let quoted = values.iter().map(|value| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")));
    literal(&format!("{{{}}}", quoted.collect::<Vec<_>>().join(",")))
}

/// The hash of a row of these columns, as 64 hexadecimal digits. The server's text of a row tells NULL from an empty string
/// and where a value ends.
fn hash<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let list = names.map(|name| format!("t.{}", quote(name))).collect::<Vec<_>>().join(", ");
    format!("encode(sha256(convert_to(ROW({list})::pg_catalog.text, 'UTF8')), 'hex')")
}

/// A value as its type's output function writes it.
fn shown(name: &str) -> String {
    let name = quote(name);
    format!("CASE WHEN num_nulls(t.{name}) = 0 THEN format('%s', t.{name}) END")
}

impl Shape {
    fn from(&self) -> String {
        format!("FROM {}{} t", if self.only { "ONLY " } else { "" }, self.table)
    }

    fn row_hash(&self) -> String {
        hash(self.columns.iter().map(|column| &column.name))
    }

    /// The first [`KEY_BITS`] bits of the key's hash, as a number.
    fn key_hash(&self) -> String {
        let digits = hash(self.key.iter().map(|column| &column.name));
        format!("('x' || substr({digits}, 1, {}))::pg_catalog.\"bit\"({KEY_BITS})::pg_catalog.int8", KEY_BITS / 4)
    }

    /// Columns as a JSON object. Types that came with the server have their own form, others their text.
    fn json<'c>(&self, columns: impl Iterator<Item = &'c Column>) -> String {
        let value = |column: &Column| {
            let value = if column.built_in { format!("t.{}", quote(&column.name)) } else { shown(&column.name) };
            format!("{value} AS {}", quote(&column.name))
        };
        format!(
            "(SELECT to_jsonb(j) FROM (SELECT {}) j)::pg_catalog.text",
            columns.map(value).collect::<Vec<_>>().join(", ")
        )
    }

    /// Rows and digest of the whole table. Sums of hashes do not depend on the order of rows, and a row that is there twice
    /// counts twice; the names of the columns are part of the digest.
    pub fn digest(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quote(&column.name)).collect();
        format!(
            "SELECT count(*)::pg_catalog.text,
                    encode(sha256(convert_to(concat_ws('/', {}, count(*), coalesce(sum(y.a), 0), coalesce(sum(y.b), 0)), 'UTF8')), 'hex')
               FROM ({}) y",
            literal(&names.join(",")),
            self.sums("0", None)
        )
    }

    /// Bucket and hash, in two numbers, of every row.
    fn sums(&self, bucket: &str, within: Option<Buckets<'_>>) -> String {
        let half = |from: u32| format!("('x' || substr(x.r, {from}, 16))::pg_catalog.\"bit\"(64)::pg_catalog.int8");
        let key = if bucket == "0" { "0".to_owned() } else { self.key_hash() };
        format!(
            "SELECT {bucket} AS bucket, {} AS a, {} AS b
               FROM (SELECT {key} AS h, {} AS r {} OFFSET 0) x {}",
            half(1),
            half(17),
            self.row_hash(),
            self.from(),
            within.map(|buckets| format!("WHERE {}", buckets.condition("x.h"))).unwrap_or_default()
        )
    }

    /// Bucket, rows and two sums of hashes, for each bucket of `bits` bits that has rows and lies `within` others.
    pub fn groups(&self, bits: u32, within: Option<Buckets<'_>>) -> String {
        let bucket = format!("x.h >> {}", KEY_BITS - bits);
        format!(
            "SELECT y.bucket::pg_catalog.text, count(*)::pg_catalog.text, sum(y.a)::pg_catalog.text, sum(y.b)::pg_catalog.text
               FROM ({}) y GROUP BY y.bucket",
            self.sums(&bucket, within)
        )
    }

    /// What is asked of each row: its hash, commit time (microseconds since 2000) and origin of its version, its xmin, key
    /// and row as JSON, then the key's columns; with `values`, the JSON and all compared columns, otherwise NULL and none.
    fn row(&self, values: bool) -> String {
        let mut parts = vec![
            self.row_hash(),
            "((extract(epoch FROM v.\"timestamp\") * 1000000)::pg_catalog.int8 - 946684800000000)::pg_catalog.text"
                .to_owned(),
            "v.roident::pg_catalog.text".to_owned(),
            "t.xmin::pg_catalog.text".to_owned(),
        ];
        if values {
            let key = |column: &&Column| self.key.iter().any(|key| key.name == column.name);
            parts.push(self.json(self.columns.iter().filter(key)));
            parts.push(self.json(self.columns.iter()));
        } else {
            parts.extend(["NULL".to_owned(), "NULL".to_owned()]);
        }
        parts.extend(self.key.iter().map(|column| shown(&column.name)));
        if values {
            parts.extend(self.columns.iter().map(|column| shown(&column.name)));
        }
        format!("SELECT {}", parts.join(", "))
    }

    /// The rows of some buckets, without values.
    pub fn rows(&self, buckets: Buckets<'_>) -> String {
        format!(
            "{} {} LEFT JOIN LATERAL pg_xact_commit_timestamp_origin(t.xmin) v ON true WHERE {}",
            self.row(false),
            self.from(),
            buckets.condition(&self.key_hash())
        )
    }

    /// The rows with these keys, with values. A key has as many texts as the table has key columns.
    pub fn rows_of(&self, keys: &[&[String]]) -> String {
        let lists = self.key.iter().enumerate().map(|(n, column)| {
            let values: Vec<&str> = keys.iter().map(|key| key[n].as_str()).collect();
            format!("unnest({}::{}[])", array(&values), column.type_name)
        });
        let names: Vec<String> = (0..self.key.len()).map(|n| format!("c{n}")).collect();
        let same = self
            .key
            .iter()
            .zip(&names)
            .map(|(column, name)| format!("t.{} OPERATOR({}) k.{name}", quote(&column.name), column.operator));
        format!(
            "{} FROM ROWS FROM ({}) k ({}) JOIN {}{} t ON {} LEFT JOIN LATERAL pg_xact_commit_timestamp_origin(t.xmin) v ON true",
            self.row(true),
            lists.collect::<Vec<_>>().join(", "),
            names.join(", "),
            if self.only { "ONLY " } else { "" },
            self.table,
            same.collect::<Vec<_>>().join(" AND ")
        )
    }

    /// The row with the key `key`, if the transaction `xmin` wrote it.
    fn this_row(&self, key: &[String], xmin: u32) -> String {
        let same = self.key.iter().zip(key).map(|(column, value)| {
            format!("t.{} OPERATOR({}) {}::{}", quote(&column.name), column.operator, literal(value), column.type_name)
        });
        format!("{} AND t.xmin = '{xmin}'::pg_catalog.xid", same.collect::<Vec<_>>().join(" AND "))
    }

    /// Inserts a row unless it meets one that is there. Values in the order of the columns.
    pub fn insert(&self, values: &[Option<String>]) -> String {
        let names: Vec<String> = self.columns.iter().map(|column| quote(&column.name)).collect();
        let values: Vec<String> = values.iter().map(|value| sql_value(value.as_deref())).collect();
        format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT DO NOTHING",
            self.table,
            names.join(", "),
            values.join(", ")
        )
    }

    /// Gives the row its values, if it is still the version that `xmin` wrote.
    pub fn update(&self, key: &[String], xmin: u32, values: &[Option<String>]) -> String {
        let set =
            self.columns.iter().zip(values).filter(|(column, _)| self.key.iter().all(|key| key.name != column.name));
        let set: Vec<String> =
            set.map(|(column, value)| format!("{} = {}", quote(&column.name), sql_value(value.as_deref()))).collect();
        let only = if self.only { "ONLY " } else { "" };
        format!("UPDATE {only}{} t SET {} WHERE {}", self.table, set.join(", "), self.this_row(key, xmin))
    }

    /// Deletes the row, if it is still the version that `xmin` wrote.
    pub fn delete(&self, key: &[String], xmin: u32) -> String {
        let only = if self.only { "ONLY " } else { "" };
        format!("DELETE FROM {only}{} t WHERE {}", self.table, self.this_row(key, xmin))
    }
}

fn sql_value(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), literal)
}

impl Buckets<'_> {
    fn condition(&self, hash: &str) -> String {
        let list = self.values.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        format!("({hash}) >> {} = ANY ('{{{list}}}'::pg_catalog.int8[])", KEY_BITS - self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            table: "public.\"Odd \"\" name\"".to_owned(),
            only: true,
            columns: ["a", "B"].map(|name| Column { name: name.to_owned(), built_in: name == "a" }).to_vec(),
            key: vec![KeyColumn {
                name: "a".to_owned(),
                type_name: "text".to_owned(),
                operator: "pg_catalog.=".to_owned(),
            }],
        }
    }

    #[test]
    fn values_are_quoted_wherever_they_stand() {
        let key = ["it's \"\\".to_owned()];
        let sql = shape().rows_of(&[&key]);
        assert!(sql.contains(r#"unnest('{"it''s \"\\"}'::text[])"#), "{sql}");
        let sql = shape().update(&key, 7, &[Some("x".to_owned()), None]);
        assert!(sql.contains(r#"t."a" OPERATOR(pg_catalog.=) 'it''s "\'::text AND t.xmin = '7'"#), "{sql}");
        assert!(sql.contains("SET \"B\" = NULL WHERE"), "the key is not written: {sql}");
        let sql = shape().insert(&[Some("'".to_owned()), None]);
        assert!(sql.contains("(\"a\", \"B\") OVERRIDING SYSTEM VALUE VALUES ('''', NULL)"), "{sql}");
    }

    #[test]
    fn a_digest_names_its_columns_and_needs_no_key() {
        let sql = Shape { key: Vec::new(), ..shape() }.digest();
        assert!(sql.contains("'\"a\",\"B\"'") && !sql.contains("ROW()"), "{sql}");
    }

    #[test]
    fn types_of_users_are_read_by_their_output_functions_only() {
        let sql = shape().rows_of(&[]);
        assert!(sql.contains("THEN format('%s', t.\"B\") END AS \"B\"") && sql.contains("t.\"a\" AS \"a\""), "{sql}");
    }
}
