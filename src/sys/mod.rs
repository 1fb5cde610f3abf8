//! The real side of the seam: all `unsafe` of the crate, one file a subject. The loops see only
//! `io`; who wires them (boot) also calls the functions here.
//!
//! # Why this folder is sound
//!
//! What is said here once holds for every block below; a `SAFETY` comment only adds what is special
//! to its place.
//!
//! - **Descriptors.** An [`crate::io::Fd`] has one owner and is not `Clone`. A system call on a
//!   wrong number answers `EBADF`; it can hurt memory only through a mapping, and the only files
//!   mapped here are the ring's own and the sealed memfd of `shm`. So passing a descriptor's number
//!   to a system call needs no argument of its own.
//! - **Pointers that a call reads or fills before it returns** (`bind`, `fstat`, `sigprocmask` …)
//!   point to locals or borrowed slices that outlive the call, and their length is passed from the
//!   same value. The types are the kernel's `repr(C)` structs, for which all zeroes is a valid
//!   value, so they start as `zeroed` where the kernel fills them.
//! - **Pointers that the ring keeps beyond the call** (`ring`, `buffers`, `scm`, `file`) point
//!   into heap memory that belongs to the entry of that operation and is neither moved nor freed
//!   before its last completion was seen. Dropping a ring before that leaks such memory instead.
//! - **The ring is used by one thread** of the process that made it (`IORING_SETUP_SINGLE_ISSUER`
//!   enforces the thread, and `dontfork` the process: in a child its memory is not there).
//! - **Fork** happens only in `process::spawn`, which refuses while the process has a second
//!   thread. So no lock of the allocator or of std can be held by a thread that the child lacks,
//!   and the child may run any code. It never returns into its parent's frames: it ends in `_exit`.
//! - **Signals.** They are blocked and read from a signalfd, ignored, or left at their default. The
//!   one handler is in `parent`: it arms a timer and sends a signal, which is async-signal-safe.
//! - **Shared memory** is seen only as `&'static [AtomicU64]` and never unmapped. Its file is
//!   sealed against shrinking, so no access can fault, whatever another process does; another
//!   process can only change values, and values are never trusted as indices or lengths.

#![expect(unsafe_code, reason = "the one folder that talks to the kernel; see its argument above")]

pub mod arrivals;
mod buffers;
pub mod cgroup;
pub mod clock;
mod connect;
pub mod cpu;
pub mod errno;
pub mod exec;
pub mod file;
pub mod lock;
pub mod log;
pub mod notify;
pub mod owned;
pub mod parent;
pub mod privilege;
pub mod probe;
pub mod process;
pub mod rescue;
pub mod ring;
pub mod scm;
pub mod shm;
pub mod signal;
pub mod socket;
mod spawn;
pub mod watch;
mod words;
