//! What a process may do: its user and groups, no_new_privs, umask, its CPUs.

use super::errno::{Failed, last_number, step};
use crate::io::Fd;
use std::ffi::CString;

/// Who a worker is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub user: u32,
    /// Primary group.
    pub group: u32,
    /// All groups.
    pub groups: Vec<u32>,
}

/// The identity of a user and, if one is given, of another group. Both by name or number; a number
/// need not be in the user database. Without a user it is the present one, in another group.
///
/// # Errors
///
/// `ENOENT`: no such user or group.
pub fn identity(user: Option<&str>, group: Option<&str>) -> Result<Identity, Failed> {
    let (uid, own_group, name) = match user {
        Some(user) => find_user(user)?,
        // SAFETY: no pointers.
        None => (unsafe { libc::geteuid() }, None, None),
    };
    let gid = match (group, own_group) {
        (Some(group), _) => find_group(group)?,
        (None, Some(own)) => own,
        // A number without an entry: the group of the same number.
        (None, None) => uid,
    };
    let groups = match (name, group) {
        (Some(name), None) => groups_of(&name, gid),
        _ => vec![gid],
    };
    Ok(Identity { user: uid, group: gid, groups })
}

const NO_USER: Failed = Failed { step: "find the user", number: libc::ENOENT };
const NO_GROUP: Failed = Failed { step: "find the group", number: libc::ENOENT };
/// Bytes for an entry of the databases; a larger one is refused.
const ENTRY_MAX: usize = 64 << 10;
/// Groups of one user (NGROUPS_MAX of Linux).
const GROUPS_MAX: usize = 65_536;

/// Number, primary group and name; the last two if it has an entry.
fn find_user(text: &str) -> Result<(u32, Option<u32>, Option<CString>), Failed> {
    if let Some(number) = number(text) {
        return Ok((number, None, None));
    }
    let name = CString::new(text).map_err(|_| NO_USER)?;
    let mut buffer = vec![0; ENTRY_MAX];
    // SAFETY: integers and pointers, for which zero is a value.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: a zero-terminated name; the entry points into the buffer, which outlives it.
    let answer = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            &raw mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    match answer {
        0 if found.is_null() => Err(NO_USER),
        0 => Ok((entry.pw_uid, Some(entry.pw_gid), Some(name))),
        number => Err(Failed { number, ..NO_USER }),
    }
}

