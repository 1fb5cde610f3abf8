//! CPU time, context switches and memory of threads and of whole process trees, out of /proc.

use crate::sys::process;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// What was used so far, or between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// On a CPU.
    pub cpu: Duration,
    /// Ready to run, while something else was on the CPU.
    pub wait: Duration,
    /// It gave the CPU up.
    pub switches_voluntary: u64,
    /// It was taken away.
    pub switches_involuntary: u64,
    /// Resident memory, in bytes, at the later look; shared pages count in parts, if the kernel
    /// tells (PSS).
    pub memory_bytes: u64,
    /// How many processes, at the later look.
    pub processes: u32,
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            wait: self.wait.saturating_sub(before.wait),
            switches_voluntary: self.switches_voluntary.saturating_sub(before.switches_voluntary),
            switches_involuntary: self
                .switches_involuntary
                .saturating_sub(before.switches_involuntary),
            memory_bytes: self.memory_bytes,
            processes: self.processes,
        }
    }
}

impl Usage {
    /// How much of one CPU this was, over so much time.
    #[must_use]
    pub fn cores(&self, time: Duration) -> f64 {
        self.cpu.as_secs_f64() / time.as_secs_f64().max(1e-9)
    }

    /// Both together, of different threads or processes.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            wait: self.wait + other.wait,
            switches_voluntary: self.switches_voluntary + other.switches_voluntary,
            switches_involuntary: self.switches_involuntary + other.switches_involuntary,
            memory_bytes: self.memory_bytes + other.memory_bytes,
            processes: self.processes + other.processes,
        }
    }

    /// Of the calling thread; no memory.
    #[must_use]
    pub fn of_thread() -> Self {
        thread("/proc/thread-self")
    }

    /// Resident memory of this process, in bytes.
    #[must_use]
    pub fn own_memory() -> u64 {
        memory(std::process::id())
    }
}

/// The threads of a process and of all below it, one by one: so that what has ended in between
/// takes nothing away from the others.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    threads: BTreeMap<u32, Usage>,
    processes: BTreeMap<u32, Spent>,
}

/// CPU time of one process.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    /// Of all its threads, ended ones too.
    own: Duration,
    /// Of its children that have ended, and of theirs.
    ended: Duration,
}

impl Tree {
    /// Looks at a process and all below it; `None`: there is no such process.
    #[must_use]
    pub fn look(root: u32) -> Option<Self> {
        let processes = tree(root);
        (!processes.is_empty()).then(|| Self::of(processes))
    }

    /// Looks at this process alone.
    #[must_use]
    pub fn own() -> Self {
        Self::of(vec![std::process::id()])
    }

    fn of(processes: Vec<u32>) -> Self {
        let threads = processes.iter().flat_map(|pid| {
            let folder = format!("/proc/{pid}/task");
            numbers(&folder).map(move |id| (id, thread(&format!("{folder}/{id}"))))
        });
        let spent = processes.iter().map(|pid| (*pid, spent(*pid)));
        Self { threads: threads.collect(), processes: spent.collect() }
    }

    /// What they used since then: CPU time also of threads and children that have ended; of the
    /// rest, what such used is lost.
    #[must_use]
    pub fn since(&self, before: &Self) -> Usage {
        let used =
            |(id, now): (&u32, &Usage)| *now - before.threads.get(id).copied().unwrap_or_default();
        let used = self.threads.iter().map(used).fold(Usage::default(), Usage::plus);
        let processes = u32::try_from(self.processes.len()).unwrap_or(u32::MAX);
        Usage { cpu: self.cpu_since(before), processes, ..used }
    }

    /// A child that has ended brings its parent all it ever used: what it had used before counts
    /// not.
    fn cpu_since(&self, before: &Self) -> Duration {
        let (mut used, mut ended) = (Duration::ZERO, Duration::ZERO);
        for (pid, now) in &self.processes {
            let then = before.processes.get(pid).copied().unwrap_or_default();
            used += now.own.saturating_sub(then.own);
            ended += now.ended.saturating_sub(then.ended);
        }
        let gone = before.processes.iter().filter(|(pid, _)| !self.processes.contains_key(pid));
        let known = gone.map(|(_, then)| then.own + then.ended).sum();
        used + ended.saturating_sub(known)
    }

    /// Resident memory of all, in bytes. Costs more than a look.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.processes.keys().map(|pid| memory(*pid)).sum()
    }
}

