//! Where requests lie between the handler that takes them and the application's loop.

use super::{Pending, RequestId};
use crate::http::{Handler, Owed, Request, Response};
use crate::io::Token;
use crate::worker::Slots;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Poll;

pub(super) type Fill = Box<dyn FnOnce(&mut Response)>;

/// What a handed-in request is waiting for.
pub(super) enum Stage {
    /// To be asked for by the loop.
    Queued,
    /// Its answer, by the loop.
    Given,
    /// Its answer, by the ticket.
    Ticketed,
    /// Its connection's turn to write it.
    Answered(Fill),
}

/// Where the requests of all connections of a worker lie.
pub(super) struct Desk {
    pub(super) queue: VecDeque<Pending>,
    pub(super) owed: Slots<(Token, Stage)>,
    pub(super) queued: usize,
}

impl Desk {
    /// The next request whose client is still there.
    pub(super) fn next(&mut self) -> Option<Pending> {
        while let Some(request) = self.queue.pop_front() {
            if let Some((_, stage)) = self.owed.get_mut(request.id.0) {
                *stage = Stage::Given;
                self.queued -= 1;
                return Some(request);
            }
        }
        None
    }

    pub(super) fn forget(&mut self, id: RequestId) -> Option<Stage> {
        let (_, stage) = self.owed.remove(id.0)?;
        self.queued -= usize::from(matches!(stage, Stage::Queued));
        Some(stage)
    }
}

/// The handler of this worker: it only puts requests on the desk.
pub(super) struct Inbox(pub(super) Rc<RefCell<Desk>>);

impl Handler for Inbox {
    fn handle(&mut self, request: &Request<'_>, response: &mut Response) {
        let mut desk = self.0.borrow_mut();
        let id = RequestId(desk.owed.insert((request.token(), Stage::Queued)));
        desk.queue.push_back(Pending { id, request: request.into() });
        desk.queued += 1;
        response.owe(Box::new(Debt { id, desk: Rc::clone(&self.0) }));
    }
}

/// What a connection holds while its request lies on the desk.
struct Debt {
    id: RequestId,
    desk: Rc<RefCell<Desk>>,
}

impl Owed for Debt {
    fn poll(&mut self, response: &mut Response) -> Poll<()> {
        let mut desk = self.desk.borrow_mut();
        let Some((_, Stage::Answered(_))) = desk.owed.get(self.id.0) else { return Poll::Pending };
        let stage = desk.forget(self.id);
        drop(desk);
        if let Some(Stage::Answered(fill)) = stage {
            fill(response);
        }
        Poll::Ready(())
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        // Its answer may hold objects of the application: dropped when the desk is free again.
        let stage = self.desk.borrow_mut().forget(self.id);
        drop(stage);
    }
}
