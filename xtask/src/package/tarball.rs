//! Writes tarballs: sorted, one time, root's, compressed without a name or a time.

use std::io::Write;
use std::path::Path;

use flate2::{Compression, GzBuilder};

use crate::exit::{Failure, Result};
use crate::files;
use crate::package::tree::{Node, Tree};

/// Makes `<name>.tar.gz` in `out`, with everything below a directory called `name`.
pub fn write(name: &str, tree: &Tree, epoch: u64, out: &Path) -> Result<std::path::PathBuf> {
    let file = out.join(format!("{name}.tar.gz"));
    files::write_whole(&file, &gzip(&archive(Some(name), tree, epoch)?)?)?;
    Ok(file)
}

/// The bytes of a tar archive; `top` goes before every path.
pub fn archive(top: Option<&str>, tree: &Tree, epoch: u64) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let bad = Failure::io("write", "a tar archive");
    let mut write = || {
        if let Some(top) = top {
            let mut header = header(0o755, 0, epoch, tar::EntryType::Directory);
            builder.append_data(&mut header, format!("{top}/"), std::io::empty())?;
        }
        for (path, entry) in tree.entries() {
            let name = top.map_or_else(|| path.to_owned(), |top| format!("{top}/{path}"));
            match &entry.node {
                Node::Dir => {
                    let mut header = header(entry.mode, entry.owner, epoch, tar::EntryType::Directory);
                    builder.append_data(&mut header, format!("{name}/"), std::io::empty())?;
                }
                Node::Link(goal) => {
                    let mut header = header(0o777, entry.owner, epoch, tar::EntryType::Symlink);
                    builder.append_link(&mut header, name, goal)?;
                }
                Node::File(content) => {
                    let bytes = content.read().map_err(|e| std::io::Error::other(e.to_string()))?;
                    let mut header = header(entry.mode, entry.owner, epoch, tar::EntryType::Regular);
                    header.set_size(bytes.len() as u64);
                    builder.append_data(&mut header, name, bytes.as_slice())?;
                }
            }
        }
        builder.finish()
    };
    write().map_err(bad)?;
    builder.into_inner().map_err(Failure::io("write", "a tar archive"))
}

fn header(mode: u32, owner: u32, epoch: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    header.set_mtime(epoch);
    header.set_size(0);
    header
}

/// The bytes, compressed.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(Failure::io("compress", "bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::plan::tests::sample;

    #[test]
    fn an_archive_is_sorted_and_knows_one_time() {
        let bytes = archive(Some("top"), &sample().tree, 86_400).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (86_400, 0));
            found.push((entry.path().unwrap().to_string_lossy().into_owned(), entry.header().mode().unwrap()));
        }
        let want = [
            ("top/", 0o755),
            ("top/usr/", 0o755),
            ("top/usr/lib/", 0o755),
            ("top/usr/lib/spock/", 0o755),
            ("top/usr/lib/spock/a", 0o755),
            ("top/usr/lib/spock/b", 0o777),
        ];
        assert_eq!(found, want.map(|(path, mode)| (path.to_owned(), mode)));
    }
}
