//! Requests inside tokio: its `AsyncFd` watches the one descriptor of the worker.
//!
//! `cargo run --example event_tokio`, then `curl http://127.0.0.1:8080/?ms=20`
#![expect(unsafe_code, reason = "tokio's way to say that a descriptor stays open")]

use ringfort::Pool;
use ringfort::server::{Pending, RequestId, Server};
use std::io;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::LocalSet;

/// What a real one does with its database; tokio's timers and sockets work as ever.
async fn answer(request: Pending) -> (RequestId, String) {
    let wait = request.query_value("ms").and_then(|text| text.parse().ok()).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(wait)).await;
    (request.id(), format!("{} after {wait} ms\n", request.path()))
}

async fn serve(server: &mut Server) -> io::Result<()> {
    // A duplicate, for tokio to own.
    let notify = server.notify_fd()?.try_clone_to_owned()?;
    // SAFETY: the `AsyncFd` owns the descriptor, so it is open for as long as it is registered.
    let notify = unsafe { AsyncFd::register(notify) }?;
    let (sender, mut answers) = unbounded_channel();
    loop {
        while let Some(request) = server.next_request() {
            let sender = sender.clone();
            tokio::task::spawn_local(async move {
                // Nobody receives when the worker ends.
                let _ = sender.send(answer(request).await);
            });
        }
        if server.is_done() {
            return Ok(());
        }
        tokio::select! {
            guard = notify.readable() => guard?.clear_ready(),
            Some((id, text)) = answers.recv() => {
                // It fails only if the client has left in the meantime.
                let _ = server.respond(id, move |response| response.text(text));
            }
        }
    }
}

fn run(_worker_id: u32, server: &mut Server) {
    // The ring belongs to the thread that made it, so the runtime stays on it.
    let runtime = Builder::new_current_thread().enable_all().build();
    let served = runtime.and_then(|tokio| LocalSet::new().block_on(&tokio, serve(server)));
    served.expect("a worker without an event loop is replaced");
}

#[expect(clippy::print_stdout, reason = "it says where it listens")]
fn main() -> Result<(), ringfort::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    Pool::bind(&address)
        .workers(2)
        .on_started(|started| println!("http://{}/\n", started.addresses[0]))
        .run_workers(run)
}
