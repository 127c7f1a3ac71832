//! The GitHub Actions file, written from `ci/matrix.toml`: one job for what needs no server, one job per cell.

use std::fmt::Write as _;

use crate::matrix::{Cell, Matrix};

/// Where it goes.
pub const PATH: &str = ".github/workflows/ci.yml";
/// How long a job may take, in minutes: a cold build takes 10, all stories 10 more.
const JOB_MINUTES_MAX: u32 = 60;

/// The file's text.
pub fn text(matrix: &Matrix) -> String {
    let mut text = String::from(
        "# Written from ci/matrix.toml by `cargo xtask ci --workflow`. Change that file, not this one.\n\
         name: ci\n\
         on:\n  push:\n    branches: [main]\n  pull_request:\n\
         permissions:\n  contents: read\n\
         jobs:\n",
    );
    let once = "cargo xtask ci --once --yes";
    let _ = write!(text, "  once:\n{}", job("debian:12", "x86_64", once));
    for cell in &matrix.cells {
        let run = format!("cargo xtask ci --cell {} --yes", cell.name);
        let _ = write!(text, "  {}:\n{}", cell.name, job(&image(cell), &cell.arch, &run));
    }
    text
}

fn image(cell: &Cell) -> String {
    cell.distribution.replacen('-', ":", 1)
}

fn job(image: &str, arch: &str, run: &str) -> String {
    let runner = if arch == "aarch64" { "ubuntu-24.04-arm" } else { "ubuntu-24.04" };
    let install = "apt-get update && apt-get install -y --no-install-recommends ca-certificates curl gcc libc6-dev git";
    format!(
        "    runs-on: {runner}\n    container: {image}\n    timeout-minutes: {JOB_MINUTES_MAX}\n    steps:\n\
         \x20     - run: {install}\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - uses: dtolnay/rust-toolchain@1.95.0\n        with:\n          components: rustfmt, clippy\n\
         \x20     - run: {run}\n"
    )
}
