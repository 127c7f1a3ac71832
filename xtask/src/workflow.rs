//! The GitHub Actions files, written from `ci/matrix.toml`: tests of every cell, and the release of what cells make.
//!
//! **Invariant:** caches are keyed by what they hold: servers by recipe files, crates by the lock file, so an old one is never
//! taken for a new one.

use std::fmt::Write as _;

use crate::matrix::{Cell, Matrix};
use crate::suites::Suite;

/// How long a job may take, in minutes: a cold build takes 10, all stories 10 more; a release builds the extension three times.
const JOB_MINUTES_MAX: u32 = 90;

const HEAD: &str = "# Written from ci/matrix.toml by `cargo xtask ci --workflow`. Change that file, not this one.\n";

/// Actions by the commit of a release: a tag can be moved, and some of these jobs hold a key.
const CHECKOUT: &str = "actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0";
const CACHE: &str = "actions/cache@0057852bfaa89a56745cba8c7296529d2fc39830 # v4.3.0";
const UPLOAD: &str = "actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02 # v4.6.2";
const DOWNLOAD: &str = "actions/download-artifact@634f93cb2916e3fdff6788551b99b062d0335ce0 # v5.0.0";
const ATTEST: &str = "actions/attest-build-provenance@977bb373ede98d70efdf65b84cb5f73e068dcc2a # v3.0.0";

/// What checks the workflows themselves; it holds the schema.
const CHECK_JSONSCHEMA: &str = "check-jsonschema==0.39.0";

/// How long each reader of foreign bytes is given random ones, in seconds.
const FUZZ_SECONDS: u32 = 20;

/// What a server's build depends on, beside the system's compiler: an entry of the cache holds one cell's server.
const RECIPE: &str = "${{ hashFiles('pg.lock', 'patches/**', 'xtask/src/server.rs', 'xtask/src/target.rs') }}";

