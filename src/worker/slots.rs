//! Connections by slot and generation: a key of an earlier use of a slot finds nothing. Pure.

use crate::io::{Kind, Token};
use slab::Slab;

/// One use of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Which slot.
    pub slot: u32,
    /// Which use of it.
    pub generation: u32,
}

impl Key {
    /// The token of one of its operations.
    #[must_use]
    pub fn token(self, kind: Kind) -> Token {
        Token::new(kind, self.slot, self.generation)
    }
}

impl From<Token> for Key {
    fn from(token: Token) -> Self {
        Self { slot: token.slot, generation: token.generation }
    }
}

/// A slab whose generations live outside of it, so that they survive a slot's reuse.
#[derive(Debug)]
pub struct Slots<T> {
    slab: Slab<T>,
    generations: Vec<u32>,
}

impl<T> Slots<T> {
    /// Room for `capacity` entries is reserved now; more is allowed.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { slab: Slab::with_capacity(capacity), generations: Vec::with_capacity(capacity) }
    }

    /// Puts a value into a free slot.
    pub fn insert(&mut self, value: T) -> Key {
        let index = self.slab.insert(value);
        if index == self.generations.len() {
            self.generations.push(0);
        }
        let slot = u32::try_from(index).unwrap_or(u32::MAX);
        Key { slot, generation: self.generations[index] }
    }

    /// The value, if the key is of the present use.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let index = key.slot as usize;
        if self.generations.get(index) != Some(&key.generation) {
            return None;
        }
        self.slab.get_mut(index)
    }

    /// The value, if the key is of the present use.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        let index = key.slot as usize;
        if self.generations.get(index) != Some(&key.generation) {
            return None;
        }
        self.slab.get(index)
    }

    /// Takes the value out; the key and all its copies find nothing from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let index = key.slot as usize;
        self.generations[index] = self.generations[index].wrapping_add(1);
        Some(self.slab.remove(index))
    }

    /// How many are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether none is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The keys in use, in the order of their slots.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let key = |(index, _)| Key {
            slot: u32::try_from(index).unwrap_or(u32::MAX),
            generation: self.generations[index],
        };
        self.slab.iter().map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_of_an_earlier_use_finds_nothing() {
        let mut slots = Slots::with_capacity(1);
        let old = slots.insert('a');
        assert_eq!(slots.remove(old), Some('a'));
        let new = slots.insert('b');
        assert_eq!(new.slot, old.slot);
        assert_eq!(slots.get(old), None);
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.get_mut(new), Some(&mut 'b'));
    }

    proptest! {
        #[test]
        fn only_live_keys_find_their_own(
            ops in prop::collection::vec((any::<bool>(), 0usize..8), 0..200)
        ) {
            let mut slots = Slots::with_capacity(4);
            let (mut live, mut dead) = (Vec::new(), Vec::new());
            for (count, (insert, which)) in ops.into_iter().enumerate() {
                if insert || live.is_empty() {
                    live.push((slots.insert(count), count));
                } else {
                    let (key, value) = live.swap_remove(which % live.len());
                    prop_assert_eq!(slots.remove(key), Some(value));
                    dead.push(key);
                }
                prop_assert!(dead.iter().all(|key| slots.get(*key).is_none()));
                prop_assert!(live.iter().all(|(key, value)| slots.get(*key) == Some(value)));
                prop_assert_eq!(slots.len(), live.len());
                prop_assert_eq!(slots.keys().len(), live.len());
            }
        }
    }
}
