//! See `ringfort::fuzzing::head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::fuzzing::head(data));
