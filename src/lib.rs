//! ringfort: a pre-fork server engine for Linux.
//!
//! One single-threaded **master** accepts, balances, hands over and supervises; forked **workers**
//! serve, each on its own io_uring. Read in this order: the pool an application builds, the master,
//! the worker, HTTP, the wire between them, and the seam to the kernel with its two sides.

pub mod admin;
mod boot;
pub mod channel;
pub mod coming_from;
pub mod config;
pub mod error;
pub mod event;
pub mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod handle;
pub mod http;
#[doc(hidden)]
pub mod io;
#[doc(hidden)]
pub mod ipc;
#[cfg(feature = "load")]
pub mod load;
#[doc(hidden)]
pub mod master;
mod mode;
pub mod network;
mod panics;
pub mod pool;
#[doc(hidden)]
pub mod protocol;
pub mod server;
pub mod signals;
#[cfg(feature = "sim")]
#[doc(hidden)]
pub mod sim;
pub mod stats;
#[doc(hidden)]
pub mod sys;
pub mod system;
pub mod testing;
#[doc(hidden)]
pub mod worker;

pub use admin::{ProcessInfo, ProcessState};
pub use config::{AccessFormat, Balancing, Config, ConfigError, Mode};
pub use error::{Error, ErrorKind};
pub use event::{Event, Level};
pub use files::Files;
pub use handle::Handle;
#[doc(inline)]
pub use master::balancer;
pub use mode::{Comparison, Recommendation, comparison, recommended};
pub use network::Network;
pub use pool::{Pool, Reread, Started, WorkerInfo, WorkerStatus};
pub use signals::{HandlerId, SignalManager, UserSignal};
pub use system::SystemInfo;
