//! The callback worker: each connection is given away whole, as an owned socket and what is known
//! of it. Handlers run on threads of their own, one at a time or a bounded number side by side, so
//! that they may block while the worker still hears signals and deadlines.

use super::Born;
use super::driver::Driver;
use super::mailbox::{Mail, Mailbox};
use crate::io::{Address, Fd, Instant};
use crate::panics::contained;
use crate::protocol::{Carried, Close, Cx, Next, Protocol, Stage};
use crate::stats::{CloseReason, Counter};
use crate::sys::errno::Failed;
use crate::sys::owned::own;
use crate::sys::socket;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

/// Serves one connection after the other, on one thread.
pub trait RawHandler: Send + 'static {
    /// Serves a connection; it is over when this returns.
    fn handle(&mut self, socket: Socket, metadata: &Metadata);
}

impl<F: FnMut(Socket, &Metadata) + Send + 'static> RawHandler for F {
    fn handle(&mut self, socket: Socket, metadata: &Metadata) {
        self(socket, metadata);
    }
}

/// What is known of a connection.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The worker's slot, from 0.
    pub worker_id: u32,
    /// The peer's address and port; `None` on a Unix socket, or when it has left.
    pub peer: Option<SocketAddr>,
    /// The address it came to.
    pub local: Option<Address>,
    /// When this worker got it.
    pub accepted_at: SystemTime,
}

impl Metadata {
    /// The peer's address alone, an IPv4 address as such.
    #[must_use]
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip().to_canonical())
    }
}

/// An owned connection, in blocking mode. When it is dropped the peer sees the end at once.
#[derive(Debug)]
pub struct Socket(Option<Stream>);

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// The TCP connection, to do anything std can with it; the socket back if it is a Unix one.
    ///
    /// # Errors
    ///
    /// A Unix socket.
    pub fn into_tcp(mut self) -> Result<TcpStream, Self> {
        match self.0.take() {
            Some(Stream::Tcp(stream)) => Ok(stream),
            other => Err(Self(other)),
        }
    }

    /// The Unix connection; the socket back if it is a TCP one.
    ///
    /// # Errors
    ///
    /// A TCP socket.
    pub fn into_unix(mut self) -> Result<UnixStream, Self> {
        match self.0.take() {
            Some(Stream::Unix(stream)) => Ok(stream),
            other => Err(Self(other)),
        }
    }

    /// How long reads and writes wait; `None`: for ever.
    ///
    /// # Errors
    ///
    /// A duration of zero.
    pub fn set_timeout(&self, timeout: Option<std::time::Duration>) -> io::Result<()> {
        match &self.0 {
            Some(Stream::Tcp(stream)) => {
                stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout))
            }
            Some(Stream::Unix(stream)) => {
                stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout))
            }
            None => Ok(()),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(Stream::Tcp(stream)) => stream.read(buffer),
            Some(Stream::Unix(stream)) => stream.read(buffer),
            None => Ok(0),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(Stream::Tcp(stream)) => stream.write(buffer),
            Some(Stream::Unix(stream)) => stream.write(buffer),
            None => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The master may hold a copy for a moment: closing ours alone would tell the peer nothing.
        match &self.0 {
            Some(Stream::Tcp(stream)) => drop(stream.shutdown(Shutdown::Both)),
            Some(Stream::Unix(stream)) => drop(stream.shutdown(Shutdown::Both)),
            None => {}
        }
    }
}

type Given = (Socket, Metadata);

/// The protocol of this worker: it takes every connection away.
#[derive(Debug)]
pub(super) struct Raw {
    worker_id: u32,
    threads: Sender<Given>,
    taken: usize,
}

impl Raw {
    /// Serves until it has drained. What still runs at the drain's deadline ends with the process.
    pub(super) fn run<F: RawHandler + Clone>(
        born: Born,
        threads: usize,
        handler: F,
    ) -> Result<(), Failed> {
        let mailbox = Mailbox::new()?;
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..threads {
            let (receiver, mailbox) = (Arc::clone(&receiver), Arc::clone(&mailbox));
            let handler = handler.clone();
            let builder = thread::Builder::new().name("connection".to_owned());
            let spawned = builder.spawn(move || serve(&receiver, &mailbox, handler));
            let number = |error: io::Error| error.raw_os_error().unwrap_or(0);
            spawned.map_err(|error| Failed { step: "thread", number: number(error) })?;
        }
        let raw = Self { worker_id: born.slot(), threads: sender, taken: 0 };
        let mut driver = Driver::new(born.speak(raw), mailbox);
        loop {
            let mut until = None;
            for mail in driver.mail() {
                let Mail::Finished(is_whole) = mail else { continue };
                // There is room again, or the drain is over.
                until = Some(Instant::default());
                driver.worker.protocol().taken -= 1;
                let line = driver.worker.line();
                line.close(match is_whole {
                    true => CloseReason::HandlerAsked,
                    false => CloseReason::HandlerPanic,
                });
                line.add(Counter::HandlerPanics, u64::from(!is_whole));
            }
            driver.pass(until);
            if driver.worker.is_done() {
                for _ in 0..driver.worker.protocol().taken {
                    driver.worker.line().close(CloseReason::DrainDeadline);
                }
                return Ok(());
            }
        }
    }
}

/// One thread: a connection after the other, until the worker ends.
fn serve(
    connections: &Mutex<Receiver<Given>>,
    mailbox: &Mailbox,
    mut handler: impl RawHandler + Clone,
) {
    loop {
        let next = connections.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((socket, metadata)) = next else { return };
        // A panic ends this connection, and the handler goes on with what the panic left.
        let handled = contained(|| handler.handle(socket, &metadata));
        mailbox.push(Mail::Finished(handled.is_ok()));
    }
}

impl Protocol for Raw {
    type Connection = ();

    fn take(&mut self, fd: Fd, _: Instant) -> Option<Fd> {
        let peer = socket::peer(&fd).address();
        let local = socket::local_address(&fd).ok();
        let owned = own(fd);
        let stream = match local {
            Some(Address::Unix(_)) => Stream::Unix(owned.into()),
            Some(Address::Tcp(_)) | None => Stream::Tcp(owned.into()),
        };
        #[expect(clippy::disallowed_methods, reason = "for the application, not for our decisions")]
        let accepted_at = SystemTime::now();
        let metadata = Metadata { worker_id: self.worker_id, peer, local, accepted_at };
        self.taken += 1;
        // The threads end only with the process.
        let _ = self.threads.send((Socket(Some(stream)), metadata));
        None
    }

    fn taken(&self) -> usize {
        self.taken
    }

    fn open(&mut self, _: Instant, _: Option<Carried>) -> ((), Next) {
        ((), END)
    }

    fn receive(&mut self, (): &mut (), _: &[u8], _: &mut Cx<'_>) -> Next {
        END
    }

    fn resume(&mut self, (): &mut (), _: &mut Cx<'_>) -> Next {
        END
    }

    fn eof(&mut self, (): &mut (), _: &mut Cx<'_>) -> Next {
        END
    }

    fn timeout(&mut self, (): &mut (), _: &mut Cx<'_>) -> Next {
        END
    }

    fn drain(&mut self, (): &mut (), _: &mut Cx<'_>) -> Next {
        END
    }
}

/// What a connection that was not taken away would want; there is none.
const END: Next = Next {
    deadline: None,
    exact: false,
    pause: false,
    again: false,
    flushed: false,
    read_file: None,
    close: Some(Close { reason: CloseReason::HandlerAsked, linger: false, now: true }),
    stage: Stage::Idle,
};
