//! What the extension decides, as functions of values: wire format, merge rule, names and ids. No I/O, no clock, no server.
