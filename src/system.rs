//! What this machine offers: CPUs (affinity and cgroup quota), system, container, kernel features.

mod features;

use crate::sys::process;
pub use features::Feature;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What was found, and why it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemInfo {
    /// How many CPUs this process may use.
    pub cpus: Cpus,
    /// What the system calls itself, such as `Debian GNU/Linux 12 (bookworm)`; else `Linux`.
    pub os: String,
    /// The release of the running kernel, such as `6.18.44`; empty if it can't be read.
    pub kernel_release: String,
    /// What it was built for: `x86_64` or `aarch64`.
    pub architecture: &'static str,
    /// What kind of container this looks like: `docker`, `podman`, `kubernetes`, `lxc`,
    /// `systemd-nspawn` or just `container`. A hint for error messages and the banner, no proof.
    pub container: Option<&'static str>,
    /// What of the kernel an engine needs, each tried: [`SystemInfo::IO_URING`] and others.
    pub features: Vec<Feature>,
}

/// What was found last. The machine does not change, but for its limits: those hold for who starts
/// now.
static CACHE: Mutex<Option<SystemInfo>> = Mutex::new(None);

impl SystemInfo {
    /// A ring with all operations we use.
    pub const IO_URING: &'static str = "io_uring";
    /// Several listeners of one address, which shared-socket mode needs.
    pub const REUSE_PORT: &'static str = "reuse_port";
    /// Descriptors over Unix sockets, which centralized mode needs.
    pub const FD_PASSING: &'static str = "fd_passing";

    /// What the first call in this process found. `fallback_cpus`: how many to assume when they
    /// can't be counted; 4 is what the configuration assumes.
    #[must_use]
    pub fn get(fallback_cpus: u32) -> Self {
        let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut info = cache.get_or_insert_with(|| Self::read(fallback_cpus)).clone();
        if info.cpus.reason == CpuReason::Fallback {
            info.cpus.usable = fallback_cpus.max(1);
        }
        info
    }

    /// The next [`SystemInfo::get`] looks again.
    pub fn reset_cache() {
        *CACHE.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Looks now, whatever is known.
    #[must_use]
    pub fn read(fallback_cpus: u32) -> Self {
        let file = |path: &Path| std::fs::read_to_string(path).ok();
        Self {
            cpus: cpus(process::affinity(), &file, fallback_cpus),
            os: features::os(&file).unwrap_or_else(|| "Linux".to_owned()),
            kernel_release: kernel_release(),
            architecture: std::env::consts::ARCH,
            container: features::container(
                &file,
                std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            ),
            features: features::try_all(),
        }
    }

    /// Whether this looks like a container.
    #[must_use]
    pub fn is_container(&self) -> bool {
        self.container.is_some()
    }

    /// Whether descriptors can be passed to other processes (SCM_RIGHTS).
    #[must_use]
    pub fn supports_fd_passing(&self) -> bool {
        self.supports(Self::FD_PASSING)
    }

    /// Whether several sockets can listen on one address (SO_REUSEPORT).
    #[must_use]
    pub fn supports_reuse_port(&self) -> bool {
        self.supports(Self::REUSE_PORT)
    }

    fn supports(&self, name: &str) -> bool {
        self.features.iter().any(|feature| feature.name == name && feature.available)
    }
}

/// The release of the running kernel; empty if it can't be read.
#[must_use]
pub fn kernel_release() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim_ascii().to_owned()
}

/// How many CPUs this process may use. `Display` says why that many: `2 of 8 CPUs, cgroup quota of
/// 1.50`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// At least 1.
    pub usable: u32,
    /// How many the machine has switched on; `None` if that can't be read.
    pub online: Option<u32>,
    /// What decided.
    pub reason: CpuReason,
}

/// What decided how many CPUs are usable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuReason {
    /// Nothing limits: all that are online.
    All,
    /// The affinity mask (sched_setaffinity(2), taskset, cpuset) is smaller.
    Affinity,
    /// A cgroup's quota is smaller still; rounded up.
    Quota(Quota),
    /// They can't be counted; so many were assumed.
    Fallback,
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { usable, online, reason } = self;
        write!(f, "{usable}")?;
        if let Some(online) = online {
            write!(f, " of {online}")?;
        }
        f.write_str(if online.unwrap_or(*usable) == 1 { " CPU, " } else { " CPUs, " })?;
        match reason {
            CpuReason::All => f.write_str("no cgroup limit"),
            CpuReason::Affinity => f.write_str("by affinity"),
            CpuReason::Quota(quota) => write!(f, "cgroup quota of {quota}"),
            CpuReason::Fallback => f.write_str("assumed: they can't be counted"),
        }
    }
}

/// CPU time that a cgroup may use in each period; both in microseconds. `Display` in CPUs: `1.50`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    time: u64,
    period: u64,
}

