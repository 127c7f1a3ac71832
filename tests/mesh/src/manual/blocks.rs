//! What a chapter asks for: its cluster, and its command blocks.
//!
//! A chapter names its cluster in a comment, `<!-- cluster: n1 n2 -->`, or `<!-- cluster: n1 n2 joined -->` when the nodes
//! subscribe to each other from the start. Words behind the language of a fence say what becomes of a block:
//!
//! | fence | meaning |
//! |---|---|
//! | `sql node=n1` | psql runs it in the database `app` of that node; no statement may fail |
//! | `sql node=n1 fails=55000` | the last statement fails with that SQLSTATE |
//! | `sql node=n1 until` | is run again until it shows what follows |
//! | `console node=n1` | lines that begin with `$ ` are run by a shell, with libpq's variables set to that node |
//! | `ini node=n1` | settings that the server is restarted with |
//! | `text shows` | what the block above prints |
//! | `... skip: why` | cannot run, and why |
//!
//! `<!-- run sql node=n1`, lines, `-->` is run and not shown; `<!-- run text shows` behind it is what it prints. A block of a
//! language that can run needs one of these words: nothing is left out in silence.

use std::fmt;

/// Languages whose blocks are commands.
const COMMANDS: [&str; 4] = ["sql", "console", "ini", "sh"];

/// A chapter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chapter {
    /// Names of the nodes that it plays on; none: nothing of it runs.
    pub nodes: Vec<String>,
    /// Do they subscribe to each other from the start?
    pub joined: bool,
    /// In order.
    pub blocks: Vec<Block>,
}

/// A command block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Of its fence, from 1.
    pub line: usize,
    /// What becomes of it.
    pub what: What,
    /// Its lines.
    pub text: String,
    /// What it prints.
    pub shows: Option<Shows>,
}

/// The block that shows what another one prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shows {
    /// Of its fence, from 1.
    pub line: usize,
    /// Its lines.
    pub text: String,
}

/// What becomes of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Statements for psql.
    Sql {
        /// Where.
        node: String,
        /// Again until it shows what is expected.
        until: bool,
        /// SQLSTATE of the last statement; none: success.
        fails: Option<String>,
    },
    /// Shell commands, with what they print between them.
    Console {
        /// Whose server they reach.
        node: String,
    },
    /// Settings.
    Settings {
        /// Of which server.
        node: String,
    },
    /// It cannot run.
    Skip {
        /// Why.
        reason: String,
    },
}

/// A chapter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.why)
    }
}

/// A fenced block of any language: line of the fence from 1, info string, text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// From 1.
    pub line: usize,
    /// What stands behind the back ticks.
    pub info: String,
    /// The lines between the fences.
    pub text: String,
    /// Is it a comment `<!-- run ...`, which readers do not see?
    pub hidden: bool,
}

/// All fenced blocks of a text, and comments that are run.
pub fn fences(text: &str) -> Vec<Fence> {
    let mut found = Vec::new();
    let mut open: Option<(Fence, String)> = None;
    for (i, line) in text.lines().enumerate() {
        if let Some((fence, end)) = &mut open {
            if line.trim() == end {
                found.extend(open.take().map(|(fence, _)| fence));
            } else {
                fence.text.push_str(line);
                fence.text.push('\n');
            }
            continue;
        }
        let start = line.trim_start();
        let ticks = start.len() - start.trim_start_matches('`').len();
        let fence =
            |info: &str, hidden| Fence { line: i + 1, info: info.trim().to_owned(), text: String::new(), hidden };
        if let Some(info) = line.strip_prefix("<!-- run ") {
            open = Some((fence(info, true), "-->".to_owned()));
        } else if ticks >= 3 {
            open = Some((fence(&start[ticks..], false), "`".repeat(ticks)));
        }
    }
    found
}

