//! What is said while work goes on: a spinner for people at a terminal, plain lines for logs, events for programs.
//!
//! **Invariants.** stdout carries data only (the prefix, a table, JSON events), everything else goes to stderr. The words
//! suffice without colour. One struct per event feeds all three forms.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Version of the event lines that `--json` prints.
const EVENT_SCHEMA: u32 = 1;

/// How things are said; decided once, at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// A spinner on a terminal.
    Terminal {
        /// False when `NO_COLOR` is set.
        colour: bool,
    },
    /// One line per message.
    Plain,
    /// One JSON event per line on stdout.
    Json,
}

impl Voice {
    /// JSON when asked for, a spinner when stderr is a terminal, plain lines otherwise.
    pub fn choose(json: bool) -> Self {
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match (json, std::io::stderr().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal { colour: !no_colour },
            (false, false) => Self::Plain,
        }
    }
}

/// One thing that happened.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// A remark: what was chosen, verified, found.
    Note { verb: &'a str, text: &'a str },
    /// A step began.
    StepStarted { step: &'a str, why: &'a str },
    /// A step is done.
    StepDone { step: &'a str, elapsed_ms: u128 },
    /// A step had nothing to do.
    StepSkipped { step: &'a str, why: &'a str },
    /// What `--plan` found.
    Planned { step: &'a str, would_run: bool, why: &'a str },
    /// A result a program may want: name and value.
    Result { name: &'a str, value: serde_json::Value },
    /// The run failed.
    Failed { message: &'a str, hint: &'a str, exit_code: u8 },
}

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    at_ms: u128,
    #[serde(flatten)]
    event: Event<'a>,
}

/// The one place that writes to stdout and stderr.
pub struct Say {
    voice: Voice,
    verbose: bool,
    began: Instant,
    out: Mutex<()>,
    failures: Mutex<Vec<String>>,
}

impl Say {
    /// A new voice; `verbose` also shows what children print.
    pub fn new(voice: Voice, verbose: bool) -> Self {
        Self { voice, verbose, began: Instant::now(), out: Mutex::new(()), failures: Mutex::default() }
    }

    /// Is every line of a child shown?
    pub fn verbose(&self) -> bool {
        self.verbose && self.voice != Voice::Json
    }

    /// A remark, with a right-aligned verb.
    pub fn note(&self, verb: &str, text: &str) {
        match self.voice {
            Voice::Json => self.event(Event::Note { verb, text }),
            Voice::Terminal { colour: true } => self.stderr(&format!("\x1b[1;32m{verb:>12}\x1b[0m {text}")),
            Voice::Terminal { colour: false } | Voice::Plain => self.stderr(&format!("{verb:>12} {text}")),
        }
    }

    /// A test that failed: `label` is its part, `17 patched: stories`. It is remembered, for a list at the end.
    pub fn failed(&self, label: &str, test: &str, detail: &str) {
        let suite = label.rsplit(": ").next().unwrap_or(label);
        if let Ok(mut failures) = self.failures.lock() {
            failures.push(format!("{suite} {test}"));
        }
        self.note("Failed", &format!("{label}: {test}{detail}"));
    }

    /// Suite and name of what failed since this was asked last, in order.
    pub fn take_failures(&self) -> Vec<String> {
        self.failures.lock().map(|mut failures| std::mem::take(&mut *failures)).unwrap_or_default()
    }

    /// A line of data for people: on stdout, except when stdout carries events.
    pub fn data(&self, line: &str) {
        if self.voice != Voice::Json {
            let _guard = self.out.lock();
            // A reader that went away is no reason to fail: the work is done.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }

    /// A result: `value` on a line of its own on stdout, or an event.
    pub fn result(&self, name: &str, value: &str) {
        self.data(value);
        self.event(Event::Result { name, value: value.into() });
    }

    /// An event for programs; silent in the other voices.
    pub fn event(&self, event: Event<'_>) {
        if self.voice == Voice::Json {
            let line = Line { schema: EVENT_SCHEMA, at_ms: self.began.elapsed().as_millis(), event };
            if let Ok(text) = serde_json::to_string(&line) {
                let _guard = self.out.lock();
                let _ = writeln!(std::io::stdout(), "{text}");
            }
        }
    }

    /// A line on stderr as it is, e.g. from a child.
    pub fn stderr(&self, line: &str) {
        let _guard = self.out.lock();
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// Begins a step; it is over when the returned value is finished or dropped.
    pub fn begin<'s>(&'s self, step: &'s str, why: &str) -> Progress<'s> {
        self.event(Event::StepStarted { step, why });
        let bar = match self.voice {
            Voice::Terminal { .. } => {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}") {
                    bar.set_style(style);
                }
                bar.set_prefix(step.to_owned());
                bar.enable_steady_tick(Duration::from_millis(120));
                Some(bar)
            }
            Voice::Plain => {
                let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
                self.note("Running", &format!("{step}{why}"));
                None
            }
            Voice::Json => None,
        };
        Progress { say: self, step, bar, began: Instant::now() }
    }
}

/// A step that is going on.
pub struct Progress<'s> {
    say: &'s Say,
    step: &'s str,
    bar: Option<ProgressBar>,
    began: Instant,
}

impl Progress<'_> {
    /// The newest line of the step's log.
    pub fn tail(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim_end().to_owned());
        }
        if self.say.verbose() {
            match &self.bar {
                Some(bar) => bar.suspend(|| self.say.stderr(line)),
                None => self.say.stderr(line),
            }
        }
    }

    /// A stage of the step, for those who do not see the spinner.
    pub fn remark(&self, line: &str) {
        match self.say.voice {
            Voice::Plain if !self.say.verbose => self.say.note("", line),
            Voice::Json => self.say.event(Event::Note { verb: "", text: line }),
            Voice::Plain | Voice::Terminal { .. } => {}
        }
    }

    /// The step is done.
    pub fn done(self) {
        let elapsed = self.began.elapsed();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.say.event(Event::StepDone { step: self.step, elapsed_ms: elapsed.as_millis() });
        if self.say.voice != Voice::Json {
            self.say.note("Done", &format!("{} in {}", self.step, in_words(elapsed)));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `0.4 s`, `12 s`, `3 min 05 s`.
pub fn in_words(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0..10 => format!("{:.1} s", elapsed.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_words() {
        for (ms, want) in [(420, "0.4 s"), (12_300, "12 s"), (185_000, "3 min 05 s")] {
            assert_eq!(in_words(Duration::from_millis(ms)), want);
        }
    }

    #[test]
    fn what_failed_is_remembered_once() {
        let say = Say::new(Voice::Plain, false);
        say.failed("17 patched: stories", "crash::c", ", see log");
        say.failed("unit", "a::b", "");
        assert_eq!(say.take_failures(), ["stories crash::c", "unit a::b"]);
        assert_eq!(say.take_failures(), [""; 0]);
    }

    #[test]
    fn events_carry_schema_and_name() {
        let line = Line { schema: EVENT_SCHEMA, at_ms: 7, event: Event::StepDone { step: "fetch", elapsed_ms: 3 } };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"schema":1,"at_ms":7,"event":"step_done","step":"fetch","elapsed_ms":3}"#);
    }
}
