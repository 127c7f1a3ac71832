//! What a subscriber asks for and a provider grants, checked against the protocol's tables and the replies that the C
//! extension gave to the same options.

use spock_core::filter::ForwardOrigins;
use spock_core::options::provider::{OptionPair, ProviderFacts, boolean};
use spock_core::options::subscriber::{
    CommandError, ReplyError, Session, SubscriberOptions, start_replication_command,
};
use spock_core::options::{BuildFacts, OptionsError, OutputOptions};
use spock_core::types::Lsn;
use spock_core::wire::control::Startup;
use spock_core::wire::{Envelope, Message, ProtocolVersion};

/// Options replaced or, without a value, left out.
type Changes<'a> = &'a [OptionPair<'a>];
/// Pairs of a startup reply.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn build(pg_version_num: u32) -> BuildFacts {
    BuildFacts {
        pg_version_num,
        big_endian: false,
        size_of_datum: 8,
        size_of_int: 4,
        size_of_long: 8,
        float8_by_value: true,
    }
}

/// The machine and server that the golden streams come from.
fn facts() -> ProviderFacts {
    ProviderFacts {
        build: build(170_011),
        pg_version: "17.11".to_owned(),
        catalog_version: 202_406_281,
        max_align: 8,
        encoding: "UTF8".to_owned(),
        spock_version: "6.0.0".to_owned(),
        spock_version_num: 60_000,
    }
}

fn subscriber() -> SubscriberOptions {
    SubscriberOptions {
        build: build(170_005),
        encoding: "UTF8".to_owned(),
        force_text: false,
        forward_origins: vec![],
        replication_sets: Some(["default", "default_insert_only", "ddl_sql"].map(str::to_owned).to_vec()),
        only_table: None,
        max_version: ProtocolVersion::MAX_OF_C,
        announcements: true,
        spock_version: "6.0.0".to_owned(),
        spock_version_num: 60_000,
    }
}

/// Parses what `subscriber` sends, with some options replaced or, as `None`, left out.
fn parse_with(subscriber: &SubscriberOptions, changes: Changes<'_>) -> Result<OutputOptions, OptionsError> {
    let sent = subscriber.pairs();
    let kept = sent.iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    let mut pairs: Vec<OptionPair<'_>> = kept.map(|(name, value)| (*name, Some(value.as_str()))).collect();
    pairs.extend(changes.iter().filter(|(_, value)| value.is_some()));
    OutputOptions::parse(&pairs, &facts())
}

fn parse(changes: Changes<'_>) -> Result<OutputOptions, OptionsError> {
    parse_with(&subscriber(), changes)
}

#[test]
fn versions_are_negotiated() {
    let cases = [
        // name, min, max, peer's version number, what is chosen
        ("6.0", "4", "5", "60000", Some(ProtocolVersion::V5)),
        ("5.0", "3", "4", "50011", Some(ProtocolVersion::V4)),
        ("5.0 beta without number", "3", "4", "0", None),
        ("4.x", "3", "4", "40010", None),
        ("this edition", "4", "6", "70000", Some(ProtocolVersion::V6)),
        ("a later one that still speaks 6", "5", "9", "80000", Some(ProtocolVersion::V6)),
        ("too new", "7", "7", "80000", None),
        ("too old", "1", "3", "60000", None),
        ("upside down", "5", "4", "60000", None),
    ];
    for (name, min, max, number, want) in cases {
        let changes =
            [("min_proto_version", Some(min)), ("max_proto_version", Some(max)), ("spock_version_num", Some(number))];
        let got = parse(&changes);
        assert_eq!(got.as_ref().ok().map(|options| options.version), want, "{name}: {got:?}");
        assert_eq!(got.map_or_else(|error| error.sqlstate(), |_| "0A000"), "0A000", "{name}");
    }
}

