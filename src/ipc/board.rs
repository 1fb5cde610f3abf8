//! The shared page: one line per worker's life, single-writer monotone counters. Pure: the memory
//! comes from outside (a memfd, or the simulator).
//!
//! Layout, version 3, in 64-bit words: a header (magic and version, lines, words a line, counters,
//! reasons), then the lines. A line holds identity and state, what its worker is at, its times, a
//! text, and then one word per counter and one per close reason; lines start on their own cache
//! lines. Single writer: the worker writes everything but its identity, [`Counter::HandedOver`] and
//! [`Counter::TakenBack`], which are the master's, and whether times are wanted. Readers may see a
//! counter a little late, never torn.
//!
//! A build with other counters than ours has a board of its own: after an upgrade its workers go on
//! writing to that, and we read it by the names of its counters ([`Names`]). Its lines follow ours
//! in number. The version is of everything else; a board of another one is not read.
//!
//! One word has two writers, and is changed by atomic operations only: the claim. It counts the
//! handed-over connections that the worker has seen, in order, times two; its lowest bit says that
//! the master has taken back all that it had not seen. A worker claims what a message brings before
//! it does anything with it; what it cannot claim is somebody else's by then.

mod doing;
mod layout;
mod times;

pub use doing::{Stage, Stages};
pub use layout::{Build, Names};
pub use times::Times;

use crate::stats::{CloseReason, Counter};
use doing::{DOING_WORDS, STAGES_WORDS};
use layout::Layout;
use std::sync::atomic::{AtomicU64, Ordering};
use times::TIMES_WORDS;

const MAGIC: u64 = 0x7269_6e67_666f_7233; // "ringfor3": the version is the last byte
const HEADER_WORDS: usize = 8;
const IDENTITY: usize = 0;
const STATE: usize = 1;
const TICK: usize = 2;
const CLAIM: usize = 3;
const ACTIVITY: usize = 6;
const SEEN: usize = 7;
const DOING: usize = 8;
const STAGES: usize = DOING + DOING_WORDS;
const TIMES: usize = STAGES + STAGES_WORDS;
const NOTE: usize = TIMES + TIMES_WORDS;
const NOTE_WORDS: usize = 32;
const COUNTERS: usize = NOTE + NOTE_WORDS;
const REASONS: usize = COUNTERS + Counter::ALL.len();
const LINE_WORDS: usize = (REASONS + CloseReason::ALL.len()).next_multiple_of(8);
/// Of the claim: what the worker has not seen is not its any more.
const REVOKED: u64 = 1;

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum WorkerState {
    /// The line is free, or its worker has not spoken yet.
    Starting = 0,
    /// It serves.
    Ready = 1,
    /// It finishes what runs and takes nothing new.
    Draining = 2,
    /// It said good-bye.
    Stopped = 3,
}

/// The whole board.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    own: Area,
    elders: &'static [Elder],
}

/// One memory of lines; `layout`: another build's.
#[derive(Clone, Copy, Debug)]
struct Area {
    words: &'static [AtomicU64],
    /// Of a line.
    size: usize,
    layout: Option<&'static Layout>,
}

/// A board that an earlier program of this process made, whose workers live.
#[derive(Clone, Copy, Debug)]
struct Elder {
    /// Our number of its first line.
    first: u32,
    area: Area,
}

impl Area {
    fn create(words: &'static [AtomicU64], lines: u32, names: &Names) -> Result<Self, String> {
        let layout = Layout::of(names)?.map(|layout| &*Box::leak(Box::new(layout)));
        let size = names.line_words();
        let needed = HEADER_WORDS + lines as usize * size;
        assert!(words.len() >= needed, "the memory is too small for the board");
        let (counters, reasons) = (names.counters.len() as u64, names.reasons.len() as u64);
        let head = [MAGIC, u64::from(lines), size as u64, counters, reasons];
        for (word, value) in words.iter().zip(head) {
            word.store(value, Ordering::Relaxed);
        }
        Ok(Self { words, size, layout })
    }

