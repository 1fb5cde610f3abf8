//! The demo: what `ringfort` without arguments shows, on loopback.

use super::Settings;
use super::app::Front;
use super::serve::{Again, serve};
use ringfort::Error;

/// Blocks until it was stopped and has drained.
pub(crate) fn run(settings: Settings, again: Again) -> Result<(), Error> {
    serve(settings, Front::Page, again)
}
