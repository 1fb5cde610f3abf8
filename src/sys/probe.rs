//! Whether this machine can run us, and if not, which of the many possible reasons it is.

use super::errno::{errno, last};
use super::process::nofile_max;
use super::ring::{self, RingSettings};
use crate::error::{Error, ErrorKind};
use crate::io::Errno;
use io_uring::{Probe, opcode};
use std::{fs, io};

/// The oldest Linux with all we use: IORING_SETUP_DEFER_TASKRUN is of 6.1, multishot receive of
/// 6.0.
pub const KERNEL_MIN: (u32, u32) = (6, 1);

/// What this machine answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the running kernel; `None` if its release is not of the usual form.
    pub kernel: Option<(u32, u32)>,
    /// Whether the smallest ring that we would use could be made and entered.
    pub ring: Result<(), Errno>,
    /// Operations that the kernel does not know.
    pub missing: Vec<&'static str>,
    /// `kernel.io_uring_disabled`; `None` before Linux 6.6, where it did not exist.
    pub disabled: Option<u32>,
    /// The hard limit of RLIMIT_NOFILE.
    pub descriptors: u64,
}

/// What was found on a machine that can run us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Of the running kernel; `None` if its release is not of the usual form.
    pub kernel: Option<(u32, u32)>,
    /// How many descriptors a process may have.
    pub descriptors: u64,
}

/// Asks the machine and judges its answer. `descriptors`: the most that one process will need.
///
/// # Errors
///
/// The kind says what is in the way: `KernelTooOld`, `RingDisabled`, `RingBlocked`, `MemoryLocked`,
/// `TooFewDescriptors`, or `System` for what nobody expects.
pub fn check(descriptors: u64) -> Result<Facts, Error> {
    judge(&ask(), descriptors)
}

/// From a machine's answer to the reason. Pure.
///
/// # Errors
///
/// See [`check`].
pub fn judge(answer: &Answer, descriptors: u64) -> Result<Facts, Error> {
    if let Some(kernel) = answer.kernel.filter(|kernel| *kernel < KERNEL_MIN) {
        let ((major, minor), (want_major, want_minor)) = (kernel, KERNEL_MIN);
        let context = format!(
            "this is Linux {major}.{minor}; {want_major}.{want_minor} is the oldest we run on"
        );
        return Err(Error::new(ErrorKind::KernelTooOld, context));
    }
    if let Err(errno) = answer.ring {
        return Err(ring_error(errno, answer.disabled));
    }
    if !answer.missing.is_empty() {
        let context = format!("this kernel's io_uring lacks {}", answer.missing.join(", "));
        return Err(Error::new(ErrorKind::KernelTooOld, context));
    }
    if answer.descriptors < descriptors {
        let context = format!(
            "this configuration needs {descriptors} descriptors a process, the hard limit is {}",
            answer.descriptors
        );
        return Err(Error::new(ErrorKind::TooFewDescriptors, context));
    }
    Ok(Facts { kernel: answer.kernel, descriptors: answer.descriptors })
}

fn ring_error(errno: Errno, disabled: Option<u32>) -> Error {
    let (kind, context) = match (errno, disabled) {
        // io_uring_setup(2): EPERM if the sysctl is 2, or 1 without CAP_SYS_ADMIN or the group.
        (Errno::Denied, Some(level @ 1..)) => {
            (ErrorKind::RingDisabled, format!("kernel.io_uring_disabled is {level}"))
        }
        (Errno::Denied, Some(0) | None) => {
            (ErrorKind::RingBlocked, "a seccomp filter refuses io_uring (EPERM)".to_owned())
        }
        (Errno::Other(libc::ENOSYS), _) => (
            ErrorKind::RingBlocked,
            "io_uring is not there (ENOSYS): a seccomp filter, or a kernel without it".to_owned(),
        ),
        (Errno::Other(libc::EINVAL), _) => (
            ErrorKind::KernelTooOld,
            "this kernel's io_uring lacks DEFER_TASKRUN or another flag we need".to_owned(),
        ),
        (Errno::NoBuffers, _) => {
            (ErrorKind::MemoryLocked, "no memory for even the smallest ring".to_owned())
        }
        (Errno::NoFds, _) => {
            (ErrorKind::TooFewDescriptors, "no descriptor left for a ring".to_owned())
        }
        (other, _) => (ErrorKind::System, format!("io_uring refuses to work: {other}")),
    };
    Error::new(kind, context)
}

