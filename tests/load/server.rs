//! A small server that does to each connection what a test says.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// What is done to one connection; which one it is counts from 0.
pub(crate) type Manner = dyn Fn(usize, TcpStream) + Send + Sync;

pub(crate) struct Server {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    accepts: Option<JoinHandle<()>>,
}

impl Server {
    /// Accepts until it is dropped.
    pub(crate) fn start(manner: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_with(usize::MAX, manner)
    }

    /// Accepts so many connections and leaves the others in the backlog.
    pub(crate) fn start_with(
        most: usize,
        manner: impl Fn(usize, TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let (is_over, manner) = (Arc::clone(&over), Arc::new(manner) as Arc<Manner>);
        let accepts = spawn(move || accept(&listener, most, &is_over, &manner));
        Self { address, over, accepts: Some(accepts) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        if let Some(accepts) = self.accepts.take() {
            accepts.join().unwrap();
        }
    }
}

fn accept(listener: &TcpListener, most: usize, over: &AtomicBool, manner: &Arc<Manner>) {
    let mut count = 0;
    let mut threads = Vec::new();
    while !over.load(Ordering::Acquire) {
        if count == most {
            thread::park_timeout(std::time::Duration::from_millis(5));
            continue;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        stream.set_nodelay(true).unwrap();
        if !over.load(Ordering::Acquire) {
            let manner = Arc::clone(manner);
            threads.push(spawn(move || manner(count, stream)));
            count += 1;
        }
    }
    // The client has closed its connections by now, so they all end.
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

pub(crate) fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().spawn(run).unwrap()
}

/// Reads one request without a body; `false`: the client has closed.
pub(crate) fn read_request(stream: &mut TcpStream) -> bool {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

/// A right answer; `false`: the client has closed.
pub(crate) fn answer(stream: &mut TcpStream, body: &str) -> bool {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).is_ok()
}

/// Answers all requests of a connection.
pub(crate) fn serve(mut stream: TcpStream) {
    while read_request(&mut stream) && answer(&mut stream, "Hello") {}
}
