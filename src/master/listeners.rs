//! Who reads which listener now: its worker, the master or nobody. Pure.
//!
//! A listener has one reader at a time. One that is the master's alone is read with a multishot
//! accept. One that belongs to a slot is read by the slot's worker while that is ready, and by the
//! master while it is not: with a poll and single accepts, because an accept that is under way
//! would take arrivals from the next reader.

/// How the master is woken by a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Multishot accept.
    Accept,
    /// Multishot poll, then accepts until there is none.
    Poll,
}

/// Who reads a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The worker of its slot.
    Worker,
    /// The same; the master only wants to know when something arrives.
    Watched,
    /// The master.
    Master,
    /// Nobody: accepting is paused, or over.
    Nobody,
}

/// What to do next. `generation` tells one arming from the other in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Submit the operation.
    Arm {
        /// Which listener.
        listener: u32,
        /// Which operation.
        how: How,
        /// Which arming.
        generation: u32,
    },
    /// Cancel it; its last completion comes nevertheless.
    Cancel {
        /// Which listener.
        listener: u32,
        /// Which operation.
        how: How,
        /// Which arming.
        generation: u32,
    },
}

/// The table, by the listener's place in it.
#[derive(Debug, Default)]
pub struct Listeners {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    slot: Option<u32>,
    generation: u32,
    operation: Operation,
    /// What that operation is.
    how: How,
    /// The poll has reported arrivals that were not all taken.
    readable: bool,
    /// Who is to read it.
    reader: Reader,
}

/// The master's operation on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    None,
    Armed,
    Canceled,
}

impl Listeners {
    /// A listener of a slot, or of the master alone. Gives back its place.
    pub fn add(&mut self, slot: Option<u32>) -> u32 {
        let (operation, how) = (Operation::None, How::of(slot));
        self.rows.push(Row {
            slot,
            generation: 0,
            operation,
            how,
            readable: false,
            reader: Reader::Nobody,
        });
        u32::try_from(self.rows.len() - 1).expect("fewer listeners than tokens can name")
    }

    /// One that was the master's alone is a slot's from now on.
    pub fn assign(&mut self, listener: u32, slot: u32) {
        self.rows[listener as usize].slot = Some(slot);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// What to do so that the readers are as wanted; ask until it answers `None`. A listener that
    /// gets another reader is cancelled first, and armed again only after its last completion.
    pub fn poll(&mut self, reader: impl Fn(Option<u32>) -> Reader) -> Option<Action> {
        for (row, listener) in self.rows.iter_mut().zip(0..) {
            let before = std::mem::replace(&mut row.reader, reader(row.slot));
            let wanted = matches!(row.reader, Reader::Master | Reader::Watched);
            // What was reported while it was watched was left to the worker.
            let reported = before == Reader::Watched && row.operation == Operation::Armed;
            row.readable = row.reader == Reader::Master && (row.readable || reported);
            match row.operation {
                Operation::None if wanted => {
                    row.operation = Operation::Armed;
                    row.how = How::of(row.slot);
                    row.generation = row.generation.wrapping_add(1);
                    let (how, generation) = (row.how, row.generation);
                    return Some(Action::Arm { listener, how, generation });
                }
                Operation::Armed if !wanted || row.how != How::of(row.slot) => {
                    row.operation = Operation::Canceled;
                    let (how, generation) = (row.how, row.generation);
                    return Some(Action::Cancel { listener, how, generation });
                }
                Operation::None | Operation::Armed | Operation::Canceled => {}
            }
        }
        None
    }

    /// A completion of the operation. `more`: another will follow.
    pub fn completed(&mut self, listener: u32, generation: u32, more: bool) {
        if let Some(row) = self.rows.get_mut(listener as usize)
            && row.generation == generation
            && !more
        {
            row.operation = Operation::None;
        }
    }

    /// The poll has reported arrivals. Gives back the slot whose worker takes them.
    pub fn reported(&mut self, listener: u32) -> Option<u32> {
        let row = self.rows.get_mut(listener as usize)?;
        row.readable = row.reader == Reader::Master;
        row.slot.filter(|_| row.reader == Reader::Watched)
    }

    /// The master has taken all that were there.
    pub fn emptied(&mut self, listener: u32) {
        if let Some(row) = self.rows.get_mut(listener as usize) {
            row.readable = false;
        }
    }

    /// A listener with arrivals to take, from this place on.
    #[must_use]
    pub fn readable(&self, from: u32) -> Option<u32> {
        (from..self.count()).find(|&listener| self.rows[listener as usize].readable)
    }

    /// Whether the kernel holds no operation on any of them, so that they may be closed.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        self.rows.iter().all(|row| row.operation == Operation::None)
    }
}

