//! The commands, one file each, in the order in which they build on each other.

pub mod bench;
pub mod build;
pub mod chaos;
pub mod ci;
pub mod demo;
pub mod doctor;
pub mod extension;
pub mod fetch;
pub mod manual;
pub mod package;
pub mod patch;
pub mod server;
pub mod sim;
pub mod test;
pub mod tidy;
pub mod update;
