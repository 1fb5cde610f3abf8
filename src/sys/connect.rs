//! How the real load generator connects.

use super::errno::Failed;
use super::ring::{Parked, Ring};
use super::socket::{self, Name};
use crate::io::{Address, Connects, Errno, Fd, Token};
use io_uring::{opcode, types};
use std::net::{IpAddr, SocketAddr};

impl Connects for Ring {
    fn connect(&mut self, token: Token, to: &Address, from: Option<IpAddr>) -> Result<Fd, Errno> {
        let name = Box::new(Name::of(to).map_err(Failed::errno)?);
        let fd = socket::socket(name.family(), libc::SOCK_STREAM).map_err(Failed::errno)?;
        if let Err(failed) = prepare(&fd, to, from) {
            socket::close(fd);
            return Err(failed.errno());
        }
        let target = (&raw const name.storage).cast();
        let entry = opcode::Connect::new(types::Fd(fd.raw()), target, name.length).build();
        self.park(token, Parked::Connect { _name: name });
        self.push(&entry.user_data(token.encode()));
        Ok(fd)
    }
}

/// TCP: no delay of small requests, and the source address. Its port is picked at the connect
/// (IP_BIND_ADDRESS_NO_PORT), so that one port can serve several servers.
fn prepare(fd: &Fd, to: &Address, from: Option<IpAddr>) -> Result<(), Failed> {
    let Address::Tcp(_) = to else { return Ok(()) };
    socket::set(fd, "TCP_NODELAY", libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
    let Some(from) = from else { return Ok(()) };
    let option = libc::IP_BIND_ADDRESS_NO_PORT;
    socket::set(fd, "IP_BIND_ADDRESS_NO_PORT", libc::IPPROTO_IP, option, 1)?;
    socket::bind(fd, &Name::tcp(SocketAddr::new(from, 0)))
}
