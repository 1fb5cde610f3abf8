//! The clocks of the machine. The only place that reads them.

use crate::io::Instant;

/// CLOCK_MONOTONIC. Answered by the vDSO: no system call.
#[must_use]
pub fn monotonic() -> Instant {
    let (seconds, nanos) = read(libc::CLOCK_MONOTONIC);
    Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Seconds since 1970, from CLOCK_REALTIME_COARSE: as exact as one tick of the kernel, which is
/// enough for a Date header, and cheaper. 0 for a clock set before 1970.
#[must_use]
pub fn unix_time() -> u64 {
    read(libc::CLOCK_REALTIME_COARSE).0
}

/// Seconds since 1970 with their fraction, from CLOCK_REALTIME: the timestamp of a message.
#[must_use]
pub fn unix_seconds() -> f64 {
    let (seconds, nanos) = read(libc::CLOCK_REALTIME);
    #[expect(clippy::cast_precision_loss, reason = "exact to a microsecond, until the year 2255")]
    let time = seconds as f64 + nanos as f64 / 1e9;
    time
}

fn read(clock: libc::clockid_t) -> (u64, u64) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills a local of its type. It can't fail: both clocks exist on every Linux we run on;
    // if it did, the time would stay 0.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_moves_and_never_back() {
        let start = monotonic();
        let mut last = start;
        while last == start {
            let now = monotonic();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn wall_time_is_of_this_century() {
        let year_2024 = 1_704_067_200;
        assert!(unix_time() > year_2024);
        assert!(unix_time() < year_2024 + 76 * 366 * 86_400);
    }
}
