//! All stories. A file is a topic, a test is one behaviour, and its name says what is true afterwards.

mod cascade;
mod clock;
mod columns;
mod conflicts;
mod crash;
mod errors;
mod filters;
mod former;
mod golden;
mod hold;
mod maintenance;
mod mesh;
mod options;
mod partitions;
mod pause;
mod readonly;
mod removal;
mod requirements;
mod sequences;
mod sets;
mod two_way;
mod upgrade;
mod values;
mod wire_text;
mod workers;
