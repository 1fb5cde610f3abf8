//! Visitors while the process becomes another program: who waits for its end goes along, and so
//! does who has not asked yet.

use super::{PATIENCE, Stage, Visitor, Visitors, completion_slot, token};
use crate::io::{Fd, Instant, Io, Kind, Op, Processes, Token};
use crate::master::answer::Asker;

impl Visitors {
    /// The process becomes another program: nobody is let in, who asks or waits goes along.
    /// Call again until it says that the kernel does nothing any more.
    pub(crate) fn pause<I: Io + Processes>(&mut self, io: &mut I) -> bool {
        for (index, door) in (0..).zip(&mut self.doors) {
            door.retry_at = None;
            if door.armed && !std::mem::replace(&mut door.canceled, true) {
                let knock = Token::new(Kind::Knock, index, 0);
                io.submit(knock.with(Kind::Cancel), Op::Cancel(knock));
            }
        }
        self.paused = true;
        for (number, stage) in self.stages() {
            match stage {
                Stage::Lingering => self.cut(io, number),
                Stage::Asking | Stage::Waiting => self.rest(io, number),
                Stage::Telling | Stage::Leaving | Stage::Closing => {}
            }
        }
        let goes = |stage| matches!(stage, Stage::Asking | Stage::Waiting);
        let rests = |visitor: &Visitor| goes(visitor.stage) && !visitor.receiving;
        self.rows.values().all(rests) && self.doors.iter().all(|door| !door.armed)
    }

    fn rest<I: Io + Processes>(&mut self, io: &mut I, number: u64) {
        if let Some(visitor) = self.rows.get_mut(&number)
            && visitor.receiving
            && !std::mem::replace(&mut visitor.canceled, true)
        {
            let token = token(number, Kind::Ask);
            io.submit(token.with(Kind::Cancel), Op::Cancel(token));
        }
    }

    /// The process goes on, as it was or as the next program: what came meanwhile is read.
    pub(crate) fn resume<I: Io + Processes>(&mut self, io: &mut I, now: Instant) {
        self.paused = false;
        self.doors.iter_mut().for_each(|door| door.canceled = false);
        for (&number, visitor) in &mut self.rows {
            visitor.canceled = false;
            if !visitor.receiving && !visitor.ended && visitor.stage != Stage::Closing {
                visitor.receiving = true;
                io.submit(token(number, Kind::Ask), Op::Recv(&visitor.fd));
            }
        }
        for (number, stage) in self.stages() {
            if stage == Stage::Asking {
                if let Some(visitor) = self.rows.get_mut(&number) {
                    visitor.deadline.get_or_insert_with(|| now.after(PATIENCE));
                }
                self.read(io, number, now);
            }
        }
    }

    /// Who has not asked yet: its connection, its door, and what came.
    pub(crate) fn asking(&self) -> impl Iterator<Item = (&Fd, u32, &[u8])> {
        let asking = self.rows.values().filter(|visitor| visitor.stage == Stage::Asking);
        asking.map(|visitor| (&visitor.fd, completion_slot(visitor.door), &visitor.input[..]))
    }

    /// One that an earlier program of this process let in. Gives it back if there is no such door.
    pub(crate) fn adopt_asking(&mut self, fd: Fd, door: u32, input: Vec<u8>) -> Option<Fd> {
        let door = door as usize;
        if door >= self.doors.len() {
            return Some(fd);
        }
        let mut visitor = Visitor::new(fd, door, Stage::Asking);
        visitor.received = input.len();
        visitor.input = input;
        self.rows.insert(self.next, visitor);
        self.next += 1;
        None
    }

    /// The connection of one who waits; `None`: it has left.
    pub(crate) fn connection(&self, asker: Asker) -> Option<&Fd> {
        self.rows.get(&asker.0).map(|visitor| &visitor.fd)
    }

    /// One whose command an earlier program of this process began.
    pub(crate) fn adopt(&mut self, fd: Fd) -> Asker {
        let number = self.next;
        self.next += 1;
        self.rows.insert(number, Visitor::new(fd, 0, Stage::Waiting));
        Asker(number)
    }
}
