//! Tests of the fakes.
