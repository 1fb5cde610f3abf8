//! Channels: pairs of SOCK_SEQPACKET sockets whose messages carry descriptors.

use super::kernel::{Body, FileId, ProcessId, State};
use super::ring::Wake;
use crate::io::{Batch, Errno, Message};
use std::collections::VecDeque;

/// One end of a channel.
#[derive(Debug)]
pub(super) struct Channel {
    peer: FileId,
    inbox: VecDeque<Packet>,
    /// The other end is closed.
    eof: bool,
    /// It was closed with messages unread: the next receive says so, before anything else.
    error: bool,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    fds: Vec<FileId>,
}

impl Channel {
    /// The files that messages on their way carry.
    pub(super) fn carried(&self) -> impl Iterator<Item = FileId> {
        self.inbox.iter().flat_map(|packet| packet.fds.iter().copied())
    }
}

impl State {
    /// Two ends of a new channel.
    pub(super) fn channel(&mut self) -> (FileId, FileId) {
        let first = self.files.len();
        let end = |peer| Channel { peer, inbox: VecDeque::new(), eof: false, error: false };
        (self.file(Body::Channel(end(first + 1))), self.file(Body::Channel(end(first))))
    }

    /// sendmsg(2) with MSG_DONTWAIT: the whole message or nothing.
    pub(super) fn pass(&mut self, pid: ProcessId, id: FileId, batch: &Batch) -> Result<u32, Errno> {
        assert!(!batch.bytes.is_empty(), "an empty message looks like end-of-file");
        assert!(batch.fds.len() <= Batch::FDS_MAX, "too many descriptors in one message");
        let peer_id = match self.body(id) {
            Some(Body::Channel(channel)) => channel.peer,
            other => panic!("{other:?} is no channel"),
        };
        let held = match self.body(peer_id) {
            Some(Body::Channel(peer)) => peer.inbox.len(),
            _ => return Err(Errno::PeerGone),
        };
        // An empty channel always has room for one.
        let full = held > 0 && self.prng.chance(self.faults.channel_full);
        if full || held >= self.sizes.channel_messages {
            return Err(Errno::Again);
        }
        if !batch.fds.is_empty() && self.prng.chance(self.faults.in_flight_full) {
            return Err(Errno::TooManyInFlight);
        }
        let fds: Vec<FileId> = batch.fds.iter().map(|fd| self.of(pid, fd)).collect();
        for &file in &fds {
            self.hold(file);
            let connection = self.connection(file);
            self.note(pid, connection, format_args!("pass"));
        }
        self.give(pid, batch);
        let bytes = batch.bytes.clone();
        if let Some(Body::Channel(peer)) = self.body_mut(peer_id) {
            peer.inbox.push_back(Packet { bytes, fds });
        }
        self.wake(peer_id, Wake::Readable);
        Ok(u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX))
    }

    /// What a worker passes it gives away; a master keeps its copies.
    fn give(&mut self, pid: ProcessId, batch: &Batch) {
        let process = &mut self.processes[pid];
        if process.parent.is_none() {
            return;
        }
        for fd in &batch.fds {
            let at = usize::try_from(fd.raw()).expect("`of` has found it");
            process.given += 1;
            if let Some(entry) = &mut process.fds[at] {
                entry.given = true;
            }
        }
    }

    /// recvmsg(2): the next message with its descriptors installed; an empty one at end-of-file.
    /// Descriptors for which there is no room are lost, and the message says so (MSG_CTRUNC).
    pub(super) fn receive(&mut self, pid: ProcessId, id: FileId) -> Result<Message, Errno> {
        let packet = match self.body_mut(id) {
            Some(Body::Channel(channel)) => {
                if std::mem::take(&mut channel.error) {
                    return Err(Errno::PeerGone);
                }
                match channel.inbox.pop_front() {
                    Some(packet) => packet,
                    None if channel.eof => return Ok(Message::default()),
                    None => return Err(Errno::Again),
                }
            }
            other => panic!("{other:?} is no channel"),
        };
        let mut message = Message { bytes: packet.bytes, ..Message::default() };
        for file in packet.fds {
            let lost = message.truncated || self.prng.chance(self.faults.no_fds);
            let order = self.processes[pid].received + 1;
            match if lost { Err(Errno::NoFds) } else { self.install(pid, file, Some(order)) } {
                Ok(fd) => {
                    self.processes[pid].received = order;
                    message.fds.push(fd);
                    let connection = self.connection(file);
                    self.note(pid, connection, format_args!("receive"));
                }
                Err(_) => {
                    message.truncated = true;
                    // What a worker gave back and the master has no room for is lost with its
                    // message. What a worker has no room for, the master has copies of.
                    if self.processes[pid].parent.is_none()
                        && let Some(connection) = self.connection(file)
                    {
                        self.excused.insert(connection);
                    }
                    self.release(file);
                }
            }
        }
        Ok(message)
    }

    pub(super) fn close_channel(&mut self, channel: Channel) {
        if let Some(Body::Channel(peer)) = self.body_mut(channel.peer) {
            peer.eof = true;
            peer.error = !channel.inbox.is_empty();
            self.wake(channel.peer, Wake::Readable);
        }
        for packet in channel.inbox {
            for file in packet.fds {
                self.release(file);
            }
        }
    }
}
