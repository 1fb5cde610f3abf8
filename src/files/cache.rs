//! Small files in memory, the least recently used of them dropped first. Pure.

use crate::io::Instant;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A file as it was read.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) etag: String,
    /// Seconds since 1970.
    pub(super) modified: u64,
    pub(super) bytes: Arc<[u8]>,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    max: usize,
    bytes: usize,
    uses: u64,
    entries: BTreeMap<Vec<u8>, Entry>,
    /// Paths by their last use.
    order: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    used: u64,
    read: Instant,
}

impl Cache {
    /// Of so many bytes, 0 for none; each file counts with what is kept beside it.
    pub(super) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    /// Whether a file of this length is kept.
    pub(super) const fn takes(&self, len: u64) -> bool {
        len <= FILE_MAX && self.max as u64 >= len + OVERHEAD as u64
    }

    /// A file that was read less than [`FRESH`] ago.
    pub(super) fn get(&mut self, path: &[u8], now: Instant) -> Option<Kept> {
        let entry = self.entries.get_mut(path)?;
        if now.since(entry.read) >= FRESH {
            return None;
        }
        self.order.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.order.insert(self.uses, path.to_vec());
        Some(entry.kept.clone())
    }

    /// Keeps a file, in the place of an earlier one of the same path.
    pub(super) fn put(&mut self, path: Vec<u8>, kept: Kept, now: Instant) {
        self.remove(&path);
        self.uses += 1;
        self.bytes += size(&path, &kept);
        self.order.insert(self.uses, path.clone());
        self.entries.insert(path, Entry { kept, used: self.uses, read: now });
        while self.bytes > self.max {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, path: &[u8]) {
        if let Some(entry) = self.entries.remove(path) {
            self.order.remove(&entry.used);
            self.bytes -= size(path, &entry.kept);
        }
    }
}

fn size(path: &[u8], kept: &Kept) -> usize {
    kept.bytes.len() + 2 * path.len() + OVERHEAD
}

/// A larger file is always sent from the disk.
const FILE_MAX: u64 = 256 << 10;
/// What an entry costs beside its bytes and its path, about.
const OVERHEAD: usize = 256;
/// How long a file is not looked at again: a change shows after that.
const FRESH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(bytes: usize) -> Kept {
        Kept { etag: String::new(), modified: 0, bytes: vec![0; bytes].into() }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let now = Instant::default();
        let mut cache = Cache::new(3 * (OVERHEAD + 100));
        for name in [b"a", b"b", b"c"] {
            cache.put(name.to_vec(), kept(90), now);
        }
        assert!(cache.get(b"a", now).is_some());
        cache.put(b"d".to_vec(), kept(90), now);
        let has = |cache: &mut Cache, name: &[u8]| cache.get(name, now).is_some();
        assert!(!has(&mut cache, b"b"));
        assert!(has(&mut cache, b"a") && has(&mut cache, b"c") && has(&mut cache, b"d"));
        assert!(cache.get(b"a", now.after(FRESH)).is_none(), "it may have changed");
        assert!(!Cache::new(0).takes(0) && cache.takes(90) && !cache.takes(FILE_MAX + 1));
    }

    proptest! {
        #[test]
        fn never_more_than_allowed(steps in prop::collection::vec((0_u8..9, 0_usize..900), 0..99)) {
            let mut cache = Cache::new(2000);
            for (name, bytes) in steps {
                cache.put(vec![name], kept(bytes), Instant::default());
                let sum: usize = cache.entries.iter().map(|(p, e)| size(p, &e.kept)).sum();
                prop_assert!(cache.bytes <= 2000);
                prop_assert_eq!(cache.bytes, sum);
                prop_assert_eq!(cache.order.len(), cache.entries.len());
            }
        }
    }
}
