//! What the kernel can do, each feature tried; the system's name; marks of containers.

use super::{File, SystemInfo};
use crate::io::{Address, Fd};
use crate::sys::{probe, scm, socket};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Something that an engine needs of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Which.
    pub name: &'static str,
    /// Whether it worked when it was tried.
    pub available: bool,
    /// Why it is so, as the operator reads it.
    pub reason: String,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

pub(super) fn try_all() -> Vec<Feature> {
    let ring = probe::check(0).map(|_| ()).map_err(|error| error.to_string());
    vec![
        feature(SystemInfo::IO_URING, ring),
        feature(SystemInfo::REUSE_PORT, try_reuse_port()),
        feature(SystemInfo::FD_PASSING, try_fd_passing()),
    ]
}

fn feature(name: &'static str, tried: Result<(), String>) -> Feature {
    let available = tried.is_ok();
    Feature { name, available, reason: tried.err().unwrap_or_else(|| "it works".to_owned()) }
}

fn try_reuse_port() -> Result<(), String> {
    let options =
        socket::Options { backlog: 1, reuse_port: true, defer_accept: Default::default() };
    let address = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    socket::listen(&address, options).map(socket::close).map_err(|failed| failed.to_string())
}

/// Passes a descriptor to itself.
fn try_fd_passing() -> Result<(), String> {
    let failed = |errno: crate::io::Errno| errno.to_string();
    let (one, other) = socket::seqpacket_pair().map_err(failed)?;
    let sent = scm::send_message(&one, b"?", &[&one]);
    let came = sent.and_then(|_| scm::receive_message(&other, 1)).map_err(failed);
    let ends: [Fd; 2] = [one, other];
    ends.into_iter().for_each(socket::close);
    let fds = came?.fds;
    let count = fds.len();
    fds.into_iter().for_each(socket::close);
    if count == 1 { Ok(()) } else { Err(format!("{count} descriptors came where one was sent")) }
}

/// The name in os-release(5). Pure: files come through `file`.
pub(super) fn os(file: File<'_>) -> Option<String> {
    let text =
        file(Path::new("/etc/os-release")).or_else(|| file(Path::new("/usr/lib/os-release")))?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let name = line.trim_ascii().trim_matches(|quote| quote == '"' || quote == '\'');
    (!name.is_empty()).then(|| name.to_owned())
}

/// Marks that container runtimes leave: the environment, files, or the name of the cgroup. Pure.
pub(super) fn container(file: File<'_>, kubernetes: bool) -> Option<&'static str> {
    let exists = |path: &str| file(Path::new(path)).is_some();
    let cgroup = file(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let in_cgroup = |mark: &str| cgroup.contains(mark);
    if kubernetes || in_cgroup("/kubepods") {
        return Some("kubernetes");
    }
    if exists("/run/.containerenv") || in_cgroup("/libpod-") {
        return Some("podman");
    }
    if exists("/.dockerenv") || in_cgroup("/docker/") || in_cgroup("/docker-") {
        return Some("docker");
    }
    if in_cgroup("/lxc/") || in_cgroup("/lxc.payload") {
        return Some("lxc");
    }
    // What systemd found when it booted inside (Container Interface of systemd).
    match file(Path::new("/run/systemd/container"))?.trim_ascii() {
        "docker" => Some("docker"),
        "podman" => Some("podman"),
        "lxc" | "lxc-libvirt" => Some("lxc"),
        "systemd-nspawn" => Some("systemd-nspawn"),
        _ => Some("container"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::tests::machine;

    #[track_caller]
    fn check(files: &[(&str, &str)], want: Option<&str>) {
        assert_eq!(container(&machine(files), false), want, "{files:?}");
    }

    #[test]
    fn containers_leave_marks() {
        const CGROUP: &str = "/proc/self/cgroup";
        check(&[], None);
        check(&[(CGROUP, "0::/user.slice/user-1000.slice/session-3.scope\n")], None);
        check(&[("/.dockerenv", "")], Some("docker"));
        check(&[(CGROUP, "4:cpu,cpuacct:/docker/0a1b\n")], Some("docker"));
        check(&[(CGROUP, "0::/system.slice/docker-0a1b.scope\n")], Some("docker"));
        check(&[("/run/.containerenv", "engine=\"podman-4.9.3\"\n")], Some("podman"));
        check(&[(CGROUP, "0::/machine.slice/libpod-0a1b.scope/container\n")], Some("podman"));
        check(&[(CGROUP, "11:memory:/kubepods/burstable/pod1/0a1b\n")], Some("kubernetes"));
        check(&[(CGROUP, "0::/kubepods.slice/kubepods-pod1.slice/x\n")], Some("kubernetes"));
        check(&[(CGROUP, "2:cpu:/lxc/web\n")], Some("lxc"));
        check(&[(CGROUP, "0::/lxc.payload.web\n")], Some("lxc"));
        check(&[("/run/systemd/container", "systemd-nspawn\n")], Some("systemd-nspawn"));
        check(&[("/run/systemd/container", "wsl\n")], Some("container"));
        let docker = [("/.dockerenv", "")];
        assert_eq!(container(&machine(&docker), true), Some("kubernetes"));
    }

    #[test]
    fn the_system_has_a_name() {
        let debian = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\n";
        let name = |files: &[(&str, &str)]| os(&machine(files));
        let debian_name = Some("Debian GNU/Linux 12 (bookworm)".to_owned());
        assert_eq!(name(&[("/etc/os-release", debian)]), debian_name);
        assert_eq!(name(&[("/usr/lib/os-release", "PRETTY_NAME='Void'\n")]), Some("Void".into()));
        assert_eq!(name(&[("/etc/os-release", "NAME=Void\n")]), None);
        assert_eq!(name(&[]), None);
    }

    #[test]
    fn a_feature_says_why() {
        let features = try_all();
        let names: Vec<&str> = features.iter().map(|feature| feature.name).collect();
        assert_eq!(names, ["io_uring", "reuse_port", "fd_passing"]);
        for feature in features {
            assert_eq!(feature.available, feature.reason == "it works", "{feature}");
        }
        let refused = feature("x", Err("EPERM".to_owned()));
        assert_eq!(refused.to_string(), "x: EPERM");
    }
}
