//! Visitors while the process becomes another program: who waits for its end goes along.

use super::{Stage, Visitor, Visitors, token};
use crate::io::{Fd, Io, Kind, Op, Processes, Token};
use crate::master::answer::Asker;

impl Visitors {
    /// The process becomes another program: nobody is let in, who asks is cut, who waits goes
    /// along. Call again until it says that the kernel does nothing any more.
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
                Stage::Asking | Stage::Lingering => self.cut(io, number),
                Stage::Waiting => self.rest(io, number),
                Stage::Telling | Stage::Leaving | Stage::Closing => {}
            }
        }
        let rests = |visitor: &Visitor| visitor.stage == Stage::Waiting && !visitor.receiving;
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

    /// The process stays what it is.
    pub(crate) fn resume<I: Io + Processes>(&mut self, io: &mut I) {
        self.paused = false;
        self.doors.iter_mut().for_each(|door| door.canceled = false);
        for (&number, visitor) in &mut self.rows {
            visitor.canceled = false;
            if !visitor.receiving && !visitor.ended && visitor.stage != Stage::Closing {
                visitor.receiving = true;
                io.submit(token(number, Kind::Ask), Op::Recv(&visitor.fd));
            }
        }
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