impl Quota {
    fn new(time: u64, period: u64) -> Option<Self> {
        (time > 0 && period > 0).then_some(Self { time, period })
    }

    /// In CPUs, rounded up: half a CPU still needs a worker.
    fn cpus(self) -> u32 {
        u32::try_from(self.time.div_ceil(self.period)).unwrap_or(u32::MAX)
    }

    fn is_less_than(self, other: Self) -> bool {
        let product = |time, period| u128::from(time) * u128::from(period);
        product(self.time, other.period) < product(other.time, self.period)
    }
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = u128::from(self.time) * 100 / u128::from(self.period);
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// Reads a file whole; `None` if it can't.
type File<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// The least of affinity and quota. Pure: files come through `file`.
fn cpus(affinity: Option<u32>, file: File<'_>, fallback: u32) -> Cpus {
    let online = file(Path::new("/sys/devices/system/cpu/online")).and_then(|text| count(&text));
    let (mut usable, mut reason) = match (affinity.or(online), online) {
        (Some(usable), Some(online)) if usable < online => (usable, CpuReason::Affinity),
        (Some(usable), _) => (usable, CpuReason::All),
        (None, _) => (fallback, CpuReason::Fallback),
    };
    if let Some(quota) = quota(file)
        && quota.cpus() < usable
    {
        (usable, reason) = (quota.cpus(), CpuReason::Quota(quota));
    }
    Cpus { usable: usable.max(1), online, reason }
}

/// How many numbers a list such as `0-3,8` has (cpuset(7), "List format").
fn count(list: &str) -> Option<u32> {
    let mut total = 0_u32;
    for range in list.trim_ascii().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        total = total.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(total)
}

/// The smallest quota of this process's cgroup and all above it: each of them limits.
fn quota(file: File<'_>) -> Option<Quota> {
    let cgroup = file(Path::new("/proc/self/cgroup"))?;
    let mounts = file(Path::new("/proc/self/mountinfo"))?;
    let unified = folders(&cgroup, &mounts, Version::Two)
        .into_iter()
        .filter_map(|folder| quota_v2(&file(&folder.join("cpu.max"))?));
    let legacy = folders(&cgroup, &mounts, Version::One).into_iter().filter_map(|folder| {
        let time = file(&folder.join("cpu.cfs_quota_us"))?;
        quota_v1(&time, &file(&folder.join("cpu.cfs_period_us"))?)
    });
    unified.chain(legacy).reduce(|a, b| if b.is_less_than(a) { b } else { a })
}

/// `max 100000`, or time and period. `None`: no limit.
fn quota_v2(text: &str) -> Option<Quota> {
    let (time, period) = text.trim_ascii().split_once(' ')?;
    Quota::new(time.parse().ok()?, period.parse().ok()?)
}

/// Time -1: no limit.
fn quota_v1(time: &str, period: &str) -> Option<Quota> {
    Quota::new(time.trim_ascii().parse().ok()?, period.trim_ascii().parse().ok()?)
}

/// Of cgroups (cgroups(7)). A machine may have both; the cpu controller is in one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The folder of this process's cgroup, and those above it as far as they are visible here.
///
/// `cgroup` is /proc/self/cgroup, `mounts` is /proc/self/mountinfo (proc(5)). In a container
/// without a cgroup namespace the path is the host's, and the mount's root is what to take off it.
fn folders(cgroup: &str, mounts: &str, version: Version) -> Vec<PathBuf> {
    let Some(path) = cgroup_path(cgroup, version) else { return Vec::new() };
    let Some((root, mount)) = mounts.lines().find_map(|line| cgroup_mount(line, version)) else {
        return Vec::new();
    };
    let below = Path::new(path).strip_prefix(root).unwrap_or_else(|_| Path::new(""));
    let folder = Path::new(mount).join(below);
    folder.ancestors().take_while(|f| f.starts_with(mount)).map(Path::to_owned).collect()
}

/// From lines such as `4:cpu,cpuacct:/user.slice` and `0::/user.slice`.
fn cgroup_path(cgroup: &str, version: Version) -> Option<&str> {
    cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match version {
            Version::One => controllers.split(',').any(|controller| controller == "cpu"),
            Version::Two => number == "0" && controllers.is_empty(),
        };
        found.then_some(path)
    })
}

/// Root and mount point, from a line such as
/// `32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu`.
fn cgroup_mount(line: &str, version: Version) -> Option<(&str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, mount) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let (kind, options) = (right.next()?, right.next_back()?);
    let found = match version {
        Version::One => kind == "cgroup" && options.split(',').any(|option| option == "cpu"),
        Version::Two => kind == "cgroup2",
    };
    found.then_some((root, mount))
}

#[cfg(test)]
mod tests;
