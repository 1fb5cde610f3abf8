//! The descriptors that the master holds for its whole life: listeners and signals.

use super::MasterListener;
use super::command;
use super::listeners::Listeners;
use crate::io::{Completion, Errno, Fd, Half, Instant, Io, Kind, Op, Owned, Processes, Token};
use crate::ipc::manifest::ListenerPart;
use std::time::Duration;

/// The listeners, those of a slot together, as a worker gets them.
#[derive(Debug)]
pub(super) struct Sockets {
    central: Vec<(u16, Fd)>,
    slots: Vec<Vec<(u16, Fd)>>,
    /// Where the listener of each place in the table of listeners is: whose, and which of them.
    places: Vec<(Option<u32>, usize)>,
    /// Since when nobody joins their queues any more.
    held: Option<Instant>,
}

impl Sockets {
    /// Enters each into the table.
    pub(super) fn new(held: Vec<MasterListener>, listeners: &mut Listeners) -> Self {
        let (central, slots, places) = (Vec::new(), Vec::new(), Vec::new());
        let mut sockets = Self { central, slots, places, held: None };
        for listener in held {
            listeners.add(listener.slot);
            sockets.add(listener);
        }
        sockets
    }

    /// One more, in the next place.
    pub(super) fn add(&mut self, listener: MasterListener) {
        let group = match listener.slot {
            None => &mut self.central,
            Some(slot) => self.group(slot),
        };
        let place = (listener.slot, group.len());
        group.push((listener.address, listener.fd));
        self.places.push(place);
    }

    fn group(&mut self, slot: u32) -> &mut Vec<(u16, Fd)> {
        let slot = slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, Vec::new);
        }
        &mut self.slots[slot]
    }

    /// Whether a slot has a listener of this address.
    pub(super) fn has(&self, slot: u32, address: u16) -> bool {
        self.of_slot(slot).iter().any(|(of, _)| *of == address)
    }

    /// The listener of this address that is the master's alone becomes the slot's. Gives back its
    /// place; `None` if there is none.
    pub(super) fn assign(&mut self, address: u16, slot: u32) -> Option<u32> {
        let index = self.central.iter().position(|(of, _)| *of == address)?;
        let place = self.places.iter().position(|place| *place == (None, index))?;
        let listener = self.central.remove(index);
        for (_, later) in self.places.iter_mut().filter(|(of, at)| of.is_none() && *at > index) {
            *later -= 1;
        }
        let group = self.group(slot);
        group.push(listener);
        self.places[place] = (Some(slot), self.slots[slot as usize].len() - 1);
        u32::try_from(place).ok()
    }

    /// A listener and the index of its address; `None` when it is closed.
    pub(super) fn get(&self, place: u32) -> Option<&(u16, Fd)> {
        let &(slot, index) = self.places.get(place as usize)?;
        match slot {
            None => self.central.get(index),
            Some(slot) => self.slots.get(slot as usize)?.get(index),
        }
    }

    /// Those of a slot.
    pub(super) fn of_slot(&self, slot: u32) -> &[(u16, Fd)] {
        self.slots.get(slot as usize).map_or(&[], Vec::as_slice)
    }

    /// Each listener, in the order of the table.
    pub(super) fn save(&self) -> Vec<ListenerPart> {
        let part = |(slot, place): (Option<u32>, u32)| {
            let &(address, ref fd) = self.get(place)?;
            Some(ListenerPart { fd: fd.raw(), address, slot })
        };
        let slots = self.places.iter().map(|(slot, _)| *slot);
        slots.zip(0..).filter_map(part).collect()
    }

    pub(super) fn are_open(&self) -> bool {
        !self.places.is_empty()
    }

    /// Nobody joins their queues any more, but for those whose handshake has begun: until when.
    pub(super) fn hold<I: Processes>(&mut self, io: &mut I, now: Instant) -> Instant {
        if self.held.is_none() {
            for (_, fd) in self.central.iter().chain(self.slots.iter().flatten()) {
                io.hold_arrivals(fd);
            }
        }
        self.held.get_or_insert(now).after(HANDSHAKE)
    }

    /// When the last handshakes are over.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.held.map(|since| since.after(HANDSHAKE)).filter(|at| *at > now)
    }

    /// Ends all, for whoever has copies too.
    pub(super) fn close<I: Io>(&mut self, io: &mut I) {
        self.places.clear();
        self.held = None;
        let slots = std::mem::take(&mut self.slots).into_iter().flatten();
        for (_, fd) in std::mem::take(&mut self.central).into_iter().chain(slots) {
            io.shutdown(&fd, Half::Both);
            io.close(fd);
        }
    }
}