    fn open(words: &'static [AtomicU64], names: &Names) -> Result<Self, String> {
        let head = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        if head(0) != MAGIC {
            let same = head(0) >> 8 == MAGIC >> 8;
            let version = char::from(head(0).to_le_bytes()[0]).escape_debug();
            let of = format!("the board has version {version}, this program reads 3");
            return Err(if same { of } else { "the board is none".to_owned() });
        }
        let size = names.line_words();
        let counts = (names.counters.len() as u64, names.reasons.len() as u64);
        let room = words.len().saturating_sub(HEADER_WORDS) / size;
        if head(2) != size as u64 || (head(3), head(4)) != counts || head(1) > room as u64 {
            return Err("the board is not laid out as its names say".to_owned());
        }
        let layout = Layout::of(names)?.map(|layout| &*Box::leak(Box::new(layout)));
        Ok(Self { words, size, layout })
    }

    fn lines(&self) -> u32 {
        u32::try_from(self.words[1].load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    fn line(&self, index: u32) -> Line {
        let start = HEADER_WORDS + index as usize * self.size;
        Line { words: &self.words[start..start + self.size], layout: self.layout }
    }
}

impl Board {
    /// How many 64-bit words a board of so many lines needs.
    #[must_use]
    pub const fn words(lines: u32) -> usize {
        HEADER_WORDS + lines as usize * LINE_WORDS
    }

    /// The same, for a board that counts this.
    #[must_use]
    pub const fn words_as(lines: u32, names: &Names) -> usize {
        HEADER_WORDS + lines as usize * names.line_words()
    }

    /// Lays a board out over zeroed memory, which must have [`Board::words`] words or more.
    #[must_use]
    pub fn create(words: &'static [AtomicU64], lines: u32) -> Self {
        Self::create_as(words, lines, &Names::own()).expect("our own layout has all counters")
    }

    /// The same, as another build would. The memory must have [`Board::words_as`] words or more.
    ///
    /// # Errors
    ///
    /// A counter that the books need is not among the names.
    pub fn create_as(
        words: &'static [AtomicU64],
        lines: u32,
        names: &Names,
    ) -> Result<Self, String> {
        Ok(Self { own: Area::create(words, lines, names)?, elders: &[] })
    }

    /// Finds a board in memory that somebody else laid out; `None` if it is not one of this
    /// build.
    #[must_use]
    pub fn open(words: &'static [AtomicU64]) -> Option<Self> {
        Self::open_as(words, &Names::own()).ok()
    }

    /// The same, of a build that counts this.
    ///
    /// # Errors
    ///
    /// It is none, of another version, has not what the books need, or is laid out otherwise.
    pub fn open_as(words: &'static [AtomicU64], names: &Names) -> Result<Self, String> {
        Ok(Self { own: Area::open(words, names)?, elders: &[] })
    }

    /// With the lines of boards of earlier programs, each from this number on.
    #[must_use]
    pub fn with_elders(self, elders: &[(u32, Self)]) -> Self {
        let elder = |(first, board): &(u32, Self)| Elder { first: *first, area: board.own };
        Self { elders: Vec::leak(elders.iter().map(elder).collect()), ..self }
    }

    /// How many lines it has for new lives.
    #[must_use]
    pub fn lines(&self) -> u32 {
        self.own.lines()
    }

    /// Whether it has this line, of its own or of an earlier program.
    #[must_use]
    pub fn has(&self, index: u32) -> bool {
        index < self.lines() || self.elder(index).is_some()
    }

    fn elder(&self, index: u32) -> Option<&Elder> {
        let holds = |elder: &&Elder| {
            index.checked_sub(elder.first).is_some_and(|index| index < elder.area.lines())
        };
        self.elders.iter().find(holds)
    }

    /// One line.
    #[must_use]
    pub fn line(&self, index: u32) -> Line {
        if index < self.lines() {
            return self.own.line(index);
        }
        match self.elder(index) {
            Some(elder) => elder.area.line(index - elder.first),
            None => panic!("line {index} is not on the board"),
        }
    }
}

/// The counters of one worker's life.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    words: &'static [AtomicU64],
    layout: Option<&'static Layout>,
}

impl Line {
    /// A line of its own, on no board: for tests.
    #[must_use]
    pub fn detached() -> Self {
        let words: Vec<AtomicU64> = (0..LINE_WORDS).map(|_| AtomicU64::new(0)).collect();
        Self { words: Vec::leak(words), layout: None }
    }

