//! What a stored expression (`pg_node_tree`, the text of the server's `nodeToString`) over one table refers to. Used for
//! the dependencies of a row filter, and to know whether a part of a row is enough to evaluate it.
//!
//! # Invariants
//! 1. Only names of fields and numbers are looked at; a text that is no node tree yields nothing, and never panics.
//! 2. Objects that come with the server (OIDs below 16384) are not reported: they cannot be dropped.

use std::collections::BTreeSet;

/// First OID that is given to users' objects.
const FIRST_NORMAL_OID: u32 = 16_384;

/// One thing that an expression needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A column of the table, by number from 1.
    Column(i16),
    /// The row as a whole: every column.
    WholeRow,
    /// A function, by OID.
    Function(u32),
    /// An operator, by OID.
    Operator(u32),
    /// A type, by OID.
    Type(u32),
    /// A collation, by OID.
    Collation(u32),
}

/// Everything that the expression refers to, each thing once.
pub fn references(tree: &str) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut field = "";
    for token in tree.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '{' | '}')) {
        if let Some(name) = token.strip_prefix(':') {
            field = name;
        } else if !token.is_empty() {
            found.extend(reference(field, token));
        }
    }
    found
}

fn reference(field: &str, value: &str) -> Option<Reference> {
    if field == "varattno" {
        return match value.parse::<i16>().ok()? {
            0 => Some(Reference::WholeRow),
            number if number > 0 => Some(Reference::Column(number)),
            _ => None,
        };
    }
    let kind: fn(u32) -> Reference = match field {
        "funcid" | "opfuncid" | "hashfuncid" | "negfuncid" => Reference::Function,
        "opno" | "opnos" => Reference::Operator,
        _ if field.ends_with("type") || field.ends_with("typeid") => Reference::Type,
        _ if field.ends_with("collid") => Reference::Collation,
        _ => return None,
    };
    let oid = value.parse::<u32>().ok()?;
    (oid >= FIRST_NORMAL_OID).then(|| kind(oid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_filters_refer_to() {
        use Reference::*;
        let built_in = "{OPEXPR :opno 521 :opfuncid 147 :opresulttype 16 :opretset false :opcollid 0 :inputcollid 0 :args \
            ({VAR :varno 1 :varattno 2 :vartype 23 :vartypmod -1 :varcollid 0 :varlevelsup 0 :location 7} {CONST \
            :consttype 23 :consttypmod -1 :constcollid 0 :constlen 4 :constbyval true :constisnull false :location 13 \
            :constvalue 4 [ 100 0 0 20000 0 0 0 0 ]}) :location 11}";
        let user = "{FUNCEXPR :funcid 16500 :funcresulttype 16501 :funcvariadic false :funccollid 16502 :args ({VAR :varno 1 \
            :varattno 3 :vartype 16501} {SCALARARRAYOPEXPR :opno 16600 :opfuncid 16601 :args ({VAR :varno 1 :varattno 3})} \
            {ROWCOMPAREEXPR :opnos (o 96 16700)})}";
        let cases: [(&str, &str, &[Reference]); 5] = [
            ("built-in objects cannot go", built_in, &[Column(2)]),
            (
                "everything of users",
                user,
                &[
                    Column(3),
                    Function(16500),
                    Function(16601),
                    Operator(16600),
                    Operator(16700),
                    Type(16501),
                    Collation(16502),
                ],
            ),
            ("a whole row", "{VAR :varno 1 :varattno 0 :vartype 2249}", &[WholeRow]),
            ("a system column", "{VAR :varno 1 :varattno -6 :vartype 26}", &[]),
            ("no node tree", ":funcid :opno x 99999999999 :varattno 99999", &[]),
        ];
        for (name, tree, want) in cases {
            assert_eq!(references(tree).into_iter().collect::<Vec<_>>(), want, "{name}");
        }
    }
}
