//! Packets, in a namespace of the test's own.

pub const TESTS: &[super::Test] = &[];
