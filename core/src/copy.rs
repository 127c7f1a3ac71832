//! In which form the rows of a table are copied from a provider: COPY's binary format where both sides are sure to read it
//! alike, else its text format.
//!
//! # Invariants
//! 1. Binary is chosen only for types that every server of a major has under one number, with send and receive functions
//!    whose bytes mean the same in another database. A type that is not on the list travels as text.

use crate::types::TypeOid;

/// COPY's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// One line a row.
    Text,
    /// Send and receive functions of the types.
    Binary,
}

/// Types whose binary form is the same everywhere: `bool bytea char name int8 int2 int4 text oid json float4 float8 macaddr
/// inet cidr bpchar varchar date time timestamp timestamptz interval timetz bit varbit numeric uuid jsonb`, then their arrays.
/// Left out on purpose: `money` (depends on the locale), `xml` (on a declaration), `regclass` and its like (numbers of one
/// database's objects).
const PORTABLE: [u32; 55] = [
    16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 700, 701, 829, 869, 650, 1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266,
    1560, 1562, 1700, 2950, 3802, // arrays
    1000, 1001, 1002, 1003, 1016, 1005, 1007, 1009, 1028, 199, 1021, 1022, 1040, 1041, 651, 1014, 1015, 1182, 1183,
    1115, 1185, 1187, 1270, 1561, 1563, 1231, 2951,
];

/// The major version of a server's version number, e.g. 17 of 170011.
fn major(version_num: i32) -> i32 {
    version_num / 10_000
}

/// Chooses. `versions` are those of provider and subscriber as numbers (170011), `columns` the types of each copied column
/// there and here, `encoding` the encoding of the subscriber's database: the provider sends UTF-8, and receive functions do
/// not convert.
pub fn choose_format(
    versions: (i32, i32),
    columns: &[(TypeOid, TypeOid)],
    encoding: &str,
    force_text: bool,
) -> CopyFormat {
    let portable = columns.iter().all(|(there, here)| there == here && PORTABLE.contains(&here.0));
    if !force_text && major(versions.0) == major(versions.1) && encoding == "UTF8" && portable {
        CopyFormat::Binary
    } else {
        CopyFormat::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_only_where_both_sides_read_it_alike() {
        const INT4: TypeOid = TypeOid(23);
        const TEXT: TypeOid = TypeOid(25);
        const REGCLASS: TypeOid = TypeOid(2205);
        const MONEY: TypeOid = TypeOid(790);
        const USERS: TypeOid = TypeOid(16_500);
        let same = (170_011, 170_004);
        let plain: &[_] = &[(INT4, INT4), (TEXT, TEXT)];
        type Case<'a> = ((i32, i32), &'a [(TypeOid, TypeOid)], &'a str, bool, CopyFormat);
        let cases: &[Case<'_>] = &[
            (same, plain, "UTF8", false, CopyFormat::Binary),
            (same, &[], "UTF8", false, CopyFormat::Binary),
            (same, plain, "UTF8", true, CopyFormat::Text),
            (same, plain, "LATIN1", false, CopyFormat::Text),
            ((160_004, 170_004), plain, "UTF8", false, CopyFormat::Text),
            (same, &[(INT4, TEXT)], "UTF8", false, CopyFormat::Text),
            (same, &[(REGCLASS, REGCLASS)], "UTF8", false, CopyFormat::Text),
            (same, &[(MONEY, MONEY)], "UTF8", false, CopyFormat::Text),
            (same, &[(INT4, INT4), (USERS, USERS)], "UTF8", false, CopyFormat::Text),
        ];
        for (versions, columns, encoding, force_text, want) in cases {
            assert_eq!(choose_format(*versions, columns, encoding, *force_text), *want, "{columns:?} {encoding}");
        }
    }
}
