//! For who comes from duyler/worker-pool: theirs, ours, what is better, and the test of each line.

#![doc = include_str!("coming_from.md")]