/// The process and all below it.
fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = numbers("/proc")
        .filter_map(|pid| Some((pid, parent(&read(&format!("/proc/{pid}/stat"))?)?)))
        .collect();
    if !parents.iter().any(|(pid, _)| *pid == root) {
        return Vec::new();
    }
    let (mut tree, mut at) = (vec![root], 0);
    while let Some(above) = tree.get(at).copied() {
        tree.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        at += 1;
    }
    tree
}

fn spent(pid: u32) -> Spent {
    let stat = read(&format!("/proc/{pid}/stat")).unwrap_or_default();
    Spent {
        own: process::cpu_time(pid).unwrap_or_default(),
        ended: children(&stat).unwrap_or_default(),
    }
}

fn thread(folder: &str) -> Usage {
    let status = read(&format!("{folder}/status")).unwrap_or_default();
    let (cpu, wait) =
        read(&format!("{folder}/schedstat")).and_then(|text| schedstat(&text)).unwrap_or_default();
    Usage {
        cpu,
        wait,
        switches_voluntary: field(&status, "voluntary_ctxt_switches:").unwrap_or(0),
        switches_involuntary: field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0),
        ..Usage::default()
    }
}

/// Its share of what it shares, where the kernel tells us; else all that is resident.
fn memory(pid: u32) -> u64 {
    let kib = |path: &str, name| field(&read(&format!("/proc/{pid}/{path}"))?, name);
    1024 * kib("smaps_rollup", "Pss:").or_else(|| kib("status", "VmRSS:")).unwrap_or(0)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn numbers(folder: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The parent, out of /proc/PID/stat: the second field behind the name, which may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// CPU time of children that were waited for: `cutime` and `cstime`, in ticks of 10 ms.
fn children(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(10)))
}

/// On a CPU and waiting for one, in nanoseconds (Documentation/scheduler/sched-stats.rst).
fn schedstat(text: &str) -> Option<(Duration, Duration)> {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    Some((Duration::from_nanos(numbers.next()??), Duration::from_nanos(numbers.next()??)))
}

/// The number behind a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_is_read() {
        assert_eq!(parent("7 (a b) c) S 3 7 7 0"), Some(3));
        assert_eq!(parent("nonsense"), None);
        // proc_pid_stat(5): utime, stime, cutime and cstime are fields 14 to 17.
        let stat = "7 (a b) c) S 3 7 7 0 -1 0 0 0 0 0 1 2 30 4 20 0";
        assert_eq!(children(stat), Some(Duration::from_millis(340)));
        assert_eq!(children("7 (x) S 3"), None);
        let (cpu, wait) = (Duration::from_nanos(12), Duration::from_nanos(34));
        assert_eq!(schedstat("12 34 5\n"), Some((cpu, wait)));
        assert_eq!(schedstat("12"), None);
        let status = "Name:\tx\nnonvoluntary_ctxt_switches:\t5\nVmRSS:\t  12 kB\n";
        assert_eq!(field(status, "VmRSS:"), Some(12));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), None);
    }

    #[test]
    fn what_ended_children_used_counts_once() {
        let millis = Duration::from_millis;
        let tree = |processes: &[(u32, u64, u64)]| Tree {
            threads: BTreeMap::new(),
            processes: processes
                .iter()
                .map(|(pid, own, ended)| (*pid, Spent { own: millis(*own), ended: millis(*ended) }))
                .collect(),
        };
        let before = tree(&[(1, 100, 10), (2, 500, 0), (3, 70, 0)]);
        // 2 used 20 more and ended; 4 came, used 30 and lives; 3 ended and nobody waited for it.
        let after = tree(&[(1, 105, 10 + 520 + 70), (4, 30, 0)]);
        assert_eq!(after.since(&before).cpu, millis(5 + 20 + 30));
        // Who ignores SIGCHLD is told nothing.
        let after = tree(&[(1, 105, 10)]);
        assert_eq!(after.since(&before).cpu, millis(5));
    }

    #[test]
    fn a_thread_that_works_uses_cpu_and_its_tree_contains_it() {
        let before = Usage::of_thread();
        let tree_before = Tree::look(std::process::id()).unwrap();
        let mut sum = 0_u64;
        let mut used = Usage::default();
        // Until the kernel has accounted for it, however slow the machine is.
        while used.cpu < Duration::from_millis(20) {
            (0..100_000_u64).for_each(|number| sum = std::hint::black_box(sum ^ number));
            used = Usage::of_thread() - before;
        }
        let tree = Tree::look(std::process::id()).unwrap();
        let used = tree.since(&tree_before);
        assert!(used.cpu >= Duration::from_millis(10) && used.processes >= 1, "{used:?}");
        assert!(tree.memory_bytes() > 1 << 18, "{tree:?}");
        assert!(Tree::look(u32::MAX).is_none());
    }
}
