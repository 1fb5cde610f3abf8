//! What operators and health checks ask the master, and how it answers: control socket, health,
//! metrics. The master lends its ring; nothing here blocks, but for `client`, which is the other
//! side.

pub mod client;
pub mod json;
pub mod line;
mod page;
mod process;
mod prometheus;
mod slot;
pub mod view;
mod visitors;

use crate::io::Fd;
pub use page::Page;
pub use process::{ProcessInfo, ProcessState};
pub use slot::SlotInfo;
pub use view::View;
pub(crate) use visitors::{DOOR_RESERVE, Question, Visitors};

/// Who may come through a listener of the master's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A Unix socket: root and the master's own user, with commands and pages.
    Operator,
    /// A health listener: anybody, pages only.
    Anyone,
}

/// What a master is given for its operators.
#[derive(Debug, Default)]
pub struct Parts {
    /// Listeners: not blocking.
    pub doors: Vec<(Fd, Trust)>,
    /// The master's own user.
    pub user: u32,
    /// Where the pool listens.
    pub addresses: Vec<String>,
    /// RLIMIT_NOFILE before and after it was raised.
    pub descriptors: (u64, u64),
    /// Whether the process can become another program.
    pub upgradable: bool,
    /// Whether it was one before, which can come back.
    pub earlier: bool,
}
