//! The floor that `cargo bench` has too: `peer-floor serve floor PORT [defer]`.

#[allow(dead_code)]
#[path = "../../../support/mod.rs"]
mod support;

fn main() {
    assert!(support::has_served(), "peer-floor serve floor PORT [defer]");
}
