//! What can go wrong at start: kind, stable code, hint, context. Pure; imports nothing of the
//! crate.

use std::fmt;

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
    /// Any other failing system call.
    System,
}

impl ErrorKind {
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
            Self::System => "system",
        }
    }

    /// The kind of a code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        let all = [
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
            Self::System,
        ];
        all.into_iter().find(|kind| kind.code() == code)
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
                "raise RLIMIT_NOFILE (`ulimit -n`, systemd LimitNOFILE=), or lower connections_max"
            }
            Self::Threads => "start the pool before any thread; workers may start threads",
            Self::WorkersFailed => "the reason each worker gave stands above",
            Self::Unclean => "raise drain_timeout, or look for handlers that do not end",
            Self::System => "the system call and its error stand above",
        }
    }
}

/// An error with its context. `Display` is one line; `hint` says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    context: String,
}

impl Error {
    /// What happened, where: `cannot listen on 127.0.0.1:80: permission denied`.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into() }
    }

    /// What happened, without the code.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.context
    }

    /// What an application can branch on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A word that never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        self.kind.hint()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.context, self.code())
    }
}

impl std::error::Error for Error {}