#[test]
fn formats_are_granted_by_comparison() {
    let cases: [(&str, Changes<'_>, (bool, bool)); 12] = [
        ("same machine and major", &[], (true, true)),
        ("other major", &[("binary.basetypes_major_version", Some("1600"))], (false, false)),
        ("no major", &[("binary.basetypes_major_version", None)], (false, false)),
        ("other byte order", &[("binary.bigendian", Some("1"))], (false, true)),
        ("other datum", &[("binary.sizeof_datum", Some("4"))], (false, true)),
        ("other int", &[("binary.sizeof_int", Some("2"))], (false, true)),
        ("other long", &[("binary.sizeof_long", Some("4"))], (false, true)),
        ("sizes not said", &[("binary.sizeof_long", None), ("binary.sizeof_int", Some("0"))], (true, true)),
        ("an honest float4", &[("binary.float4_byval", Some("1"))], (false, true)),
        ("an honest integer_datetimes", &[("binary.integer_datetimes", Some("on"))], (false, true)),
        ("internal not wanted", &[("binary.want_internal_basetypes", Some("f"))], (false, true)),
        ("nothing said but the major", &[("binary.float8_byval", None), ("binary.bigendian", None)], (true, true)),
    ];
    for (name, changes, want) in cases {
        let options = parse(changes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((options.internal, options.binary), want, "{name}");
    }
    let text = parse_with(&SubscriberOptions { force_text: true, ..subscriber() }, &[]).expect("text");
    assert_eq!((text.internal, text.binary), (false, false), "forced text");
}

#[test]
fn wrong_options_are_refused_with_their_sqlstate() {
    let cases: [(&str, Changes<'_>, &str); 16] = [
        ("no minimum", &[("min_proto_version", None)], "22023"),
        ("no maximum", &[("max_proto_version", None)], "22023"),
        ("no format", &[("startup_params_format", None)], "22023"),
        ("other format", &[("startup_params_format", Some("2"))], "0A000"),
        ("empty number", &[("max_proto_version", Some(""))], "22023"),
        ("signed number", &[("max_proto_version", Some("+5"))], "22023"),
        ("too large a number", &[("pg_version", Some("1")), ("max_proto_version", Some("4294967296"))], "22023"),
        ("no number", &[("binary.sizeof_int", Some("four"))], "22023"),
        ("no Boolean", &[("binary.bigendian", Some("maybe"))], "22023"),
        ("other encoding", &[("expected_encoding", Some("LATIN1"))], "0A000"),
        ("JSON", &[("proto_format", Some("json"))], "0A000"),
        ("origin by name", &[("spock.forward_origins", Some("n3"))], "22023"),
        ("malformed list", &[("spock.replication_set_names", Some("a,,b"))], "22023"),
        ("table without schema", &[("spock.replicate_only_table", Some("t1"))], "22023"),
        ("table of three parts", &[("spock.replicate_only_table", Some("a.b.c"))], "22023"),
        ("table with an open quote", &[("spock.replicate_only_table", Some("\"a.b"))], "22023"),
    ];
    for (name, changes, sqlstate) in cases {
        let error = parse(changes).expect_err(name);
        assert_eq!(error.sqlstate(), sqlstate, "{name}: {error}");
    }
    let bare = [("min_proto_version", None)];
    assert_eq!(
        OutputOptions::parse(&[("startup_params_format", Some("1")), bare[0]], &facts()),
        Err(OptionsError::NoValue { option: "min_proto_version".to_owned() })
    );
}

#[test]
fn options_become_values() {
    let options = parse(&[
        ("spock.forward_origins", Some("ALL")),
        ("spock.replication_set_names", Some("Default, \"My Set\"")),
        ("relmeta_cache_size", Some("-1")),
        ("something_new", Some("whatever")),
        ("MIN_PROTO_VERSION", Some("4")),
        ("expected_encoding", Some("utf-8")),
    ])
    .expect("options");
    assert_eq!(options.forward_origins, ForwardOrigins::All);
    assert_eq!(options.replication_sets, ["default", "My Set"]);
    assert_eq!(options.encoding, "UTF8");
    let none = parse(&[("expected_encoding", None)]).expect("options");
    assert_eq!((none.encoding.as_str(), none.forward_origins), ("SQL_ASCII", ForwardOrigins::None));
    let only_table = Some(("public".to_owned(), "My.Table".to_owned()));
    let catch_up =
        parse_with(&SubscriberOptions { only_table: only_table.clone(), replication_sets: None, ..subscriber() }, &[]);
    let catch_up = catch_up.expect("options");
    assert_eq!((catch_up.only_table, catch_up.replication_sets), (only_table, vec![]));
}

#[test]
fn announcements_are_agreed_on_by_who_knows_them() {
    let (v5, v6) = (ProtocolVersion::MAX_OF_C, ProtocolVersion::V6);
    let asks = [("spock.announcements", Some("1"))];
    // The highest version that is offered, whether the subscriber wants them, what it sends besides; what is granted.
    let cases: [(ProtocolVersion, bool, Changes<'_>, bool); 4] =
        [(v6, true, &[], true), (v6, false, &[], false), (v5, true, &[], false), (v5, false, &asks, false)];
    for (max_version, announcements, changes, granted) in cases {
        let sends = SubscriberOptions { max_version, announcements, ..subscriber() };
        let asked = sends.pairs().iter().any(|(name, _)| *name == "spock.announcements");
        assert_eq!(asked, max_version == v6 && announcements, "a C node sees the options of a C node");
        let options = parse_with(&sends, changes).expect("options");
        assert_eq!(options.announcements, granted, "{max_version:?} {announcements} {changes:?}");
        let reply = options.startup_reply(&facts(), 1);
        let said: Vec<_> =
            reply.iter().filter(|(key, _)| *key == "spock.announcements").map(|(_, v)| v.as_str()).collect();
        assert_eq!(said, if granted { vec!["t"] } else { vec![] }, "who has not asked reads what it always read");
        let mut bytes = Vec::new();
        Startup::write_of(&mut bytes, reply.iter().map(|(key, value)| (*key, value.as_str())));
        let read = Envelope::read(&bytes, max_version).expect("a startup message");
        let Message::Startup(startup) = read.message else { panic!("{read:?}") };
        assert_eq!(Session::accept(&startup, "UTF8").map(|session| session.announces), Ok(granted));
    }
    assert!(parse(&[("max_proto_version", Some("6")), ("spock.announcements", Some("perhaps"))]).is_err());
}

#[test]
fn completion_and_versions_of_rows_are_asked_for_and_granted_from_protocol_6_on() {
    is_granted_from_protocol_6_on("spock.complete_updates", |options| options.completion);
    is_granted_from_protocol_6_on("spock.row_versions", |options| options.row_versions);
}

fn is_granted_from_protocol_6_on(name: &str, of: fn(&OutputOptions) -> bool) {
    let (v5, v6) = (ProtocolVersion::MAX_OF_C, ProtocolVersion::V6);
    let asks = [(name, Some("1"))];
    let refuses = [(name, None)];
    let cases: [(ProtocolVersion, Changes<'_>, bool); 4] =
        [(v6, &[], true), (v6, &refuses, false), (v5, &[], false), (v5, &asks, false)];
    for (max_version, changes, granted) in cases {
        let sends = SubscriberOptions { max_version, ..subscriber() };
        let asked = sends.pairs().iter().any(|(key, _)| *key == name);
        assert_eq!(asked, max_version == v6, "a C node sees the options of a C node");
        let options = parse_with(&sends, changes).expect("options");
        assert_eq!(of(&options), granted, "{max_version:?} {changes:?}");
        let reply = options.startup_reply(&facts(), 1);
        let said: Vec<_> = reply.iter().filter(|(key, _)| *key == name).map(|(_, v)| v.as_str()).collect();
        assert_eq!(said, if granted { vec!["t"] } else { vec![] }, "who has not asked reads what it always read");
    }
    assert!(parse(&[("max_proto_version", Some("6")), (name, Some("perhaps"))]).is_err());
}

#[test]
fn booleans_are_those_of_the_server() {
    for text in ["1", "t", "TRUE", "tr", "y", "yes", "on", " on "] {
        assert_eq!(boolean(text), Some(true), "{text}");
    }
    for text in ["0", "f", "False", "n", "no", "of", "off"] {
        assert_eq!(boolean(text), Some(false), "{text}");
    }
    for text in ["", " ", "o", "2", "truee", "yess"] {
        assert_eq!(boolean(text), None, "{text}");
    }
}

#[test]
fn the_command_is_the_one_of_the_c_edition() {
    let command = start_replication_command("spk_app_n1_sub_n2_n1", Lsn::new(0x01a3_f000), &subscriber().pairs());
    // Names in lists are always quoted, which reads the same; everything else is byte for byte.
    let want = "START_REPLICATION SLOT \"spk_app_n1_sub_n2_n1\" LOGICAL 0/1A3F000 (\
         expected_encoding 'UTF8', min_proto_version '4', max_proto_version '5', startup_params_format '1', \
         \"binary.want_internal_basetypes\" '1', \"binary.want_binary_basetypes\" '1', \
         \"binary.basetypes_major_version\" '1700', \"binary.sizeof_datum\" '8', \"binary.sizeof_int\" '4', \
         \"binary.sizeof_long\" '8', \"binary.bigendian\" '0', \"binary.float4_byval\" '0', \
         \"binary.float8_byval\" '1', \"binary.integer_datetimes\" '0', \
         \"hooks.setup_function\" 'spock.spock_hooks_setup', \"spock.forward_origins\" '', \
         \"spock.replication_set_names\" '\"default\",\"default_insert_only\",\"ddl_sql\"', \
         pg_version '170005', spock_version '6.0.0', spock_version_num '60000')";
    assert_eq!(command.as_deref(), Ok(want));

    let odd = SubscriberOptions { replication_sets: Some(vec!["it's".to_owned()]), ..subscriber() };
    let command = start_replication_command("s", None, &odd.pairs()).expect("a quote can be sent");
    assert!(command.contains("LOGICAL 0/0 (") && command.contains("'\"it''s\"'"), "{command}");
    let bad = SubscriberOptions { replication_sets: Some(vec!["a\\b".to_owned()]), ..subscriber() };
    let refused = start_replication_command("s", None, &bad.pairs());
    assert_eq!(refused, Err(CommandError::Backslash { option: "spock.replication_set_names" }));
}

/// The replies that the C extension gave to the options of each golden stream, byte for byte but for the process id.
#[test]
fn the_startup_reply_is_the_one_of_the_c_edition() {
    let text = include_str!("wire/dml.json");
    let scenario: serde_json::Value = serde_json::from_str(text).expect("golden streams");
    let streams = scenario["streams"].as_array().expect("streams");
    assert_eq!(streams.len(), 5);
    for stream in streams {
        let mode = stream["mode"].as_str().expect("mode");
        let option = |name: &str| stream["options"][name].to_string().trim_matches('"').to_owned();
        let (internal, binary) = (option("internal"), option("binary"));
        let (min, max, number) = (option("mn"), option("mx"), option("svn"));
        let options = parse(&[
            ("binary.want_internal_basetypes", Some(&internal)),
            ("binary.want_binary_basetypes", Some(&binary)),
            ("min_proto_version", Some(&min)),
            ("max_proto_version", Some(&max)),
            ("spock_version_num", Some(&number)),
        ])
        .expect(mode);

        let hex = stream["messages"][0]["hex"].as_str().expect("bytes");
        let digits = hex.as_bytes().chunks_exact(2);
        let golden: Vec<u8> =
            digits.map(|d| u8::from_str_radix(std::str::from_utf8(d).expect("ascii"), 16).expect("hex")).collect();
        let Ok(Envelope { message: Message::Startup(startup), .. }) = Envelope::read(&golden, ProtocolVersion::V4)
        else {
            panic!("{mode}: not a startup message");
        };
        let pid = startup.get("walsender_pid").and_then(|pid| std::str::from_utf8(pid).ok()).expect("pid");
        let reply = options.startup_reply(&facts(), pid.parse().expect("a number"));
        let mut ours = Vec::new();
        Startup::write_of(&mut ours, reply.iter().map(|(key, value)| (*key, value.as_str())));
        assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&golden), "{mode}");

        let session = Session::accept(&startup, "UTF8").expect(mode);
        assert_eq!(session.version, if mode.starts_with("v5") { ProtocolVersion::V5 } else { ProtocolVersion::V4 });
        assert_eq!(session.pg_version_num, Some(170_011));
    }
}

#[test]
fn the_reply_is_checked() {
    let protocol = |said: &str| Err(ReplyError::Protocol { said: said.to_owned() });
    let cases: [(&str, Pairs<'_>, Result<ProtocolVersion, ReplyError>); 10] = [
        ("5.0 says no version", &[("encoding", "UTF8")], Ok(ProtocolVersion::V4)),
        ("4", &[("proto_version", "4")], Ok(ProtocolVersion::V4)),
        ("5", &[("proto_version", "5")], Ok(ProtocolVersion::V5)),
        ("6", &[("proto_version", "6")], Ok(ProtocolVersion::V6)),
        ("not known", &[("proto_version", "7")], protocol("7")),
        ("no number", &[("proto_version", "")], protocol("")),
        (
            "other encoding",
            &[("encoding", "SQL_ASCII")],
            Err(ReplyError::Encoding { provider: "SQL_ASCII".to_owned(), ours: "UTF8".to_owned() }),
        ),
        (
            "no Boolean",
            &[("forward_changeset_origins", "x")],
            Err(ReplyError::BadFlag { key: "forward_changeset_origins" }),
        ),
        ("unknown keys", &[("something_new", ""), ("proto_version", "5")], Ok(ProtocolVersion::V5)),
        ("nothing at all", &[], Ok(ProtocolVersion::V4)),
    ];
    for (name, pairs, want) in cases {
        let mut bytes = Vec::new();
        Startup::write_of(&mut bytes, pairs.iter().copied());
        let Ok(Envelope { message: Message::Startup(startup), .. }) = Envelope::read(&bytes, ProtocolVersion::V4)
        else {
            panic!("{name}: not a startup message");
        };
        assert_eq!(Session::accept(&startup, "UTF8").map(|session| session.version), want, "{name}");
    }
}
