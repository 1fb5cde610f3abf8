//! actix-web as its documentation shows it: an accepting thread, and workers.

use actix_web::{App, HttpResponse, HttpServer, web};
use common::{BIG, HELLO, arguments};
use futures_util::StreamExt;

async fn upload(mut body: web::Payload) -> String {
    let mut count = 0;
    while let Some(Ok(bytes)) = body.next().await {
        count += bytes.len();
    }
    count.to_string()
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let (port, threads) = arguments();
    HttpServer::new(|| {
        App::new()
            .route(
                "/",
                web::get()
                    .to(|| async { HttpResponse::Ok().content_type("text/plain").body(HELLO) }),
            )
            .route("/big", web::get().to(|| async { HttpResponse::Ok().body(&BIG[..]) }))
            .route("/upload", web::post().to(upload))
    })
    .workers(threads)
    .backlog(4096)
    .tcp_nodelay(true)
    .bind(("127.0.0.1", port))?
    .run()
    .await
}
