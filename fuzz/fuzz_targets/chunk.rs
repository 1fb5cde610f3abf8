//! See `ringfort::fuzzing::chunk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::fuzzing::chunk(data));