/// The signalfd and the one read on it.
#[derive(Debug)]
pub(super) struct Signals {
    fd: Option<Fd>,
    reading: bool,
    canceled: bool,
    buffer: Option<Box<[u8]>>,
    /// When to read again after a failure.
    pub(super) retry_at: Option<Instant>,
}

impl Signals {
    pub(super) fn new(fd: Fd) -> Self {
        let buffer = Some(vec![0; SIGNALS_MAX * command::SIGNAL_RECORD].into_boxed_slice());
        Self { fd: Some(fd), reading: false, canceled: false, buffer, retry_at: None }
    }

    /// Arms the read, if it is not.
    pub(super) fn read<I: Io>(&mut self, io: &mut I) {
        let Some(fd) = self.fd.as_ref().filter(|_| !self.reading) else { return };
        let fresh = || vec![0; SIGNALS_MAX * command::SIGNAL_RECORD].into_boxed_slice();
        let buffer = self.buffer.take().unwrap_or_else(fresh);
        io.submit(TOKEN, Op::Read(fd, buffer, u64::MAX));
        self.reading = true;
        self.retry_at = None;
    }

    /// The signals it brought. The caller reads again, now or at `retry_at`.
    pub(super) fn completed<I: Io>(
        &mut self,
        io: &mut I,
        completion: &Completion,
        now: Instant,
    ) -> Vec<u32> {
        self.reading = completion.more;
        if let Some(Owned::Buffer(buffer)) = io.reclaim(completion.token) {
            self.buffer = Some(buffer);
        }
        match (completion.result, &self.buffer) {
            (Ok(bytes), Some(buffer)) => {
                let bytes = buffer.len().min(bytes as usize);
                command::signals(&buffer[..bytes]).collect()
            }
            (Ok(_) | Err(Errno::Interrupted | Errno::Canceled), _) => Vec::new(),
            (Err(_), _) => {
                self.retry_at = Some(now.after(RETRY));
                Vec::new()
            }
        }
    }

    /// Cancels the read; whether it has ended. What comes is kept by the kernel.
    pub(super) fn pause<I: Io>(&mut self, io: &mut I) -> bool {
        self.retry_at = None;
        if self.reading && !std::mem::replace(&mut self.canceled, true) {
            io.submit(TOKEN.with(Kind::Cancel), Op::Cancel(TOKEN));
        }
        !self.reading
    }

    /// Reads again after a pause.
    pub(super) fn resume<I: Io>(&mut self, io: &mut I) {
        self.canceled = false;
        self.read(io);
    }

    /// Cancels the read, waits for its last completion, closes. Call again until it is closed.
    pub(super) fn close_join<I: Io>(&mut self, io: &mut I) -> bool {
        self.retry_at = None;
        if self.reading {
            if !self.canceled {
                self.canceled = true;
                io.submit(TOKEN.with(Kind::Cancel), Op::Cancel(TOKEN));
            }
            return false;
        }
        if let Some(fd) = self.fd.take() {
            io.close(fd);
        }
        true
    }
}

const TOKEN: Token = Token { kind: Kind::Signal, slot: 0, generation: 0 };
/// How long a handshake that has begun may take to end; a machine that is busy puts it off.
const HANDSHAKE: Duration = Duration::from_millis(20);
/// Signals that one read takes; more wait for the next.
const SIGNALS_MAX: usize = 8;
/// A read that failed is not armed again at once, so that it cannot spin.
const RETRY: Duration = Duration::from_millis(100);
