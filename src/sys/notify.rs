//! Waking a ring from outside: a bell that any thread rings, an alarm for deadlines, and the
//! descriptor by which somebody else's loop sees that there is something to do.

use super::errno::{Failed, step};
use super::ring::Ring;
use crate::io::{Fd, Instant, Kind, Token};
use io_uring::opcode;
use io_uring::squeue::Flags;
use io_uring::types::{self, TimeoutFlags, Timespec};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Wakes a ring's `wait` from any thread (eventfd(2)). It stays rung until the end: each ring of it
/// makes a completion of its own.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell that nobody hears yet; see [`Ring::hear`].
    ///
    /// # Errors
    ///
    /// Out of descriptors.
    pub fn new() -> Result<Self, Failed> {
        let flags = libc::EFD_NONBLOCK | libc::EFD_CLOEXEC;
        // SAFETY: no pointers.
        let fd = step("eventfd", unsafe { libc::eventfd(0, flags) })?;
        // SAFETY: the kernel just made it for us, so nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Readable once it was rung.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Wakes whoever hears it. From any thread.
    pub fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // Fails only when it was rung 2^64 times; then it is readable anyway.
        // SAFETY: reads eight bytes of a local.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

/// What a ring knows of being woken.
#[derive(Debug, Default)]
pub(super) struct Notify {
    bell: Option<Fd>,
    /// The kernel has to be asked again to listen.
    deaf: bool,
    /// Registered: the kernel writes to it with each new completion.
    written: Option<Fd>,
    /// What came since it was last cleared was not all for the loop to see.
    written_for_us: bool,
    /// When the alarm goes off that the kernel holds.
    alarm: Option<Instant>,
    /// Where the kernel reads that time when the submission is passed on.
    at: Box<[Timespec; 2]>,
}

/// Places in tokens of kind `Cancel`, whose completions carry no news for a loop.
const BELL: u32 = Token::SLOTS_MAX - 1;
const ALARM: u32 = Token::SLOTS_MAX - 2;
const CHANGE: u32 = Token::SLOTS_MAX - 3;

fn token(slot: u32) -> u64 {
    Token::new(Kind::Cancel, slot, 0).encode()
}

impl Notify {
    /// Looks at the completion of a token of kind `Cancel`.
    pub(super) fn on_completion(&mut self, token: Token, more: bool) {
        self.written_for_us = true;
        match token.slot {
            BELL => self.deaf |= !more,
            ALARM => self.alarm = None,
            _ => {}
        }
    }
}

impl Ring {
    /// Hears a bell from now on: each time somebody rings it, a `wait` ends. The bell must outlive
    /// the ring.
    pub fn hear(&mut self, bell: &Bell) {
        self.notify.bell = Some(Fd::new(bell.0.as_raw_fd()));
        self.notify.deaf = true;
        self.listen();
    }

    /// Listens again, if the kernel stopped.
    pub(super) fn listen(&mut self) {
        if !self.notify.deaf {
            return;
        }
        self.notify.deaf = false;
        if let Some(bell) = &self.notify.bell {
            let entry = opcode::PollAdd::new(types::Fd(bell.raw()), libc::POLLIN as u32);
            self.push(&entry.multi(true).build().user_data(token(BELL)));
        }
    }

    /// Has the descriptor become readable at this time, in place of the time that was set before.
    /// One operation of the kernel, whatever is set.
    pub fn set_alarm(&mut self, at: Option<Instant>) {
        let Some(at) = at else {
            if self.notify.alarm.take().is_some() {
                let entry = opcode::TimeoutRemove::new(token(ALARM)).build();
                let entry = entry.flags(Flags::SKIP_SUCCESS);
                self.push(&entry.user_data(token(CHANGE)));
            }
            return;
        };
        let nanos = at.as_nanos();
        let subsec = u32::try_from(nanos % NANOS).unwrap_or(0);
        let time = Timespec::new().sec(nanos / NANOS).nsec(subsec);
        match self.notify.alarm {
            // It wakes once for nothing, and is then set anew: cheaper than each time.
            Some(before) if before <= at => return,
            None => {
                self.notify.at[0] = time;
                let entry = opcode::Timeout::new(&raw const self.notify.at[0]);
                let entry = entry.flags(TimeoutFlags::ABS).build();
                self.push(&entry.user_data(token(ALARM)));
            }
            Some(_) => {
                self.notify.at[1] = time;
                let new = &raw const self.notify.at[1];
                let entry = opcode::TimeoutUpdate::new(token(ALARM), new);
                let entry = entry.flags(TimeoutFlags::ABS).build().flags(Flags::SKIP_SUCCESS);
                self.push(&entry.user_data(token(CHANGE)));
            }
        }
        self.notify.alarm = Some(at);
    }

    /// Whether there is a reason for another `wait` that its caller does not see: operations to be
    /// passed on, or a descriptor that is readable because of a bell or an alarm.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        let is_readable = self.notify.written.is_some() && self.notify.written_for_us;
        !self.submissions.is_empty() || self.notify.deaf || is_readable
    }

    /// Rings a bell whenever there is something for `wait` to collect, so that its descriptor is
    /// readable then. The ring's own is not: with DEFER_TASKRUN nobody who polls it is woken (seen
    /// on Linux 6.18), but a registered eventfd is written. It must outlive the ring, and not be
    /// one that the ring hears.
    ///
    /// # Errors
    ///
    /// The ring has one already.
    pub fn set_notify(&mut self, bell: &Bell) -> Result<(), Failed> {
        let registered = self.submitter.register_eventfd(bell.0.as_raw_fd());
        let number = |error: std::io::Error| error.raw_os_error().unwrap_or(0);
        registered.map_err(|error| Failed { step: "eventfd", number: number(error) })?;
        self.notify.written = Some(Fd::new(bell.0.as_raw_fd()));
        Ok(())
    }

    /// Makes that bell's descriptor unreadable. What comes from now on makes it readable again, so
    /// a `wait` that collects nothing after this leaves nothing unseen.
    pub fn clear_notify(&mut self) {
        self.notify.written_for_us = false;
        if let Some(bell) = &self.notify.written {
            let mut count = 0_u64;
            // SAFETY: fills eight bytes of a local.
            let _ = unsafe { libc::read(bell.raw(), (&raw mut count).cast(), WORD) };
        }
    }
}

const NANOS: u64 = 1_000_000_000;
/// Bytes of an eventfd's count.
const WORD: usize = size_of::<u64>();
