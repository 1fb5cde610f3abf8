//! What the benches share: the floor, the load client, servers as children, rounds and tables.

pub(crate) mod baseline;
pub(crate) mod ends;
pub(crate) mod engine;
pub(crate) mod floor;
pub(crate) mod load;
pub(crate) mod ring;
pub(crate) mod rounds;
pub(crate) mod server;
pub(crate) mod sys;
pub(crate) mod worker;

/// First thing in every `main`: a bench starts itself again as each of its servers. `true`: it was
/// one, and has served.
pub(crate) fn has_served() -> bool {
    let Some((name, setup)) = server::Setup::from_args() else { return false };
    match name.as_str() {
        "engine" => engine::serve(&setup),
        "engine-async" => engine::serve_async(&setup),
        "engine-epoll" => engine::serve_epoll(&setup),
        "engine-loop" => engine::serve_loop(&setup),
        "engine-pids" => engine::serve_pids(&setup),
        "floor" => floor::serve(&setup),
        "floor-worker" => floor::serve_channel(&setup),
        "worker" => worker::serve_fixed(&setup),
        "worker-http" => worker::serve_http(&setup),
        _ => panic!("no server is named {name}"),
    }
    true
}