/// Path and text of each file.
pub fn files(matrix: &Matrix) -> [(&'static str, String); 2] {
    [(".github/workflows/ci.yml", tests(matrix)), (".github/workflows/release.yml", release(matrix))]
}

fn tests(matrix: &Matrix) -> String {
    let mut text = format!(
        "{HEAD}name: ci
on:
  push:
    branches: [main]
  pull_request:
  workflow_dispatch:
permissions:
  contents: read
concurrency:
  # A new push to a pull request ends the run of the old one; every commit of main is tested to its end.
  group: ci-${{{{ github.event.pull_request.number || github.sha }}}}
  cancel-in-progress: true
jobs:
  once:
    runs-on: ubuntu-24.04
    container: debian:12
    timeout-minutes: {JOB_MINUTES_MAX}
    steps:
"
    );
    text.push_str(&steps(&prelude("debian-12"), "rustfmt -c clippy"));
    text.push_str(&crates());
    text.push_str(
        "      - run: cargo fmt --all --check
      - run: cargo xtask ci --once --yes
      - run: cargo clippy --workspace --exclude spock --all-targets -- -D warnings
",
    );
    text.push_str(&schema());
    text.push_str(&fuzz());
    text.push_str(&matrix_job("cell", "rustfmt -c clippy", matrix.cells.iter()));
    text.push_str("      - run: cargo xtask ci --cell ${{ matrix.cell }} --yes\n");
    text
}

/// Whether GitHub would take these files, which nothing here can try.
fn schema() -> String {
    format!(
        "      - name: schema of the workflows
        run: |
          apt-get install -y --no-install-recommends python3-venv
          python3 -m venv \"$RUNNER_TEMP/venv\"
          \"$RUNNER_TEMP/venv/bin/pip\" install --quiet {CHECK_JSONSCHEMA}
          \"$RUNNER_TEMP/venv/bin/check-jsonschema\" --builtin-schema vendor.github-workflows .github/workflows/*.yml
"
    )
}

/// A short run of every target; a crash fails the job and leaves its input.
fn fuzz() -> String {
    format!(
        "      - name: fuzz
        run: |
          apt-get install -y --no-install-recommends g++
          cargo run --quiet -p spock-core --example fuzz_seeds
          cd core/fuzz
          for target in fuzz_targets/*.rs; do
            name=$(basename \"$target\" .rs)
            mkdir -p \"corpus/$name\"
            cargo run --quiet --locked --release --bin \"$name\" -- -max_total_time={FUZZ_SECONDS} -print_final_stats=1 \"corpus/$name\"
          done
      - uses: {UPLOAD}
        if: failure()
        with:
          name: fuzz
          path: core/fuzz/crash-*
          if-no-files-found: ignore
"
    )
}

fn release(matrix: &Matrix) -> String {
    let mut text = format!(
        "{HEAD}name: release
on:
  push:
    tags: [\"v*\"]
  workflow_dispatch:
permissions:
  contents: read
jobs:
"
    );
    text.push_str(&tested());
    text.push_str(&matrix_job("package", "rustfmt", matrix.cells.iter().filter(|cell| !cell.packages.is_empty())));
    text.push_str(&format!(
        "      - run: cargo xtask ci --packages ${{{{ matrix.cell }}}} --out dist/${{{{ matrix.cell }}}} --yes
      - uses: {UPLOAD}
        with:
          name: ${{{{ matrix.cell }}}}
          path: dist
          if-no-files-found: error
"
    ));
    text.push_str(&publish());
    text
}

/// The job that the others wait for: what is released is a commit that every cell has tested. A run for a pull request does not
/// count, because it tests a merge with the commit.
fn tested() -> String {
    "  tested:
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    permissions:
      actions: read
    env:
      GH_TOKEN: ${{ github.token }}
      GH_REPO: ${{ github.repository }}
    steps:
      - name: the commit has passed ci
        run: |
          runs=$(gh run list --workflow ci.yml --commit \"$GITHUB_SHA\" --status success --json event --jq '[.[] | select(.event != \"pull_request\")] | length')
          test \"$runs\" -gt 0 || { echo \"::error::ci has not succeeded for $GITHUB_SHA: when it has, run this again\"; exit 1; }
"
    .to_owned()
}

/// The job that puts the packages of all cells together. It runs on the runner itself, which has what `gh` needs.
fn publish() -> String {
    let toolchain = toolchain("rustfmt");
    format!(
        "  publish:
    needs: [tested, package]
    runs-on: ubuntu-24.04
    timeout-minutes: {JOB_MINUTES_MAX}
    permissions:
      contents: write
      id-token: write
      attestations: write
    steps:
      - uses: {CHECKOUT}
        with:
          persist-credentials: false
{toolchain}      - uses: {DOWNLOAD}
        with:
          path: dist
          merge-multiple: true
      - run: sudo apt-get update && sudo apt-get install -y --no-install-recommends minisign
      - name: manifest of all cells, sums and signature
        env:
          KEY: ${{{{ secrets.MINISIGN_SECRET_KEY }}}}
        run: |
          test -n \"$KEY\" || {{ echo '::error::the secret MINISIGN_SECRET_KEY is not set, see CONTRIBUTING.md'; exit 1; }}
          umask 077
          trap 'rm -f \"$RUNNER_TEMP/minisign.key\"' EXIT
          printf '%s\\n' \"$KEY\" > \"$RUNNER_TEMP/minisign.key\"
          cargo xtask ci --publish dist --sign \"minisign:$RUNNER_TEMP/minisign.key\"
      - uses: {ATTEST}
        with:
          subject-checksums: dist/SHA256SUMS
      - name: publish
        if: github.ref_type == 'tag'
        env:
          GH_TOKEN: ${{{{ github.token }}}}
        run: |
          shopt -s nullglob
          gh release create \"$GITHUB_REF_NAME\" --verify-tag dist/SHA256SUMS* dist/manifest.json dist/*.deb dist/*.rpm dist/*.tar.gz dist/*.oci.tar dist/*.cdx.json
"
    )
}

/// A job that runs once for each cell, up to its own last steps. Packages are made of what is tested.
fn matrix_job<'a>(name: &str, components: &str, cells: impl Iterator<Item = &'a Cell>) -> String {
    let needs = if name == "package" { "    needs: tested\n" } else { "" };
    let mut text = format!(
        "  {name}:
{needs}    name: ${{{{ matrix.cell }}}}
    runs-on: ${{{{ matrix.runner }}}}
    container:
      image: ${{{{ matrix.image }}}}
      options: ${{{{ matrix.options }}}}
    timeout-minutes: {JOB_MINUTES_MAX}
    strategy:
      fail-fast: false
      matrix:
        include:
"
    );
    for cell in cells {
        let runner = if cell.arch == "aarch64" { "ubuntu-24.04-arm" } else { "ubuntu-24.04" };
        // Clean roots are made and entered in namespaces, with mounts of their own.
        let options = if cell.suites.contains(&Suite::Package) { "--privileged" } else { "" };
        let _ = writeln!(
            text,
            "          - {{ cell: {}, runner: {runner}, image: \"{}\", options: \"{options}\", prelude: \"{}\" }}",
            cell.name,
            image(&cell.distribution),
            prelude(&cell.distribution)
        );
    }
    text.push_str("    steps:\n");
    text.push_str(&steps("${{ matrix.prelude }}", components));
    text.push_str(&crates());
    text.push_str(&format!(
        "      - uses: {CACHE}
        with:
          path: |
            ~/.cache/spock/downloads
            ~/.cache/spock/servers
          key: servers-${{{{ matrix.cell }}}}-{RECIPE}
"
    ));
    text
}

/// What every job in a container begins with: what it lacks, the sources, the toolchain.
fn steps(prelude: &str, components: &str) -> String {
    let toolchain = toolchain(components);
    // The container runs as root, and the directory is the runner's: git would not read the last commit's time.
    format!(
        "      - run: {prelude}
      - uses: {CHECKOUT}
        with:
          persist-credentials: false
      - run: git config --global --add safe.directory \"$GITHUB_WORKSPACE\"
{toolchain}"
    )
}

/// The oldest Rust that the project supports.
fn toolchain(components: &str) -> String {
    format!(
        "      - name: Rust
        run: |
          curl --proto '=https' --tlsv1.2 -sSfo \"$RUNNER_TEMP/rustup.sh\" https://sh.rustup.rs
          sh \"$RUNNER_TEMP/rustup.sh\" -y --profile minimal --default-toolchain {} -c {components}
          echo \"$HOME/.cargo/bin\" >> \"$GITHUB_PATH\"
",
        env!("CARGO_PKG_RUST_VERSION")
    )
}

/// Sources of crates are the same everywhere.
fn crates() -> String {
    format!(
        "      - uses: {CACHE}
        with:
          path: ~/.cargo/registry
          key: crates-${{{{ hashFiles('Cargo.lock') }}}}
"
    )
}

fn image(distribution: &str) -> String {
    match distribution.split_once('-') {
        Some(("rocky", version)) => format!("rockylinux/rockylinux:{version}"),
        Some((id, version)) => format!("{id}:{version}"),
        None => distribution.to_owned(),
    }
}

fn prelude(distribution: &str) -> String {
    if distribution.starts_with("rocky") {
        // Headers of several libraries are in repositories that a fresh system does not ask.
        return "dnf install -y dnf-plugins-core epel-release && dnf config-manager --set-enabled crb && dnf install -y findutils gcc git tar zstd".to_owned();
    }
    "apt-get update && apt-get install -y --no-install-recommends ca-certificates curl gcc git libc6-dev zstd"
        .to_owned()
}
