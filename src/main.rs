//! The `ringfort` command.
fn main() {}
