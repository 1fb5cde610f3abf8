//! The bodies that replies are held against. Pure.

use crate::load::request::{ExpectBody, Template};
use std::sync::{Arc, OnceLock};

/// Of each request of a mix the body that all replies to it must equal, if there is one: known from
/// the start, or that of the first right reply, whichever thread got it.
#[derive(Clone, Debug)]
pub struct References(Arc<[OnceLock<Reference>]>);

/// A body as far as it is kept, and its length.
type Reference = (Arc<[u8]>, u64);

impl References {
    /// Of this mix.
    #[must_use]
    pub fn new(templates: &[Template]) -> Self {
        let known = |template: &Template| match &template.expect.body {
            ExpectBody::Any | ExpectBody::SameAsFirst => OnceLock::new(),
            ExpectBody::Exactly(body) => OnceLock::from((Arc::clone(body), body.len() as u64)),
        };
        Self(templates.iter().map(known).collect())
    }

    pub(super) fn get(&self, template: u16) -> Option<(&[u8], u64)> {
        self.0[usize::from(template)].get().map(|(body, length)| (&**body, *length))
    }

    /// Whether a reply has the first one's body; it is that, if there was none. `kept`: as far as
    /// the body came before there was a first one; the rest was compared as it came.
    pub(super) fn is_as_first(&self, template: u16, kept: &[u8], length: u64) -> bool {
        let (first, first_length) =
            self.0[usize::from(template)].get_or_init(|| (kept.into(), length));
        *first_length == length && first.starts_with(kept)
    }
}
