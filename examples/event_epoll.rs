//! Requests in a loop of one's own over epoll: the worker is one descriptor among others.
//!
//! `cargo run --example event_epoll`, then `curl http://127.0.0.1:8080/`
#![expect(unsafe_code, reason = "epoll(7), without a crate around it")]

use ringfort::Pool;
use ringfort::server::Server;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The least of epoll: what is readable.
struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: the kernel just made it for us.
            fd => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
        }
    }

    fn add(&self, fd: BorrowedFd<'_>, name: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: name };
        let (epoll, fd) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: reads a local.
        match unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Sleeps until something is readable: its name.
    fn wait(&self) -> Option<u64> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: fills one local.
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &raw mut event, 1, -1) };
        (count == 1).then_some(event.u64)
    }
}

const REQUESTS: u64 = 0;

fn serve(server: &mut Server) -> io::Result<()> {
    let epoll = Epoll::new()?;
    epoll.add(server.notify_fd()?, REQUESTS)?;
    // Other descriptors of the application are added here, under other names.
    while !server.is_done() {
        if epoll.wait() != Some(REQUESTS) {
            continue;
        }
        while let Some(request) = server.next_request() {
            let text = format!("{} through epoll\n", request.path());
            // It fails only if the client has left in the meantime.
            let _ = server.respond(request.id(), move |response| response.text(text));
        }
    }
    Ok(())
}

fn run(_worker_id: u32, server: &mut Server) {
    serve(server).expect("a worker without an event loop is replaced");
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .workers(2)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .run_workers(run)
}
