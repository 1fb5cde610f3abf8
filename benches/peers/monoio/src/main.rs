//! monoio bare, with httparse: one ring and one listener (SO_REUSEPORT) a thread.

use common::{Bare, arguments};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};

async fn connection(mut stream: TcpStream) {
    let (mut bare, mut input, mut output) = (Bare::default(), vec![0; 16 << 10], Vec::new());
    loop {
        let (result, buffer) = stream.read(input).await;
        input = buffer;
        let Ok(count @ 1..) = result else { return };
        let close = bare.receive(&input[..count], &mut output);
        if !output.is_empty() {
            let (result, buffer) = stream.write_all(output).await;
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
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new().build().unwrap();
    runtime.block_on(async move {
        let options = ListenerOpts::new().backlog(4096).reuse_port(true);
        let listener = TcpListener::bind_with_config(("127.0.0.1", port), &options).unwrap();
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            monoio::spawn(connection(stream));
        }
    });
}

fn main() {
    let (port, threads) = arguments();
    let others: Vec<_> = (1..threads).map(|_| std::thread::spawn(move || serve(port))).collect();
    serve(port);
    others.into_iter().for_each(|other| other.join().unwrap());
}
