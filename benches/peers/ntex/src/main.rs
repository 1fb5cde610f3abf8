//! ntex as its documentation shows it.

use common::{BIG, HELLO, arguments};
use ntex::util::stream_recv;
use ntex::web::{self, App, HttpResponse, HttpServer, types::Payload};

async fn upload(mut body: Payload) -> String {
    let mut count = 0;
    while let Some(Ok(bytes)) = stream_recv(&mut body).await {
        count += bytes.len();
    }
    count.to_string()
}

#[ntex::main]
async fn main() -> std::io::Result<()> {
    let (port, threads) = arguments();
    HttpServer::new(async || {
        App::new()
            .route(
                "/",
                web::get().to(async || HttpResponse::Ok().content_type("text/plain").body(HELLO)),
            )
            .route("/big", web::get().to(async || HttpResponse::Ok().body(&BIG[..])))
            .route("/upload", web::post().to(upload))
    })
    .workers(threads)
    .backlog(4096)
    .bind(("127.0.0.1", port))?
    .run()
    .await
}
