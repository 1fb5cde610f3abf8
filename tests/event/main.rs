//! Worker kinds on the real kernel.
fn main() {}
