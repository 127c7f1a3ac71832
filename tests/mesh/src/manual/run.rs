//! All chapters, several at a time, counted by block.
//!
//! What is printed is what libtest prints, as far as `cargo xtask test` reads it: a line for each block that cannot run, the
//! text of each that failed, and one result.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::error::MeshError;
use crate::manual::blocks::{self, Chapter};
use crate::manual::play::{Ended, Stage};
use crate::prefix::Prefix;

/// Set to 1: rewrite what chapters show instead of failing.
pub const ACCEPT_VARIABLE: &str = "SPOCK_MANUAL_ACCEPT";
/// Chapters that are played at a time: each has two or three servers, which mostly wait for each other.
const AT_A_TIME: usize = 4;

/// What became of the blocks of one or more chapters.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Blocks that ran, and printed what is shown.
    pub right: usize,
    /// `chapter:line: reason` of blocks that cannot run.
    pub skipped: Vec<String>,
    /// `chapter:line` and what went wrong; blocks behind it in the chapter are not reached.
    pub wrong: Vec<(String, String)>,
    /// Blocks that were not reached.
    pub not_reached: usize,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.right += other.right;
        self.skipped.extend(other.skipped);
        self.wrong.extend(other.wrong);
        self.not_reached += other.not_reached;
    }

    /// Prints what `cargo xtask test` counts. `true`: nothing failed.
    pub fn print(&self) -> bool {
        for skipped in &self.skipped {
            println!("SKIPPED {skipped}");
        }
        for (block, why) in &self.wrong {
            println!("test {block} ... FAILED\n---- {block} stdout ----\n{why}\nfailures:");
        }
        let failed = self.wrong.len() + self.not_reached;
        let state = if failed == 0 { "ok" } else { "FAILED" };
        // Skipped blocks count as passed here: the reader takes each one away again for its line above.
        let passed = self.right + self.skipped.len();
        println!("test result: {state}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
        failed == 0
    }
}

/// The chapters: Markdown files of a directory whose name contains one of `words` (none: all), sorted.
pub fn chapters(dir: &Path, words: &[String]) -> Result<Vec<PathBuf>, MeshError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(MeshError::io("read", dir))? {
        let path = entry.map_err(MeshError::io("read", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".md") && (words.is_empty() || words.iter().any(|word| name.contains(word))) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Plays chapters, some at a time.
pub fn all(prefix: &Arc<Prefix>, chapters: Vec<PathBuf>) -> Outcome {
    let waiting = Mutex::new(VecDeque::from(chapters));
    let total = Mutex::new(Outcome::default());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(path) = next() {
                    let outcome = chapter(prefix, &path);
                    total.lock().unwrap_or_else(PoisonError::into_inner).add(outcome);
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn chapter(prefix: &Arc<Prefix>, path: &Path) -> Outcome {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |at: String, why: String| Outcome { wrong: vec![(at, why)], ..Outcome::default() };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return failed(name, error.to_string()),
    };
    match blocks::read(&text) {
        Err(error) => failed(format!("{name}:{}", error.line), error.why),
        Ok(chapter) => match play(prefix, path, &name, &text, &chapter) {
            Ok(outcome) => outcome,
            Err(error) => failed(name, error.to_string()),
        },
    }
}

fn play(prefix: &Arc<Prefix>, path: &Path, name: &str, text: &str, chapter: &Chapter) -> Result<Outcome, MeshError> {
    let mut outcome = Outcome::default();
    let stage = if chapter.nodes.is_empty() { None } else { Some(Stage::set(prefix, chapter)?) };
    let accept = std::env::var_os(ACCEPT_VARIABLE).is_some_and(|value| value == "1");
    let mut accepted: Vec<(usize, String, String)> = Vec::new();
    for (n, block) in chapter.blocks.iter().enumerate() {
        let at = format!("{name}:{}", block.line);
        let ended = match &stage {
            Some(stage) => stage.play(block)?,
            // The chapter's reader has seen that only blocks to be skipped name no node.
            None => match &block.what {
                blocks::What::Skip { reason } => Ended::Skipped(reason.clone()),
                _ => Ended::Wrong { why: "the chapter has no cluster".to_owned(), printed: None },
            },
        };
        match (ended, &block.shows) {
            (Ended::Right, _) => outcome.right += 1,
            (Ended::Skipped(reason), _) => outcome.skipped.push(format!("{at}: {reason}")),
            (Ended::Wrong { printed: Some(printed), .. }, Some(shows)) if accept => {
                accepted.push((shows.line, shows.text.clone(), printed));
                outcome.right += 1;
            }
            (Ended::Wrong { why, .. }, _) => {
                outcome.wrong.push((at, format!("{}\n{why}", block.text)));
                // Who writes a chapter wants to see everything that is wrong with it at once.
                if !accept {
                    outcome.not_reached = chapter.blocks.len() - n - 1;
                    break;
                }
            }
        }
    }
    if !accepted.is_empty() {
        fs::write(path, rewritten(text, &accepted)).map_err(MeshError::io("write", path))?;
    }
    Ok(outcome)
}

/// The chapter with other lines in blocks that show output: fence line from 1, old text, new text.
fn rewritten(text: &str, accepted: &[(usize, String, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (fence, old, new) in accepted.iter().rev() {
        let new: Vec<String> =
            new.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect();
        lines.splice(*fence..*fence + old.lines().count(), new);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_output_is_rewritten_in_place() {
        let text = "a\n```text shows\nold\n```\nb\n```text shows\n```\n";
        let accepted = [(2, "old\n".to_owned(), "new \n\nlines\n".to_owned()), (6, String::new(), "x\n".to_owned())];
        assert_eq!(rewritten(text, &accepted), "a\n```text shows\nnew\nlines\n```\nb\n```text shows\nx\n```\n");
    }
}
