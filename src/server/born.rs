//! What a forked worker has been given, and what it can be made into.

use super::raw::Raw;
use super::tasks::Async;
use super::{EventDriven, Server};
use crate::config::Config;
use crate::http::rate::RateTable;
use crate::http::{Handler, Http};
use crate::io::Fd;
use crate::ipc::mail::WorkerMail;
use crate::protocol::Protocol;
use crate::sys::errno::Failed;
use crate::sys::ring::Ring;
use crate::worker::{Parts, Worker};

/// What an application's factory made of a worker: it serves until it has drained.
pub(crate) type Job = Box<dyn FnOnce(Born) -> Result<(), Failed>>;

/// A worker that is set up, but does not serve yet.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) ring: Ring,
    pub(crate) parts: Parts,
    pub(crate) config: Config,
    pub(crate) rate: Option<RateTable>,
    /// Its stream of the application's messages.
    pub(crate) mail: Option<(Fd, WorkerMail)>,
}

impl Born {
    pub(super) fn slot(&self) -> u32 {
        self.parts.slot
    }

    pub(super) fn speak<P: Protocol>(self, protocol: P) -> Worker<Ring, P> {
        let worker = Worker::new(self.ring, protocol, self.parts, &self.config);
        match self.mail {
            Some((fd, mail)) => worker.with_mail(fd, mail),
            None => worker,
        }
    }

    pub(super) fn http<H: Handler>(mut self, handler: H) -> Worker<Ring, Http<H>> {
        let http = Http::new(handler, &self.config).with_rate_limit(self.rate.take());
        self.speak(http)
    }
}

/// Serves with a handler.
pub(crate) fn handler(handler: impl Handler + 'static) -> Job {
    Box::new(|born| {
        born.http(handler).run();
        Ok(())
    })
}

/// Serves with a protocol of the application's own.
pub(crate) fn protocol(protocol: impl Protocol + 'static) -> Job {
    Box::new(|born| {
        born.speak(protocol).run();
        Ok(())
    })
}

/// Serves with the application's own loop.
pub(crate) fn event_driven(mut application: impl EventDriven + 'static) -> Job {
    Box::new(move |born| {
        let (slot, mut server) = Server::new(born)?;
        application.run(slot, &mut server);
        server.finish();
        Ok(())
    })
}

/// Serves with async blocks.
pub(crate) fn tasks<F>(make: F) -> Job
where
    F: super::tasks::AsyncHandler + 'static,
{
    Box::new(|born| Async::run(born, make))
}

/// Gives each connection away, to one of so many threads.
pub(crate) fn raw<F>(threads: usize, handle: F) -> Job
where
    F: super::raw::RawHandler + Clone,
{
    Box::new(move |born| Raw::run(born, threads, handle))
}
