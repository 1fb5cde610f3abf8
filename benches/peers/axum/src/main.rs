//! axum as its documentation shows it: one multi-threaded runtime, one listener.

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use common::{BIG, HELLO, arguments};
use http_body_util::BodyExt;
use std::net::SocketAddr;

async fn upload(mut body: Body) -> String {
    let mut count = 0;
    while let Some(Ok(frame)) = body.frame().await {
        count += frame.data_ref().map_or(0, |data| data.len());
    }
    count.to_string()
}

fn main() {
    let (port, threads) = arguments();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(threads).enable_io().build().unwrap().block_on(async move {
        let router = Router::new()
            .route("/", get(|| async { str::from_utf8(HELLO).unwrap() }))
            .route("/big", get(|| async { &BIG[..] }))
            .route("/upload", post(upload));
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        socket.listen(4096).unwrap();
        let listener = tokio::net::TcpListener::from_std(socket.into()).unwrap();
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).await.unwrap();
    });
}
