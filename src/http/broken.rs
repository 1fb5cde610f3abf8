//! Sound input with a few changes, for properties of both parsers. Only for tests.

use proptest::prelude::*;

/// Cuts `skip` bytes out at a place and puts one of `breaks`, or a byte, in.
pub(super) fn broken(
    sound: &'static [&'static str],
    breaks: &'static [&'static str],
) -> impl Strategy<Value = Vec<u8>> {
    let what = prop_oneof![
        prop::sample::select(breaks).prop_map(|text| text.as_bytes().to_vec()),
        any::<u8>().prop_map(|byte| vec![byte]),
        Just(Vec::new()),
    ];
    let change = (any::<prop::sample::Index>(), 0..3_usize, what);
    (prop::sample::select(sound), prop::collection::vec(change, 0..4)).prop_map(
        |(sound, changes)| {
            let mut bytes = sound.as_bytes().to_vec();
            for (place, skip, what) in changes {
                let at = place.index(bytes.len() + 1);
                let end = (at + skip).min(bytes.len());
                bytes.splice(at..end, what);
            }
            bytes
        },
    )
}
