//! See `ringfort::fuzzing::connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::fuzzing::connection(data));
