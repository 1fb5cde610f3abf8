//! See `ringfort::fuzzing::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::fuzzing::frame(data));