fn ask() -> Answer {
    let tried = try_ring();
    Answer {
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().and_then(|r| version(&r)),
        ring: tried.as_ref().map(drop).map_err(|errno| *errno),
        missing: tried.unwrap_or_default(),
        disabled: fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
            .ok()
            .and_then(|text| text.trim_ascii().parse().ok()),
        // Where the limit can't be asked for, it is not what is in the way.
        descriptors: nofile_max().unwrap_or(u64::MAX),
    }
}

/// Makes a ring with our flags, asks it for our operations and enters it once: a filter may block
/// any of the three system calls. Answers the operations it lacks.
fn try_ring() -> Result<Vec<&'static str>, Errno> {
    let refused = |error: io::Error| error.raw_os_error().map_or_else(last, errno);
    let mut ring = ring::build(RingSettings::SMALLEST.0, RingSettings::SMALLEST.1)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(refused)?;
    let nop = opcode::Nop::new().build();
    // SAFETY: a NOP points to nothing.
    let pushed = unsafe { ring.submission().push(&nop) };
    pushed.map_err(|_| Errno::Busy)?;
    ring.submit_and_wait(1).map_err(refused)?;
    Ok(OPERATIONS.iter().filter(|(_, code)| !probe.is_supported(*code)).map(|(n, _)| *n).collect())
}

/// All that `ring` submits.
const OPERATIONS: [(&str, u8); 9] = [
    ("ACCEPT", opcode::AcceptMulti::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("CONNECT", opcode::Connect::CODE),
    ("RECV", opcode::RecvMulti::CODE),
    ("SEND", opcode::Send::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("RECVMSG", opcode::RecvMsg::CODE),
    ("READ", opcode::Read::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
];

/// Major and minor number of a release such as `6.18.44-generic`. Pure.
#[must_use]
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim_ascii().splitn(3, '.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some((major, minor[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Answer {
        Answer {
            kernel: Some((6, 1)),
            ring: Ok(()),
            missing: Vec::new(),
            disabled: Some(0),
            descriptors: 1024,
        }
    }

    #[track_caller]
    fn check(answer: Answer, want: ErrorKind, says: &str) {
        let error = judge(&answer, 1024).unwrap_err();
        assert_eq!(error.kind(), want, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn a_good_machine_is_taken() {
        for kernel in [Some((6, 1)), Some((7, 0)), None] {
            let facts = judge(&Answer { kernel, disabled: None, ..good() }, 1024);
            assert_eq!(facts, Ok(Facts { kernel, descriptors: 1024 }));
        }
        // The sysctl may forbid others what this user is allowed.
        assert!(judge(&Answer { disabled: Some(1), ..good() }, 1024).is_ok());
    }

    #[test]
    fn every_reason_has_its_name() {
        use ErrorKind::*;
        let refused = |errno| Answer { ring: Err(errno), ..good() };
        let disabled = |level, errno| Answer { disabled: level, ..refused(errno) };
        let enosys = Errno::Other(libc::ENOSYS);
        check(Answer { kernel: Some((6, 0)), ..good() }, KernelTooOld, "Linux 6.0");
        check(Answer { kernel: Some((5, 15)), ..refused(enosys) }, KernelTooOld, "Linux 5.15");
        check(disabled(Some(0), Errno::Denied), RingBlocked, "seccomp");
        check(disabled(None, Errno::Denied), RingBlocked, "seccomp");
        check(disabled(Some(1), Errno::Denied), RingDisabled, "io_uring_disabled is 1");
        check(disabled(Some(2), Errno::Denied), RingDisabled, "io_uring_disabled is 2");
        check(refused(enosys), RingBlocked, "ENOSYS");
        check(refused(Errno::Other(libc::EINVAL)), KernelTooOld, "DEFER_TASKRUN");
        check(refused(Errno::NoBuffers), MemoryLocked, "memory");
        check(refused(Errno::NoFds), TooFewDescriptors, "descriptor");
        check(refused(Errno::Other(5)), System, "errno 5");
        check(Answer { missing: vec!["RECV", "SEND"], ..good() }, KernelTooOld, "RECV, SEND");
        check(Answer { descriptors: 1023, ..good() }, TooFewDescriptors, "1024 descriptors");
    }

    #[test]
    fn releases_have_two_numbers() {
        for (release, want) in [
            ("6.18.44-fc-v782\n", Some((6, 18))),
            ("6.1-rc3", Some((6, 1))),
            ("5.14.0-427.el9.x86_64", Some((5, 14))),
            ("6", None),
            ("", None),
            ("a.b", None),
        ] {
            assert_eq!(version(release), want, "{release}");
        }
    }

    #[test]
    fn this_machine_has_every_operation() {
        assert_eq!(try_ring(), Ok(Vec::new()));
    }
}
