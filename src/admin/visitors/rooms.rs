//! Who is let in: room is made for whoever comes, descriptors for it are kept back, and who is
//! turned away is told that all seats are taken.

use super::super::page;
use super::{Stage, Trust, Visitor, Visitors, token};
use crate::io::{Errno, ErrnoClass, Fd, Instant, Io, Kind, Op, Processes};
use crate::master::answer::{Answer, Asker};
use std::time::Duration;

/// Visitors of one door at a time.
pub(crate) const VISITORS_MAX: usize = 32;
/// Of those, such as may wait for the end of a command: others find a seat.
pub(super) const WAITING_MAX: usize = 24;
/// Those of a door that are being turned away, on top.
const TURNED_AWAY_MAX: usize = 32;
/// Descriptors kept back for the visitors of a door.
pub(crate) const DOOR_RESERVE: usize = 2;
/// How long a door rests when no descriptor is to be had.
const REST: Duration = Duration::from_secs(1);
/// How long a door rests when all who are turned away have not left.
const PAUSE: Duration = Duration::from_millis(10);
/// Arrivals of a door in one pass.
const ACCEPT_MAX: usize = VISITORS_MAX;

impl Visitors {
    pub(super) fn accept<I: Io + Processes>(&mut self, io: &mut I, index: usize, now: Instant) {
        for _ in 0..ACCEPT_MAX {
            let full = self.count(index, |_| true) >= VISITORS_MAX + TURNED_AWAY_MAX;
            let Some(door) = self.doors.get_mut(index) else { return };
            door.retry_at = None;
            let Some(listener) = &door.fd else { return };
            if full {
                door.retry_at = Some(now.after(PAUSE));
                return;
            }
            match io.accept(listener).map_err(|errno| (errno, errno.class())) {
                Ok(fd) => self.greet(io, index, fd, now),
                Err((Errno::Again, _)) => return,
                Err((_, ErrnoClass::Retry)) => {}
                Err((errno, _)) => match door.reserve.pop().filter(|_| errno == Errno::NoFds) {
                    Some(reserve) => io.close(reserve),
                    None => {
                        door.retry_at = Some(now.after(REST));
                        self.free_seat(io, index, now);
                        return;
                    }
                },
            }
        }
        // Others get their turn first.
        if let Some(door) = self.doors.get_mut(index) {
            door.retry_at = Some(now);
        }
    }

    fn greet<I: Io + Processes>(&mut self, io: &mut I, index: usize, fd: Fd, now: Instant) {
        let trusted = match self.doors[index].trust {
            Trust::Anyone => true,
            Trust::Operator => io.peer_user(&fd).is_some_and(|user| user == 0 || user == self.user),
        };
        if !trusted {
            self.strangers += 1;
            self.closed += 1;
            io.close(fd);
            return self.stock(io, index);
        }
        let seated = |visitor: &Visitor| !matches!(visitor.stage, Stage::Leaving | Stage::Closing);
        let room = self.count(index, seated) < VISITORS_MAX || self.free_seat(io, index, now);
        let number = self.next;
        self.next += 1;
        io.submit(token(number, Kind::Ask), Op::Recv(&fd));
        let mut visitor = Visitor::new(fd, index, Stage::Asking);
        visitor.receiving = true;
        visitor.deadline = Some(now.after(super::PATIENCE));
        self.rows.insert(number, visitor);
        if !room {
            self.turn_away(io, number, now);
        }
    }

    fn count(&self, door: usize, which: impl Fn(&Visitor) -> bool) -> usize {
        self.rows.values().filter(|visitor| visitor.door == door && which(visitor)).count()
    }

    /// Who waits for the end of a command.
    pub(super) fn may_wait(&self, door: usize) -> bool {
        self.count(door, |visitor| visitor.stage == Stage::Waiting) < WAITING_MAX
    }

    /// Somebody of this door leaves, if the master works for none of them: first who has its
    /// answer or will not hear it, then the oldest.
    fn free_seat<I: Io + Processes>(&mut self, io: &mut I, door: usize, now: Instant) -> bool {
        let served = |visitor: &Visitor| visitor.stage == Stage::Lingering || has_left(visitor);
        let idle = |visitor: &Visitor| matches!(visitor.stage, Stage::Asking | Stage::Telling);
        let oldest = self.oldest(door, served).or_else(|| self.oldest(door, idle));
        let Some(number) = oldest else { return false };
        self.turn_away(io, number, now);
        true
    }

    /// Who waits and has left makes room for one who waits.
    pub(super) fn forget_who_left<I: Io + Processes>(
        &mut self,
        io: &mut I,
        door: usize,
        now: Instant,
    ) {
        if let Some(number) = self.oldest(door, has_left) {
            self.turn_away(io, number, now);
        }
    }

    fn oldest(&self, door: usize, which: impl Fn(&Visitor) -> bool) -> Option<u64> {
        let here = |visitor: &Visitor| visitor.door == door && which(visitor);
        self.rows.iter().find(|(_, visitor)| here(visitor)).map(|(&number, _)| number)
    }

    /// It leaves; if it was told nothing yet, it is told why.
    fn turn_away<I: Io + Processes>(&mut self, io: &mut I, number: u64, now: Instant) {
        let Some(visitor) = self.rows.get(&number) else { return };
        if !matches!(visitor.stage, Stage::Asking | Stage::Waiting) {
            if visitor.stage == Stage::Telling {
                self.strangers += 1;
            }
            return self.cut(io, number);
        }
        let bytes = busy(self.doors[visitor.door].trust);
        self.strangers += 1;
        self.tell(io, Asker(number), bytes, now);
        if let Some(visitor) = self.rows.get_mut(&number) {
            visitor.stage = Stage::Leaving;
        }
    }

    /// Keeps descriptors back, as far as there are any.
    pub(super) fn stock<I: Io + Processes>(&mut self, io: &mut I, door: usize) {
        let Some(door) = self.doors.get_mut(door).filter(|door| door.fd.is_some()) else { return };
        while door.reserve.len() < DOOR_RESERVE
            && let Ok(fd) = io.spare()
        {
            door.reserve.push(fd);
        }
    }
}

/// The other end is closed, or will send no more.
fn has_left(visitor: &Visitor) -> bool {
    visitor.stage == Stage::Waiting && visitor.ended
}

/// What somebody is told for whom there is no seat.
pub(super) fn busy(trust: Trust) -> Vec<u8> {
    match trust {
        Trust::Anyone => page::refusal(503, true),
        Trust::Operator => {
            let text = "busy: too many visitors wait at the control socket; ask again";
            super::super::json::answer(&Answer::failed("visit", text)).into_bytes()
        }
    }
}