fn find_group(text: &str) -> Result<u32, Failed> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    let name = CString::new(text).map_err(|_| NO_GROUP)?;
    let mut buffer = vec![0; ENTRY_MAX];
    // SAFETY: integers and pointers, for which zero is a value.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: a zero-terminated name; the entry points into the buffer, which outlives it.
    let answer = unsafe {
        libc::getgrnam_r(
            name.as_ptr(),
            &raw mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    match answer {
        0 if found.is_null() => Err(NO_GROUP),
        0 => Ok(entry.gr_gid),
        number => Err(Failed { number, ..NO_GROUP }),
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    // The last number means "no change" to the system calls below.
    text.parse().ok().filter(|number| digits && *number < u32::MAX)
}

fn groups_of(name: &CString, primary: u32) -> Vec<u32> {
    let mut groups = vec![0; 64];
    loop {
        let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
        // SAFETY: a zero-terminated name; fills at most `count` numbers.
        let answer = unsafe {
            libc::getgrouplist(name.as_ptr(), primary, groups.as_mut_ptr(), &raw mut count)
        };
        let found = usize::try_from(count).unwrap_or(0);
        if answer != -1 {
            groups.truncate(found);
            return groups;
        }
        if groups.len() >= GROUPS_MAX {
            return vec![primary];
        }
        groups.resize((groups.len() * 2).max(found), 0);
    }
}

/// Whether this process may become somebody else: it is root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: no pointers.
    unsafe { libc::geteuid() == 0 }
}

/// The user that this process acts as.
#[must_use]
pub fn user() -> u32 {
    // SAFETY: no pointers.
    unsafe { libc::geteuid() }
}

/// Which user was at the other end of a Unix socket when it connected (SO_PEERCRED); `None`:
/// another kind of socket.
#[must_use]
pub fn peer_user(fd: &Fd) -> Option<u32> {
    let mut who = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: fills at most `length` bytes of a local of its type.
    let answer = unsafe {
        libc::getsockopt(
            fd.raw(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &raw mut length,
        )
    };
    // A socket that is none of a Unix pair answers with nobody.
    (answer == 0 && who.uid != u32::MAX).then_some(who.uid)
}

/// Becomes somebody, for good: groups first, while it is still allowed, then the primary group,
/// then the user; real, effective and saved. Then proves it: a process that could become root again
/// is refused.
///
/// The process must have one thread: the kernel changes the calling one, and libc asks the others.
///
/// # Errors
///
/// Not allowed, or (`EPERM`, "verify") it could be undone.
pub fn become_somebody(identity: &Identity) -> Result<(), Failed> {
    let Identity { user, group, groups } = identity;
    // SAFETY: reads as many numbers as the slice has.
    step("setgroups", unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    // SAFETY: no pointers.
    step("setresgid", unsafe { libc::setresgid(*group, *group, *group) })?;
    // SAFETY: no pointers.
    step("setresuid", unsafe { libc::setresuid(*user, *user, *user) })?;
    verify(identity)
}

fn verify(identity: &Identity) -> Result<(), Failed> {
    let undone = Failed { step: "verify that privileges are gone", number: libc::EPERM };
    let mut ids = [0; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: fills three locals.
    step("getresuid", unsafe { libc::getresuid(real, effective, saved) })?;
    let users_are = ids == [identity.user; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: fills three locals.
    step("getresgid", unsafe { libc::getresgid(real, effective, saved) })?;
    let groups_are = ids == [identity.group; 3];
    // SAFETY: no pointers. It must fail.
    let regained = identity.user != 0 && unsafe { libc::setresuid(0, 0, 0) } == 0;
    // SAFETY: no pointers. It must fail, too.
    let regained = regained
        || (identity.user != 0 && identity.group != 0 && unsafe { libc::setresgid(0, 0, 0) } == 0);
    if users_are && groups_are && !regained { Ok(()) } else { Err(undone) }
}

/// From now on no program that this process runs gains privileges (prctl(2)).
///
/// # Errors
///
/// None that is known.
pub fn no_new_privs() -> Result<(), Failed> {
    // SAFETY: no pointers.
    step("PR_SET_NO_NEW_PRIVS", unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    Ok(())
}

/// Sets which permissions new files do not get; answers the mask before.
pub fn umask(mask: u32) -> u32 {
    // SAFETY: no pointers.
    unsafe { libc::umask(mask) }
}

/// The CPUs that this process may run on, in order (sched_getaffinity(2)).
///
/// # Errors
///
/// A seccomp filter blocks the question, or there are more than 8,192.
pub fn cpus() -> Result<Vec<u32>, Failed> {
    let mut mask = [0_u64; 128];
    // SAFETY: fills at most as many bytes as the array has; any multiple of a word is allowed.
    step("sched_getaffinity", unsafe {
        libc::sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr().cast())
    })?;
    let has = |cpu: &u32| mask[*cpu as usize / 64] >> (cpu % 64) & 1 == 1;
    Ok((0..u64::BITS * 128).filter(has).collect())
}

/// This process stays on one CPU.
///
/// # Errors
///
/// There is no such CPU.
pub fn pin(cpu: u32) -> Result<(), Failed> {
    let mut mask = [0_u64; 128];
    let word = mask.get_mut(cpu as usize / 64);
    *word.ok_or(Failed { step: "sched_setaffinity", number: libc::EINVAL })? = 1 << (cpu % 64);
    // SAFETY: reads as many bytes as the array has.
    let answer = unsafe { libc::sched_setaffinity(0, size_of_val(&mask), mask.as_ptr().cast()) };
    if answer == -1 {
        return Err(Failed { step: "sched_setaffinity", number: last_number() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(user: Option<&str>, group: Option<&str>, want: Option<(u32, u32, &[u32])>) {
        let got = identity(user, group).ok();
        let got = got.as_ref().map(|who| (who.user, who.group, who.groups.as_slice()));
        assert_eq!(got, want, "{user:?} {group:?}");
    }

    #[test]
    fn names_and_numbers_become_identities() {
        check(Some("root"), Some("0"), Some((0, 0, &[0])));
        check(Some("12345"), None, Some((12345, 12345, &[12345])));
        check(Some("12345"), Some("54321"), Some((12345, 54321, &[54321])));
        check(None, Some("54321"), Some((user(), 54321, &[54321])));
        check(Some("no such user here"), None, None);
        check(Some("0"), Some("no such group here"), None);
        check(Some("4294967295"), None, None);
        check(Some("a\0b"), None, None);
        assert!(identity(Some("root"), None).unwrap().groups.contains(&0));
    }

    #[test]
    fn the_cpus_of_this_process_are_as_many_as_counted() {
        let count = super::super::process::affinity().unwrap();
        assert_eq!(u32::try_from(cpus().unwrap().len()), Ok(count));
        assert!(pin(u32::MAX).is_err());
    }
}
