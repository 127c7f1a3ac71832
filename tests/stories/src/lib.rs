//! Scenarios on real servers, one behaviour a test.
