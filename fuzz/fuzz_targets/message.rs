//! See `ringfort::fuzzing::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::fuzzing::message(data));
