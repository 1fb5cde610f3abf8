//! What the benches share: the floor, the load client, servers as children, rounds and tables.

pub(crate) mod floor;
pub(crate) mod load;
pub(crate) mod ring;
pub(crate) mod rounds;
pub(crate) mod server;
pub(crate) mod sys;
