//! What a worker is at, for who finds that it hangs: the request in its handler, and where its
//! connections stood when its last pass ended.

use super::{DOING, Line, STAGES};
use std::sync::atomic::Ordering;

/// Bytes of a request's method and target that are kept.
const TEXT_MAX: usize = 48;
/// Length and text.
pub(super) const DOING_WORDS: usize = 1 + TEXT_MAX / 8;
pub(super) const STAGES_WORDS: usize = 4;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Between requests.
    #[default]
    Idle,
    /// A request is coming.
    Reading,
    /// The handler owes the answer, or what remains of it.
    Answering,
    /// The kernel has not taken all of an answer, or the connection is being closed.
    Writing,
}

/// How many connections stand where, by [`Stage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages(pub [u32; STAGES_WORDS]);

impl Stages {
    /// One more, or one less.
    pub fn add(&mut self, stage: Stage, by: i32) {
        let count = &mut self.0[stage as usize];
        *count = count.wrapping_add_signed(by);
    }

    /// So many stand there.
    #[must_use]
    pub const fn at(&self, stage: Stage) -> u32 {
        self.0[stage as usize]
    }
}

impl Line {
    /// The handler is called with this request: its method and the beginning of its target are
    /// kept until `finished`. A few stores to memory.
    pub fn handling(&self, method: &str, target: &str) {
        let mut text = [0; TEXT_MAX];
        let mut length = 0;
        for byte in method.bytes().chain([b' ']).chain(target.bytes()).take(TEXT_MAX) {
            text[length] = byte;
            length += 1;
        }
        let words = &self.words[DOING + 1..DOING + DOING_WORDS];
        for (word, eight) in words.iter().zip(text[..length.next_multiple_of(8)].chunks_exact(8)) {
            let eight = eight.first_chunk().copied().unwrap_or_default();
            word.store(u64::from_le_bytes(eight), Ordering::Relaxed);
        }
        self.words[DOING].store(length as u64, Ordering::Release);
    }

    /// The handler has returned.
    pub fn handled(&self) {
        self.words[DOING].store(0, Ordering::Release);
    }

    /// Method and path of the request in the handler, cut; empty if none is. What follows a `?` is
    /// nobody's business.
    #[must_use]
    pub fn in_handler(&self) -> String {
        let length = self.words[DOING].load(Ordering::Acquire);
        let length = usize::try_from(length).unwrap_or(0).min(TEXT_MAX);
        let words = self.words[DOING + 1..DOING + DOING_WORDS].iter();
        let bytes: Vec<u8> = words
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .take(length)
            .take_while(|byte| *byte != b'?')
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A pass ends, with its connections there.
    pub fn set_stages(&self, stages: Stages) {
        for (word, count) in self.words[STAGES..].iter().zip(stages.0) {
            word.store(u64::from(count), Ordering::Relaxed);
        }
    }

    /// Where its connections stood at the end of its last pass.
    #[must_use]
    pub fn stages(&self) -> Stages {
        let count = |index: usize| self.words[STAGES + index].load(Ordering::Relaxed);
        Stages(std::array::from_fn(|index| u32::try_from(count(index)).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_in_the_handler_is_seen_as_far_as_it_fits_and_without_its_query() {
        let line = Line::detached();
        assert_eq!(line.in_handler(), "");
        let long = format!("/{}", "x".repeat(100));
        let cut = format!("GET {}", &long[..TEXT_MAX - 4]);
        for (method, target, want) in [
            ("GET", "/", "GET /"),
            ("GET", "/1234", "GET /1234"),
            ("DELETE", "/a/b?token=secret", "DELETE /a/b"),
            ("GET", long.as_str(), cut.as_str()),
            ("PUT", "/short", "PUT /short"),
        ] {
            line.handling(method, target);
            assert_eq!(line.in_handler(), want);
        }
        line.handled();
        assert_eq!(line.in_handler(), "");
    }

    #[test]
    fn connections_are_counted_by_where_they_stand() {
        let (line, mut stages) = (Line::detached(), Stages::default());
        for stage in [Stage::Idle, Stage::Idle, Stage::Writing] {
            stages.add(stage, 1);
        }
        stages.add(Stage::Idle, -1);
        line.set_stages(stages);
        assert_eq!(line.stages(), Stages([1, 0, 0, 1]));
        assert_eq!(line.stages().at(Stage::Writing), 1);
    }
}
