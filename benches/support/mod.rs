//! What the benches share: the floor, the load client, servers as children, rounds and tables.

pub(crate) mod floor;
pub(crate) mod load;
pub(crate) mod ring;
pub(crate) mod rounds;
pub(crate) mod server;
pub(crate) mod sys;
pub(crate) mod worker;

/// First thing in every `main`: a bench starts itself again as each of its servers.
pub(crate) fn serve_if_asked() {
    let Some((name, setup)) = server::Setup::from_args() else { return };
    match name.as_str() {
        "floor" => floor::serve(&setup),
        "floor-worker" => floor::serve_channel(&setup),
        "worker" => worker::serve_fixed(&setup),
        "worker-http" => worker::serve_http(&setup),
        _ => panic!("no server is named {name}"),
    }
}
