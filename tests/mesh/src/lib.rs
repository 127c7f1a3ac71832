//! Clusters of real servers for tests and the demo.
