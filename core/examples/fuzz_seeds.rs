//! Writes the golden streams as first inputs for the fuzz targets, one file a message: `core/fuzz/corpus/{message,startup}/`,
//! and one set of options for `options`.

use std::error::Error;
use std::fs;
use std::path::Path;

const OPTIONS: &str = "expected_encoding=UTF8\nmin_proto_version=4\nmax_proto_version=5\nstartup_params_format=1\n\
    binary.want_internal_basetypes=1\nbinary.want_binary_basetypes=1\nbinary.basetypes_major_version=1700\n\
    binary.sizeof_datum=8\nbinary.bigendian=0\nbinary.float4_byval=0\nspock.forward_origins=\"all\"\n\
    spock.replication_set_names=default,ddl_sql\nspock_version_num=60000";

fn main() -> Result<(), Box<dyn Error>> {
    let core = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = core.join("fuzz/corpus");
    for target in ["message", "frame", "startup", "options", "identifiers", "lsn", "names"] {
        fs::create_dir_all(corpus.join(target))?;
    }
    fs::write(corpus.join("options/subscriber"), OPTIONS)?;
    for entry in fs::read_dir(core.join("tests/wire"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let scenario: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        for (number, stream) in scenario["streams"].as_array().ok_or("no streams")?.iter().enumerate() {
            for (at, message) in stream["messages"].as_array().ok_or("no messages")?.iter().enumerate() {
                let bytes = from_hex(message["hex"].as_str().ok_or("no bytes")?)?;
                let file = format!("{name}-{number}-{at}");
                fs::write(corpus.join("message").join(&file), &bytes)?;
                if let Some(body) = bytes.strip_prefix(b"S\x01") {
                    fs::write(corpus.join("startup").join(&file), body)?;
                }
            }
        }
    }
    Ok(())
}

fn from_hex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}
