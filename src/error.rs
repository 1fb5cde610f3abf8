//! What can go wrong: kind, stable code, hint, context, source. Pure; imports nothing of the crate.

use std::fmt;
use std::sync::Arc;

/// What an application can branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is wrong.
    Config,
    /// Somebody else listens there.
    AddressInUse,
    /// The address is not of this machine.
    AddressNotAvailable,
    /// Not allowed: a low port, a directory.
    PermissionDenied,
    /// io_uring is blocked by a seccomp filter, as container runtimes do.
    RingBlocked,
    /// io_uring is switched off by `kernel.io_uring_disabled`.
    RingDisabled,
    /// The kernel lacks what we need.
    KernelTooOld,
    /// RLIMIT_MEMLOCK or memory is too small for the rings.
    MemoryLocked,
    /// RLIMIT_NOFILE is too small for the connections asked for.
    TooFewDescriptors,
    /// The process has more than one thread and would fork.
    Threads,
    /// No worker came up.
    WorkersFailed,
    /// The drain deadline passed, or workers had to be killed.
    Unclean,
    /// A channel between processes: not connected, gone, or what came is no message.
    Ipc,
    /// Any other failing system call.
    System,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::Config,
        Self::AddressInUse,
        Self::AddressNotAvailable,
        Self::PermissionDenied,
        Self::RingBlocked,
        Self::RingDisabled,
        Self::KernelTooOld,
        Self::MemoryLocked,
        Self::TooFewDescriptors,
        Self::Threads,
        Self::WorkersFailed,
        Self::Unclean,
        Self::Ipc,
        Self::System,
    ];

    /// The code of duyler/worker-pool for it: `IPC_ERROR`, else `WORKER_POOL_ERROR`.
    #[must_use]
    pub const fn group(self) -> &'static str {
        if matches!(self, Self::Ipc) { "IPC_ERROR" } else { "WORKER_POOL_ERROR" }
    }

    /// A word that never changes, for scripts and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::AddressInUse => "address_in_use",
            Self::AddressNotAvailable => "address_not_available",
            Self::PermissionDenied => "permission_denied",
            Self::RingBlocked => "ring_blocked",
            Self::RingDisabled => "ring_disabled",
            Self::KernelTooOld => "kernel_too_old",
            Self::MemoryLocked => "memory_locked",
            Self::TooFewDescriptors => "too_few_descriptors",
            Self::Threads => "threads",
            Self::WorkersFailed => "workers_failed",
            Self::Unclean => "unclean",
            Self::Ipc => "ipc",
            Self::System => "system",
        }
    }

    /// The kind of a code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.code() == code)
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Config => "correct the setting; `ringfort serve --help` lists all of them",
            Self::AddressInUse => {
                "another process listens there: `ss -ltnp` shows which; or use port 0"
            }
            Self::AddressNotAvailable => "use an address of this machine (`ip addr`), or 0.0.0.0",
            Self::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE (or net.ipv4.ip_unprivileged_port_start); a Unix path needs a writable directory"
            }
            Self::RingBlocked => {
                "a seccomp filter blocks io_uring (container runtimes do by default): allow io_uring_setup, io_uring_enter and io_uring_register in its profile"
            }
            Self::RingDisabled => {
                "set kernel.io_uring_disabled=0, or add this user's group to kernel.io_uring_group"
            }
            Self::KernelTooOld => "use Linux 6.1 or newer",
            Self::MemoryLocked => {
                "raise RLIMIT_MEMLOCK (`ulimit -l`, systemd LimitMEMLOCK=), or use fewer workers"
            }
            Self::TooFewDescriptors => {
                "raise RLIMIT_NOFILE (`ulimit -n`, systemd LimitNOFILE=), or lower connections_max or workers"
            }
            Self::Threads => "start the pool before any thread; workers may start threads",
            Self::WorkersFailed => "the reason each worker gave stands above",
            Self::Unclean => "raise drain_timeout, or look for handlers that do not end",
            Self::Ipc => "look at the other end; after a bad message only a new channel helps",
            Self::System => "the system call and its error stand above",
        }
    }
}

/// What went wrong: a kind to branch on, a sentence, and what led to it. `Display` is one line;
/// [`Error::hint`] says what to do.
///
/// ```
/// use std::error::Error as _;
/// let error = ringfort::Pool::bind("nowhere").serve(|_req, res| res.text("")).unwrap_err();
/// assert_eq!(error.code(), "config");
/// assert_eq!(error.context(), [("option", "addr".to_owned()), ("value", "nowhere".to_owned())]);
/// assert!(error.source().is_some_and(|source| source.is::<ringfort::ConfigError>()));
/// ```
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    what: String,
    context: Vec<(&'static str, String)>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// What happened, where: `cannot listen on 127.0.0.1:80: permission denied`.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), context: Vec::new(), source: None }
    }

    /// With one more fact for who handles it by program: a name and its value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((name, value.to_string()));
        self
    }

    /// With the error that led to it.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What happened, without the code.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What an application can branch on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A word that never changes, one for each kind.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// `IPC_ERROR` or `WORKER_POOL_ERROR`: the code that duyler/worker-pool gives to such errors.
    #[must_use]
    pub const fn group(&self) -> &'static str {
        self.kind.group()
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        self.kind.hint()
    }

    /// The facts: names and values.
    #[must_use]
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.context
    }
}

/// Errors are the same when they say the same; where they come from is not compared.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.what, &self.context) == (other.kind, &other.what, &other.context)
    }
}

impl Eq for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.what, self.code())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::error::Error as _;

    #[test]
    fn each_kind_has_a_code_a_group_and_a_hint() {
        let codes: BTreeSet<&str> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), ErrorKind::ALL.len(), "no two kinds share a code");
        for kind in ErrorKind::ALL {
            assert!(kind.code().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            assert!(!kind.hint().is_empty());
        }
        let ipc = ErrorKind::ALL.iter().filter(|kind| kind.group() == "IPC_ERROR");
        assert_eq!(ipc.collect::<Vec<_>>(), [&ErrorKind::Ipc]);
        assert_eq!(ErrorKind::System.group(), "WORKER_POOL_ERROR");
    }

    #[test]
    fn an_error_keeps_its_context_and_its_source() {
        let bare = Error::new(ErrorKind::Ipc, "cannot send");
        assert!(bare.context().is_empty() && bare.source().is_none());
        let full = bare.clone().with("path", "/run/x").with("bytes", 7).because(fmt::Error);
        assert_eq!(full.context(), [("path", "/run/x".to_owned()), ("bytes", "7".to_owned())]);
        assert!(full.source().is_some_and(|source| source.is::<fmt::Error>()));
        assert_eq!(full.to_string(), "cannot send [ipc]");
        assert_eq!(full, bare.clone().with("path", "/run/x").with("bytes", 7));
        assert_ne!(full, bare);
    }
}
