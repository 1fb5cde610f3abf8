//! What the kernel says of this process's control group (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};

/// How many processes of this one's control group, and of those below it, the kernel has killed
/// ever for want of memory: of the group or of the machine. `None`: it does not say.
#[must_use]
pub fn oom_kills() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    oom_kills_of(&groups, Path::new("/sys/fs/cgroup"))
}

/// `groups`: /proc/self/cgroup; `root`: where control groups are mounted.
fn oom_kills_of(groups: &str, root: &Path) -> Option<u64> {
    files_of(groups, root).iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
        line.trim().parse().ok()
    })
}

/// Where the count may be, best first. Inside a container the group's own folder is the root.
fn files_of(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            files.extend([root.join(path), root.to_owned()].map(|at| at.join("memory.events")));
        } else if controllers.split(',').any(|name| name == "memory") {
            let root = root.join("memory");
            files.extend([root.join(path), root].map(|at| at.join("memory.oom_control")));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The count, where one file says what it says.
    fn check(groups: &str, file: &str, text: &str, want: Option<u64>) {
        let root = std::env::temp_dir().join(format!("ringfort-cgroup-{}", std::process::id()));
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let found = oom_kills_of(groups, &root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, want, "{groups:?} {file}");
    }

    #[test]
    fn the_count_is_found_in_both_versions_and_in_a_container() {
        let events = "low 0\noom 2\noom_kill 7\noom_group_kill 0\n";
        check("0::/a/b\n", "a/b/memory.events", events, Some(7));
        check("0::/\n", "memory.events", events, Some(7));
        check("0::/outside/of/it\n", "memory.events", events, Some(7));
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let groups = "12:cpu,cpuacct:/x\n5:memory:/x\n0::/\n";
        check(groups, "memory/x/memory.oom_control", control, Some(3));
        check("0::/\n", "memory.events", "low 0\n", None);
        check("nonsense", "memory.events", events, None);
    }
}