/// Reads a chapter.
pub fn read(text: &str) -> Result<Chapter, Unreadable> {
    let mut chapter = Chapter::default();
    if let Some(words) = text.lines().find_map(|line| line.strip_prefix("<!-- cluster: ")?.strip_suffix("-->")) {
        chapter.nodes = words.split_whitespace().filter(|word| *word != "joined").map(str::to_owned).collect();
        chapter.joined = words.split_whitespace().any(|word| word == "joined");
    }
    for fence in fences(text) {
        let Fence { line, info, text, .. } = fence;
        if info == "text shows" {
            let owner = chapter.blocks.last_mut().filter(|block| block.shows.is_none() && block.can_show());
            let owner = owner.ok_or_else(|| Unreadable {
                line,
                why: "shows the output of nothing: it must follow a block that is run".to_owned(),
            })?;
            owner.shows = Some(Shows { line, text });
        } else if let Some(what) = what(&info).map_err(|why| Unreadable { line, why })? {
            if let Some(node) = what.node().filter(|node| !chapter.nodes.iter().any(|known| known == node)) {
                return Err(Unreadable { line, why: format!("the chapter's cluster has no node {node:?}") });
            }
            chapter.blocks.push(Block { line, what, text, shows: None });
        }
    }
    for block in &chapter.blocks {
        if matches!(&block.what, What::Sql { until: true, .. }) && block.shows.is_none() {
            return Err(Unreadable { line: block.line, why: "until needs a block `text shows` after it".to_owned() });
        }
    }
    Ok(chapter)
}

fn what(info: &str) -> Result<Option<What>, String> {
    let (language, rest) = info.split_once(' ').unwrap_or((info, ""));
    if !COMMANDS.contains(&language) {
        return Ok(None);
    }
    if let Some(reason) = rest.strip_prefix("skip:") {
        return match reason.trim() {
            "" => Err("skip: needs a reason".to_owned()),
            reason => Ok(Some(What::Skip { reason: reason.to_owned() })),
        };
    }
    let (mut node, mut until, mut fails) = (None, false, None);
    for word in rest.split_whitespace() {
        match word.split_once('=') {
            Some(("node", name)) => node = Some(name.to_owned()),
            Some(("fails", code)) if language == "sql" => fails = Some(code.to_owned()),
            None if word == "until" && language == "sql" => until = true,
            _ => return Err(format!("{word:?} is not known behind {language}")),
        }
    }
    let node = node.ok_or_else(|| format!("a {language} block needs node=NAME or skip: REASON"))?;
    match language {
        "sql" => Ok(Some(What::Sql { node, until, fails })),
        "ini" => Ok(Some(What::Settings { node })),
        "console" => Ok(Some(What::Console { node })),
        other => Err(format!("{other} blocks cannot run: write console, or skip: REASON")),
    }
}

impl What {
    /// The node that it runs on.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Sql { node, .. } | Self::Console { node } | Self::Settings { node } => Some(node),
            Self::Skip { .. } => None,
        }
    }
}

impl Block {
    fn can_show(&self) -> bool {
        matches!(self.what, What::Sql { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chapter_names_its_cluster_and_its_blocks() {
        let text = "# T\n<!-- cluster: n1 n2 joined -->\n```sql node=n1 until\nselect 1;\n```\n```text shows\n1\n```\n\
                    <!-- run sql node=n2 fails=55000\nselect 2;\n-->\n<!-- run text shows\n2\n-->\n```text\nx\n```\n```console skip: takes minutes\n$ make\n```\n";
        let chapter = read(text).unwrap();
        assert_eq!((chapter.nodes.as_slice(), chapter.joined), (&["n1".to_owned(), "n2".to_owned()][..], true));
        let [first, hidden, skipped] = chapter.blocks.as_slice() else { panic!("{:?}", chapter.blocks) };
        assert_eq!((first.line, first.shows.as_ref().map(|shows| shows.text.as_str())), (3, Some("1\n")));
        assert_eq!(hidden.what, What::Sql { node: "n2".to_owned(), until: false, fails: Some("55000".to_owned()) });
        assert_eq!(hidden.shows.as_ref().map(|shows| shows.text.as_str()), Some("2\n"));
        assert_eq!(skipped.what, What::Skip { reason: "takes minutes".to_owned() });
    }

    #[test]
    fn nothing_is_left_out_in_silence() {
        for (text, why) in [
            ("```sql\nselect 1;\n```\n", "needs node="),
            ("```console skip:\n$ x\n```\n", "needs a reason"),
            ("```sql node=n7\nselect 1;\n```\n", "no node"),
            ("```sql node=n1 untill\nselect 1;\n```\n", "not known"),
            ("```text shows\n1\n```\n", "output of nothing"),
            ("```sql node=n1 until\nselect 1;\n```\n", "text shows"),
            ("```sh node=n1\nls\n```\n", "cannot run"),
        ] {
            let error = read(&format!("<!-- cluster: n1 -->\n{text}")).unwrap_err();
            assert!(error.why.contains(why), "{text}: {error}");
        }
    }
}
