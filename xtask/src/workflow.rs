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

/// Path and text of each file.
pub fn files(matrix: &Matrix) -> [(&'static str, String); 2] {
    [(".github/workflows/ci.yml", tests(matrix)), (".github/workflows/release.yml", release(matrix))]
}

fn tests(matrix: &Matrix) -> String {
    let mut text = format!(
        "{HEAD}name: ci\non:\n  push:\n    branches: [main]\n  pull_request:\n\
         permissions:\n  contents: read\n\
         concurrency:\n  group: ci-${{{{ github.ref }}}}\n  cancel-in-progress: true\n\
         jobs:\n  once:\n    runs-on: ubuntu-24.04\n    container: debian:12\n    timeout-minutes: {JOB_MINUTES_MAX}\n    steps:\n"
    );
    text.push_str(&steps(&prelude("debian-12"), "debian-12", "x86_64"));
    text.push_str("      - run: cargo xtask ci --once --yes\n");
    text.push_str(&matrix_job("cell", matrix.cells.iter()));
    text.push_str("      - run: cargo xtask ci --cell ${{ matrix.cell }} --yes\n");
    text
}

fn release(matrix: &Matrix) -> String {
    let mut text = format!(
        "{HEAD}name: release\non:\n  push:\n    tags: [\"v*\"]\n  workflow_dispatch:\npermissions:\n  contents: read\njobs:\n"
    );
    text.push_str(&matrix_job("package", matrix.cells.iter().filter(|cell| !cell.packages.is_empty())));
    text.push_str(
        "      - run: cargo xtask ci --packages ${{ matrix.cell }} --out dist/${{ matrix.cell }} --yes\n\
         \x20     - uses: actions/upload-artifact@v4\n        with:\n          name: ${{ matrix.cell }}\n          path: dist\n          if-no-files-found: error\n",
    );
    let _ = write!(
        text,
        "  publish:\n    needs: package\n    runs-on: ubuntu-24.04\n    timeout-minutes: {JOB_MINUTES_MAX}\n\
         \x20   permissions:\n      contents: write\n      id-token: write\n      attestations: write\n    steps:\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - uses: dtolnay/rust-toolchain@1.95.0\n\
         \x20     - uses: actions/download-artifact@v4\n        with:\n          path: dist\n          merge-multiple: true\n\
         \x20     - run: sudo apt-get update && sudo apt-get install -y --no-install-recommends minisign\n\
         \x20     - name: manifest of all cells, sums and signature\n        env:\n          KEY: ${{{{ secrets.MINISIGN_SECRET_KEY }}}}\n        run: |\n\
         \x20         umask 077\n          printf '%s\\n' \"$KEY\" > \"$RUNNER_TEMP/minisign.key\"\n\
         \x20         cargo xtask ci --publish dist --sign \"minisign:$RUNNER_TEMP/minisign.key\"\n          rm \"$RUNNER_TEMP/minisign.key\"\n\
         \x20     - uses: actions/attest-build-provenance@v2\n        with:\n          subject-checksums: dist/SHA256SUMS\n\
         \x20     - name: publish\n        if: github.ref_type == 'tag'\n        env:\n          GH_TOKEN: ${{{{ github.token }}}}\n        run: gh release create \"$GITHUB_REF_NAME\" --verify-tag dist/SHA256SUMS* dist/manifest.json dist/*.deb dist/*.rpm dist/*.tar.gz dist/*.oci.tar dist/*.cdx.json\n"
    );
    text
}

/// A job that runs once for each cell, up to its own last steps.
fn matrix_job<'a>(name: &str, cells: impl Iterator<Item = &'a Cell>) -> String {
    let mut text = format!(
        "  {name}:\n    name: ${{{{ matrix.cell }}}}\n    runs-on: ${{{{ matrix.runner }}}}\n    container:\n      image: ${{{{ matrix.image }}}}\n      options: ${{{{ matrix.options }}}}\n\
         \x20   timeout-minutes: {JOB_MINUTES_MAX}\n    strategy:\n      fail-fast: false\n      matrix:\n        include:\n"
    );
    for cell in cells {
        let runner = if cell.arch == "aarch64" { "ubuntu-24.04-arm" } else { "ubuntu-24.04" };
        // Clean roots are made and entered in namespaces, with mounts of their own.
        let options = if cell.suites.contains(&Suite::Package) { "--privileged" } else { "" };
        let _ = writeln!(
            text,
            "          - {{ cell: {}, runner: {runner}, image: \"{}\", options: \"{options}\", distribution: {}, arch: {}, prelude: \"{}\" }}",
            cell.name,
            image(&cell.distribution),
            cell.distribution,
            cell.arch,
            prelude(&cell.distribution)
        );
    }
    text.push_str("    steps:\n");
    text.push_str(&steps("${{ matrix.prelude }}", "${{ matrix.distribution }}", "${{ matrix.arch }}"));
    text
}

/// What every job begins with: what a fresh container lacks, the sources, the toolchain, the caches.
fn steps(prelude: &str, distribution: &str, arch: &str) -> String {
    let place = format!("{distribution}-{arch}");
    let recipe = "${{ hashFiles('pg.lock', 'patches/**', 'xtask/src/server.rs', 'xtask/src/target.rs') }}";
    format!(
        "      - run: {prelude}\n\
         \x20     - uses: actions/checkout@v4\n\
         \x20     - uses: dtolnay/rust-toolchain@1.95.0\n        with:\n          components: rustfmt, clippy\n\
         \x20     - uses: actions/cache@v4\n        with:\n          path: ~/.cargo/registry\n          key: crates-${{{{ hashFiles('Cargo.lock') }}}}\n\
         \x20     - uses: actions/cache@v4\n        with:\n          path: |\n            ~/.cache/spock/downloads\n            ~/.cache/spock/servers\n          key: servers-{place}-{recipe}\n"
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
        return "dnf install -y dnf-plugins-core epel-release && dnf config-manager --set-enabled crb && dnf install -y gcc git".to_owned();
    }
    "apt-get update && apt-get install -y --no-install-recommends ca-certificates curl gcc libc6-dev git".to_owned()
}