impl How {
    /// How the listener of this slot is read (`None`: the master's alone).
    const fn of(slot: Option<u32>) -> Self {
        match slot {
            None => Self::Accept,
            Some(_) => Self::Poll,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slot_is_read_by_the_master_until_its_worker_is_ready() {
        let mut listeners = Listeners::default();
        listeners.add(None);
        listeners.add(Some(0));
        let mut seen = Vec::new();
        let worker_ready = |slot: Option<u32>| match slot {
            Some(_) => Reader::Worker,
            None => Reader::Master,
        };
        while let Some(action) = listeners.poll(|_| Reader::Master) {
            seen.push(action);
        }
        assert_eq!(listeners.reported(1), None);
        while let Some(action) = listeners.poll(worker_ready) {
            seen.push(action);
        }
        assert_eq!(listeners.readable(0), None, "the worker takes what is left");
        // The worker died before the cancelled poll had ended.
        assert_eq!(listeners.poll(|_| Reader::Master), None);
        listeners.completed(1, 1, false);
        seen.extend(listeners.poll(|_| Reader::Master));
        let want = [
            Action::Arm { listener: 0, how: How::Accept, generation: 1 },
            Action::Arm { listener: 1, how: How::Poll, generation: 1 },
            Action::Cancel { listener: 1, how: How::Poll, generation: 1 },
            Action::Arm { listener: 1, how: How::Poll, generation: 2 },
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn one_that_becomes_a_slots_is_read_by_single_accepts() {
        let mut listeners = Listeners::default();
        listeners.add(None);
        let mut seen = Vec::from_iter(listeners.poll(|_| Reader::Master));
        listeners.assign(0, 3);
        seen.extend(listeners.poll(|_| Reader::Master));
        assert_eq!(listeners.poll(|_| Reader::Master), None, "not before its last completion");
        listeners.completed(0, 1, false);
        seen.extend(listeners.poll(|_| Reader::Master));
        let want = [
            Action::Arm { listener: 0, how: How::Accept, generation: 1 },
            Action::Cancel { listener: 0, how: How::Accept, generation: 1 },
            Action::Arm { listener: 0, how: How::Poll, generation: 2 },
        ];
        assert_eq!(seen, want);
    }

    #[test]
    fn what_arrived_while_a_worker_was_watched_is_taken_when_it_is_not_its_any_more() {
        let mut listeners = Listeners::default();
        listeners.add(Some(7));
        assert!(listeners.poll(|_| Reader::Watched).is_some(), "armed");
        assert_eq!(listeners.reported(0), Some(7));
        assert_eq!(listeners.readable(0), None, "they are the worker's");
        assert_eq!(listeners.poll(|_| Reader::Master), None, "it is armed already");
        assert_eq!(listeners.readable(0), Some(0));
        listeners.emptied(0);
        assert_eq!(listeners.poll(|_| Reader::Master), None);
        assert_eq!(listeners.readable(0), None);
    }

    proptest! {
        /// A kernel that completes operations whenever it likes, and readers that change.
        #[test]
        fn never_two_operations_and_in_the_end_the_wanted_reader(
            steps in prop::collection::vec((0_u32..4, any::<bool>(), any::<bool>()), 0..100),
        ) {
            let mut listeners = Listeners::default();
            let mut wanted = [Reader::Nobody; 4];
            // What the kernel holds: generation and whether it was cancelled.
            let mut held: [Option<(u32, bool)>; 4] = [None; 4];
            for slot in [None, Some(1), Some(2), Some(3)] {
                listeners.add(slot);
            }
            for (listener, complete, master) in steps {
                let index = listener as usize;
                wanted[index] = if master { Reader::Master } else { Reader::Worker };
                if complete && let Some((generation, _)) = held[index].take() {
                    listeners.completed(listener, generation, false);
                }
                while let Some(action) =
                    listeners.poll(|slot| wanted[slot.unwrap_or(0) as usize])
                {
                    match action {
                        Action::Arm { listener, generation, .. } => {
                            let before = held[listener as usize].replace((generation, false));
                            prop_assert_eq!(before, None);
                        }
                        Action::Cancel { listener, generation, .. } => {
                            let before = held[listener as usize].replace((generation, true));
                            prop_assert_eq!(before, Some((generation, false)));
                        }
                    }
                }
                prop_assert_eq!(listeners.are_idle(), held.iter().all(Option::is_none));
                for (want, held) in wanted.iter().zip(&held) {
                    match held {
                        Some((_, false)) => prop_assert_eq!(*want, Reader::Master),
                        None => prop_assert_ne!(*want, Reader::Master),
                        Some((_, true)) => {}
                    }
                }
            }
        }
    }
}
