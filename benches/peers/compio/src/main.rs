//! compio bare, with httparse: one ring and one listener (SO_REUSEPORT) a thread.

use common::{Bare, arguments};
use compio::BufResult;
use compio::io::{AsyncRead, AsyncWriteExt};
use compio::net::{TcpListener, TcpStream};
use std::net::SocketAddr;

async fn connection(mut stream: TcpStream) {
    let (mut bare, mut input) = (Bare::default(), Vec::with_capacity(16 << 10));
    let mut output = Vec::new();
    loop {
        input.clear();
        let BufResult(result, buffer) = stream.read(input).await;
        input = buffer;
        let Ok(count @ 1..) = result else { return };
        let close = bare.receive(&input[..count], &mut output);
        if !output.is_empty() {
            let BufResult(result, buffer) = stream.write_all(output).await;
            output = buffer;
            if result.is_err() {
                return;
            }
            output.clear();
        }
        if close {
            return;
        }
    }
}

fn serve(port: u16) {
    compio::runtime::Runtime::new().unwrap().block_on(async move {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        socket.listen(4096).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            compio::runtime::spawn(connection(stream)).detach();
        }
    });
}

fn main() {
    let (port, threads) = arguments();
    let others: Vec<_> = (1..threads).map(|_| std::thread::spawn(move || serve(port))).collect();
    serve(port);
    others.into_iter().for_each(|other| other.join().unwrap());
}