    /// Adds to a counter. Only its one writer may call this: a load and a store, no locked
    /// instruction.
    pub fn add(&self, counter: Counter, count: u64) {
        self.bump(self.counter(counter), count);
    }

    /// Counts a closed connection: its reason and [`Counter::Closed`].
    pub fn close(&self, reason: CloseReason) {
        self.bump(self.reason(reason), 1);
        self.add(Counter::Closed, 1);
    }

    /// Where a counter is; nowhere, if the build that laid the line out had none.
    fn counter(&self, counter: Counter) -> Option<usize> {
        match self.layout {
            None => Some(COUNTERS + counter as usize),
            Some(layout) => layout.counter(counter),
        }
    }

    fn reason(&self, reason: CloseReason) -> Option<usize> {
        match self.layout {
            None => Some(REASONS + reason as usize),
            Some(layout) => layout.reason(reason),
        }
    }

    fn read(&self, word: Option<usize>) -> u64 {
        word.map_or(0, |word| self.words[word].load(Ordering::Acquire))
    }

    fn bump(&self, word: Option<usize>, count: u64) {
        let Some(word) = word else { return };
        let value = self.words[word].load(Ordering::Relaxed);
        // Release: who sees a connection counted as adopted sees it adopted.
        self.words[word].store(value.wrapping_add(count), Ordering::Release);
    }

    /// Reads a counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.read(self.counter(counter))
    }

    /// How many connections ended for this reason.
    #[must_use]
    pub fn closed_for(&self, reason: CloseReason) -> u64 {
        self.read(self.reason(reason))
    }

    /// How many ended for reasons that only the build of its worker knows.
    #[must_use]
    pub fn closed_for_unknown(&self) -> u64 {
        let words = self.layout.map_or(&[][..], |layout| &layout.strangers);
        words.iter().map(|word| self.read(Some(*word))).sum()
    }

    /// Connections open now, as far as the worker has said.
    #[must_use]
    pub fn open(&self) -> u64 {
        let gone = self.get(Counter::Closed) + self.get(Counter::HandedBack);
        self.get(Counter::Adopted).saturating_sub(gone)
    }

    /// The worker has seen so many more handed-over connections: whether they are its own.
    #[must_use]
    pub fn claim(&self, count: u64) -> bool {
        let word = &self.words[CLAIM];
        let mut claim = word.load(Ordering::Acquire);
        while claim & REVOKED == 0 {
            let next = claim + 2 * count;
            match word.compare_exchange(claim, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(changed) => claim = changed,
            }
        }
        word.fetch_add(2 * count, Ordering::AcqRel);
        false
    }

    /// The master takes back what the worker has not seen. Gives back how many it has.
    #[must_use]
    pub fn revoke(&self) -> u64 {
        self.words[CLAIM].fetch_or(REVOKED, Ordering::AcqRel) / 2
    }

    /// What is handed over from now on is the worker's again. It must have seen all that was
    /// revoked.
    pub fn reinstate(&self) {
        self.words[CLAIM].fetch_and(!REVOKED, Ordering::AcqRel);
    }

