//! Steps: values that say what they are made from and what they make. One loop decides which of them run.
//!
//! **Invariant:** `--plan` and a real run look at the same values, so the plan is what would happen.

use std::path::PathBuf;

use crate::child::check_interrupt;
use crate::cx::Cx;
use crate::exit::Result;
use crate::say::{Event, Progress};
use crate::stamp::{Inputs, Stamp, Verdict};

/// The work of a step.
pub type Work<'a> = Box<dyn FnOnce(&Progress<'_>) -> Result<()> + 'a>;

/// One step of a pipeline.
pub struct Step<'a> {
    /// `17 patched: compile`.
    pub name: String,
    /// What its result depends on.
    pub inputs: Inputs,
    /// What must be there afterwards.
    pub outputs: Vec<PathBuf>,
    /// Where the inputs are remembered.
    pub stamp: Stamp,
    /// What to do.
    pub work: Work<'a>,
}

/// Runs the steps that need it, in order; with `--plan` only says which those are.
pub fn perform(cx: &Cx, steps: Vec<Step<'_>>) -> Result<()> {
    for step in steps {
        check_interrupt()?;
        let verdict = match step.stamp.verdict(&step.inputs, &step.outputs) {
            Verdict::Fresh if cx.flags.force => Verdict::Run("--force".to_owned()),
            verdict => verdict,
        };
        match verdict {
            verdict if cx.flags.plan => planned(cx, &step.name, &verdict),
            Verdict::Fresh => cx.say.event(Event::StepSkipped { step: &step.name, why: "nothing changed" }),
            Verdict::Run(why) => {
                let progress = cx.say.begin(&step.name, &why);
                step.stamp.remove()?;
                (step.work)(&progress)?;
                step.stamp.write(&step.inputs)?;
                progress.done();
            }
        }
    }
    Ok(())
}

fn planned(cx: &Cx, step: &str, verdict: &Verdict) {
    let (would_run, why) = match verdict {
        Verdict::Fresh => (false, "nothing changed"),
        Verdict::Run(why) => (true, why.as_str()),
    };
    cx.say.event(Event::Planned { step, would_run, why });
    cx.say.data(&format!("{} {step}: {why}", if would_run { "run " } else { "skip" }));
}
