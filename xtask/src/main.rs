//! The front door: from a PostgreSQL major to an installed, tested server with the extension.
fn main() {}
