//! CPUs and containers from captured files.

use super::*;
use std::collections::BTreeMap;

/// Captured files: a path, then what is in it.
pub(super) fn machine(files: &[(&str, &str)]) -> impl Fn(&Path) -> Option<String> {
    let files: BTreeMap<PathBuf, String> =
        files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    move |path| files.get(path).cloned()
}

const ONLINE: (&str, &str) = ("/sys/devices/system/cpu/online", "0-7\n");
const CGROUP: &str = "/proc/self/cgroup";
const MOUNTS: &str = "/proc/self/mountinfo";

/// A systemd host with cgroup v2.
const V2_CGROUP: (&str, &str) = (CGROUP, "0::/system.slice/app.service\n");
const V2_MOUNTS: (&str, &str) = (
    MOUNTS,
    "23 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
     30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
);

/// A container without a cgroup namespace on a v1 host: the path is the host's.
const V1_CGROUP: (&str, &str) = (
    CGROUP,
    "12:memory:/docker/0a1b\n4:cpu,cpuacct:/docker/0a1b\n1:name=systemd:/docker/0a1b\n0::/x\n",
);
const V1_MOUNTS: (&str, &str) = (
    MOUNTS,
    "900 899 0:29 /docker/0a1b /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n\
     901 899 0:30 /docker/0a1b /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
);

/// A small virtual machine with both, the cpu controller in v1.
const HYBRID_CGROUP: (&str, &str) = (CGROUP, "2:cpuacct:/\n1:cpu:/\n0::/\n");
const HYBRID_MOUNTS: (&str, &str) = (
    MOUNTS,
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
     41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
);

#[track_caller]
fn check(affinity: impl Into<Option<u32>>, files: &[(&str, &str)], want: &str) {
    assert_eq!(cpus(affinity.into(), &machine(files), 4).to_string(), want);
}

#[test]
fn without_a_limit_all_are_used() {
    check(8, &[ONLINE], "8 of 8 CPUs, no cgroup limit");
    check(8, &[ONLINE, V2_CGROUP, V2_MOUNTS], "8 of 8 CPUs, no cgroup limit");
    check(2, &[ONLINE], "2 of 8 CPUs, by affinity");
    check(2, &[], "2 CPUs, no cgroup limit");
    check(None, &[ONLINE], "8 of 8 CPUs, no cgroup limit");
    check(None, &[], "4 CPUs, assumed: they can't be counted");
    let quota = ("/sys/fs/cgroup/cpu.max", "100000 100000\n");
    check(None, &[V2_CGROUP, V2_MOUNTS, quota], "1 CPU, cgroup quota of 1.00");
}

#[test]
fn the_tightest_quota_from_leaf_to_root_counts_rounded_up() {
    let leaf = |text| ("/sys/fs/cgroup/system.slice/app.service/cpu.max", text);
    let slice = |text| ("/sys/fs/cgroup/system.slice/cpu.max", text);
    let v2 = |leaf, slice| [ONLINE, V2_CGROUP, V2_MOUNTS, leaf, slice];
    let none = "8 of 8 CPUs, no cgroup limit";
    check(8, &v2(leaf("max 100000\n"), slice("max 100000\n")), none);
    check(
        8,
        &v2(leaf("150000 100000\n"), slice("max 100000\n")),
        "2 of 8 CPUs, cgroup quota of 1.50",
    );
    check(8, &v2(leaf("max 100000\n"), slice("5000 10000\n")), "1 of 8 CPUs, cgroup quota of 0.50");
    check(
        8,
        &v2(leaf("300000 100000\n"), slice("20000 10000\n")),
        "2 of 8 CPUs, cgroup quota of 2.00",
    );
    check(2, &v2(leaf("300000 100000\n"), slice("max 10000\n")), "2 of 8 CPUs, by affinity");
    check(8, &v2(leaf("900000 100000\n"), slice("max 10000\n")), none);
    check(8, &v2(leaf("garbage"), slice("0 0")), none);
}

#[test]
fn a_container_without_a_namespace_finds_its_quota_below_the_mount() {
    let quota = |time| {
        let folder = "/sys/fs/cgroup/cpu,cpuacct";
        let (time_file, period_file) =
            (format!("{folder}/cpu.cfs_quota_us"), format!("{folder}/cpu.cfs_period_us"));
        let files = [
            ONLINE,
            V1_CGROUP,
            V1_MOUNTS,
            (time_file.as_str(), time),
            (period_file.as_str(), "100000\n"),
        ];
        cpus(Some(8), &machine(&files), 4).to_string()
    };
    assert_eq!(quota("250000\n"), "3 of 8 CPUs, cgroup quota of 2.50");
    assert_eq!(quota("-1\n"), "8 of 8 CPUs, no cgroup limit");
}

#[test]
fn a_machine_with_both_is_asked_for_both() {
    let period = ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
    let time = ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000");
    check(
        8,
        &[ONLINE, HYBRID_CGROUP, HYBRID_MOUNTS, time, period],
        "1 of 8 CPUs, cgroup quota of 1.00",
    );
}

#[test]
fn lists_are_counted() {
    for (list, want) in [
        ("0\n", Some(1)),
        ("0-1", Some(2)),
        ("0-3,8,10-11", Some(7)),
        ("", None),
        ("3-1", None),
        ("0-4294967295", None),
        ("x", None),
    ] {
        assert_eq!(count(list), want, "{list}");
    }
}

#[test]
fn this_machine_can_be_read() {
    let info = SystemInfo::read(4);
    assert!(info.cpus.usable >= 1);
    assert_ne!(info.cpus.reason, CpuReason::Fallback);
    assert!(!info.kernel_release.is_empty() && !info.os.is_empty());
    assert!(info.supports_fd_passing() && info.supports_reuse_port(), "{:?}", info.features);
    assert_eq!(info.is_container(), info.container.is_some());
}

/// The only test that touches the cache and what is in it.
#[test]
fn what_was_found_is_kept_until_it_is_reset() {
    let marked = SystemInfo { os: "of a test".to_owned(), ..SystemInfo::read(4) };
    *CACHE.lock().unwrap() = Some(marked.clone());
    assert_eq!(SystemInfo::get(4), marked, "not read again");
    let unknown = Cpus { usable: 4, online: None, reason: CpuReason::Fallback };
    *CACHE.lock().unwrap() = Some(SystemInfo { cpus: unknown, ..marked });
    assert_eq!(SystemInfo::get(7).cpus.usable, 7, "each caller has a fallback of its own");
    assert_eq!(SystemInfo::get(0).cpus.usable, 1);
    SystemInfo::reset_cache();
    assert_ne!(SystemInfo::get(4).os, "of a test");
}

/// P20 of the original: its count of CPUs knew affinity, but no quota.
#[test]
fn p20_a_cgroup_quota_limits_the_number_of_workers() {
    let quota = ("/sys/fs/cgroup/system.slice/app.service/cpu.max", "200000 100000\n");
    check(8, &[ONLINE, V2_CGROUP, V2_MOUNTS, quota], "2 of 8 CPUs, cgroup quota of 2.00");
}