    /// How many handed-over connections the worker has seen, its own or not.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.words[CLAIM].load(Ordering::Acquire) / 2
    }

    /// The master clears the line for a new life: slot, generation and epoch.
    pub fn begin(&self, slot: u32, generation: u32, epoch: u32) {
        for word in self.words {
            word.store(0, Ordering::Relaxed);
        }
        let identity = u64::from(slot & 0xff_ffff)
            | u64::from(generation & 0xff_ffff) << 24
            | u64::from(epoch) << 48;
        self.words[IDENTITY].store(identity, Ordering::Release);
    }

    /// Which slot this life fills.
    #[must_use]
    pub fn slot(&self) -> u32 {
        u32::try_from(self.words[IDENTITY].load(Ordering::Acquire) & 0xff_ffff).unwrap_or(0)
    }

    /// How often the slot was filled before; 24 bits of it.
    #[must_use]
    pub fn generation(&self) -> u32 {
        u32::try_from(self.words[IDENTITY].load(Ordering::Acquire) >> 24 & 0xff_ffff).unwrap_or(0)
    }

    /// What the worker says of itself.
    pub fn set_state(&self, state: WorkerState) {
        self.words[STATE].store(state as u64, Ordering::Release);
    }

    /// What the worker last said of itself.
    #[must_use]
    pub fn state(&self) -> WorkerState {
        match self.words[STATE].load(Ordering::Acquire) {
            1 => WorkerState::Ready,
            2 => WorkerState::Draining,
            3 => WorkerState::Stopped,
            _ => WorkerState::Starting,
        }
    }

    /// The worker's loop turned at this time (nanoseconds of the monotonic clock).
    pub fn set_tick(&self, nanos: u64) {
        self.words[TICK].store(nanos, Ordering::Relaxed);
    }

    /// The worker's pass is over, at this time (nanoseconds of the monotonic clock): notes it if a
    /// connection or a request came in it.
    pub fn note_activity(&self, nanos: u64) {
        let seen = self.get(Counter::Adopted).wrapping_add(self.get(Counter::Requests));
        if self.words[SEEN].load(Ordering::Relaxed) != seen {
            self.words[SEEN].store(seen, Ordering::Relaxed);
            self.words[ACTIVITY].store(nanos, Ordering::Relaxed);
        }
    }

    /// When a connection or a request last came; 0: none did.
    #[must_use]
    pub fn activity(&self) -> u64 {
        self.words[ACTIVITY].load(Ordering::Relaxed)
    }

    /// The worker leaves a text for who finds it dead: the beginning of it.
    pub fn note(&self, text: &str) {
        let mut bytes = text.bytes().map(|byte| if byte == 0 { b' ' } else { byte });
        for word in &self.words[NOTE..COUNTERS] {
            let eight = std::array::from_fn(|_| bytes.next().unwrap_or(0));
            word.store(u64::from_le_bytes(eight), Ordering::Relaxed);
        }
    }

    /// What it left; empty if it left nothing.
    #[must_use]
    pub fn noted(&self) -> String {
        let bytes: Vec<u8> = self.words[NOTE..COUNTERS]
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// When the worker's loop last turned.
    #[must_use]
    pub fn tick(&self) -> u64 {
        self.words[TICK].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(lines: u32) -> &'static [AtomicU64] {
        Vec::leak((0..Board::words(lines)).map(|_| AtomicU64::new(0)).collect())
    }

    #[test]
    fn a_board_is_found_again_and_a_stranger_is_not() {
        let words = memory(3);
        assert!(Board::open(words).is_none());
        Board::create(words, 3).line(2).add(Counter::Adopted, 5);
        assert_eq!(Board::open(words).map(|b| b.line(2).get(Counter::Adopted)), Some(5));
        words[1].store(4, Ordering::Relaxed);
        assert!(Board::open(words).is_none(), "a board longer than its memory");
    }

    /// Of another build: other order, a counter more, one less, a reason under another name.
    fn foreign() -> (Names, &'static [AtomicU64]) {
        let mut names = Names::own();
        names.counters.retain(|name| name != "passes");
        names.counters.reverse();
        names.counters.insert(3, "of_another_build".to_owned());
        names.reasons.push("left".to_owned());
        names.reasons.reverse();
        let size = Board::words_as(2, &names);
        (names, Vec::leak((0..size).map(|_| AtomicU64::new(0)).collect()))
    }

    #[test]
    fn a_board_of_another_build_is_written_and_read_by_name() {
        let (names, words) = foreign();
        let line = Board::create_as(words, 2, &names).unwrap().line(1);
        assert!(Board::open(words).is_none());
        let other = Board::open_as(words, &names).unwrap();
        let ours = Board::create(memory(3), 3).with_elders(&[(3, other)]);
        assert!(ours.has(4) && !ours.has(5) && ours.lines() == 3);
        line.add(Counter::Adopted, 5);
        line.add(Counter::Passes, 7);
        line.close(CloseReason::Reset);
        line.words[layout_word(&names, "left")].store(2, Ordering::Relaxed);
        line.note("so it is");
        let read = ours.line(4);
        assert_eq!((read.get(Counter::Adopted), read.get(Counter::Passes)), (5, 0));
        assert_eq!((read.closed_for(CloseReason::Reset), read.closed_for_unknown()), (1, 2));
        assert_eq!(read.noted(), "so it is");
        assert!(line.claim(2) && read.revoke() == 2, "the fixed words are where they were");
        assert_eq!(ours.line(3).get(Counter::Adopted), 0);
        assert_eq!(ours.line(2).get(Counter::Adopted), 0);
    }

    fn layout_word(names: &Names, reason: &str) -> usize {
        let at = names.reasons.iter().position(|name| name == reason);
        COUNTERS + names.counters.len() + at.expect("it is there")
    }

    #[test]
    fn a_board_of_another_version_or_shape_says_what_it_is() {
        let (mut names, words) = foreign();
        let _ = Board::create_as(words, 2, &names).unwrap();
        let refused = |names: &Names| Board::open_as(words, names).map(drop).unwrap_err();
        names.reasons.pop();
        assert_eq!(refused(&names), "the board is not laid out as its names say");
        words[0].store(MAGIC + 1, Ordering::Relaxed);
        assert_eq!(refused(&names), "the board has version 4, this program reads 3");
        words[0].store(7, Ordering::Relaxed);
        assert_eq!(refused(&names), "the board is none");
    }

    #[test]
    fn a_note_is_read_back_as_far_as_it_fits_and_goes_with_its_life() {
        let board = Board::create(memory(2), 2);
        assert_eq!(board.line(0).noted(), "");
        for text in ["", "no disk", "a much longer one: \u{e4}", "one"] {
            board.line(0).note(text);
            assert_eq!(board.line(0).noted(), text);
        }
        board.line(0).note(&"x".repeat(1000));
        assert_eq!(board.line(0).noted(), "x".repeat(8 * NOTE_WORDS));
        assert_eq!(board.line(1).noted(), "", "it touches nobody");
        board.line(0).begin(0, 1, 0);
        assert_eq!(board.line(0).noted(), "");
    }

    #[test]
    fn what_was_revoked_cannot_be_claimed_and_what_was_claimed_not_revoked() {
        let line = Line::detached();
        assert!(line.claim(3));
        assert_eq!(line.revoke(), 3);
        assert_eq!(line.revoke(), 3, "once more changes nothing");
        assert!(!line.claim(2));
        assert_eq!(line.seen(), 5);
        line.reinstate();
        assert!(line.claim(1));
        assert_eq!(line.seen(), 6);
    }

    /// On real threads: each connection goes to exactly one of both.
    #[test]
    fn a_claim_and_a_revocation_never_both_win() {
        for _ in 0..200 {
            let line = Line::detached();
            std::thread::scope(|scope| {
                let worker = scope.spawn(move || (0..20).filter(|_| line.claim(1)).count());
                let seen = line.revoke();
                assert_eq!(worker.join().unwrap() as u64, seen);
            });
            assert_eq!(line.seen(), 20);
        }
    }

    #[test]
    fn lines_do_not_touch_and_a_new_life_starts_at_zero() {
        let board = Board::create(memory(2), 2);
        board.line(0).close(CloseReason::Reset);
        board.line(0).set_state(WorkerState::Ready);
        assert_eq!(board.line(1).get(Counter::Closed), 0);
        board.line(0).begin(0, 1, 0);
        assert_eq!(board.line(0).get(Counter::Closed), 0);
        assert_eq!(board.line(0).closed_for(CloseReason::Reset), 0);
        assert_eq!(board.line(0).state(), WorkerState::Starting);
    }
}
