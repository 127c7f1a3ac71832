//! Packages: from an installed server with the extension to deb, rpm, tar and OCI.
//!
//! In reading order: [`plan`] is what will be made, from what was typed; [`layout`] where things go on the user's system;
//! [`strip`] parts programs from their debug symbols; [`payload`] puts the files of each package together as a [`tree`];
//! [`relations`] reads from the built files what a package needs; [`deb`], [`rpm`], [`tarball`] and [`oci`] write bytes;
//! [`sbom`], [`publish`] say what was written, [`licences`] what goes along with it; [`verify`] does it twice and [`compare`] looks where the bytes differ. [`texts`] renders `packaging/`,
//! [`tools`] builds the operator's program.
//!
//! **Invariants.** A writer is a function of a [`plan::Package`] and an epoch: no clock, no umask, no owner, no path of this
//! machine reaches its bytes. Dependencies come from DT_NEEDED of the files in the package.

pub mod compare;
pub mod deb;
pub mod layout;
pub mod licences;
pub mod make;
pub mod oci;
pub mod payload;
pub mod plan;
pub mod publish;
pub mod relations;
pub mod rpm;
pub mod sbom;
pub mod strip;
pub mod tarball;
pub mod texts;
pub mod tools;
pub mod tree;
pub mod verify;
