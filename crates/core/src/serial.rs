//! The zone serial: the number by which DNS secondaries recognise whether their copy is current.
//!
//! Owns: that the serial never goes back, and that no two different contents are given out under the same
//! serial. Does not own: what counts as a change (`publication`), and the records that carry the serial
//! (`dns`).
//!
//! Each replica has its own serials, because each replica receives the same changes at a different time.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use rollcall_model::lease::Wall;

/// Seconds of wall time since 1970, or a higher number if content that was given out changed more than
/// once a second. Secondaries compare the lower 32 bits by RFC 1982.
///
/// The seconds and the flag "given out" share one atomic, so all accesses have one order. A publication
/// inserts its views and then advances the serial; a transfer takes the serial and then reads views. If
/// the publication advances first, the transfer reads the new views under the new serial. If the transfer
/// comes first, the publication finds that the serial was given out and chooses a higher one. Then
/// whatever the transfer reads (old content, new content or a mix) does not carry the newest serial, so
/// the secondary fetches again. Several changes that no secondary fetched in between can share a serial:
/// only the last content can be given out under it.
#[derive(Debug, Default)]
pub(super) struct Serial(AtomicU64);

/// The lowest bit: this serial was given out.
const GIVEN_OUT: u64 = 1;

impl Serial {
    /// Something that readers see has changed, and the change is published.
    pub(super) fn advance(&self, wall: Wall) {
        let seconds = u64::try_from(wall.0.div_euclid(1000)).unwrap_or(0);
        let next = |last: u64| {
            let beyond = (last >> 1) + (last & GIVEN_OUT);
            Some(seconds.max(beyond) << 1)
        };
        let _ = self.0.fetch_update(SeqCst, SeqCst, next);
    }

    pub(super) fn get(&self) -> u32 {
        lower_32_bits(self.0.load(SeqCst))
    }

    /// Gives the serial out for content that is read after this call: the next change will have another
    /// serial.
    pub(super) fn give_out(&self) -> u32 {
        lower_32_bits(self.0.fetch_or(GIVEN_OUT, SeqCst))
    }
}

fn lower_32_bits(state: u64) -> u32 {
    u32::try_from((state >> 1) % (1 << 32)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: fn(i64) -> Wall = |seconds| Wall(seconds * 1000 + 999);

    #[test]
    fn serial_is_the_second_of_the_last_change() {
        let serial = Serial::default();
        serial.advance(AT(1_700_000_000));
        assert_eq!(
            (serial.get(), serial.give_out(), serial.get()),
            (1_700_000_000, 1_700_000_000, 1_700_000_000)
        );
        serial.advance(AT(1_700_000_007));
        assert_eq!(serial.get(), 1_700_000_007);
    }

    #[test]
    fn change_in_the_same_second_advances_only_a_given_out_serial() {
        let serial = Serial::default();
        serial.advance(AT(100));
        serial.advance(AT(100));
        assert_eq!(serial.get(), 100, "no secondary has the earlier content");
        assert_eq!((serial.give_out(), serial.give_out()), (100, 100), "the same content twice");
        serial.advance(AT(100));
        assert_eq!(serial.get(), 101);
        serial.advance(AT(100));
        assert_eq!(serial.give_out(), 101);
        serial.advance(AT(100));
        serial.advance(AT(101));
        assert_eq!(serial.get(), 102);
        serial.advance(AT(103));
        assert_eq!(serial.get(), 103, "the clock has caught up");
    }

    #[test]
    fn serial_never_follows_a_wall_clock_back() {
        let serial = Serial::default();
        serial.advance(AT(100));
        serial.advance(AT(40));
        assert_eq!(serial.give_out(), 100);
        serial.advance(AT(40));
        assert_eq!(serial.get(), 101);
        serial.advance(Wall(-5));
        assert_eq!(serial.get(), 101);
    }

    #[test]
    fn serial_wraps_around_at_32_bits() {
        let serial = Serial::default();
        serial.advance(AT((1 << 32) - 1));
        assert_eq!(serial.give_out(), u32::MAX);
        serial.advance(AT(7));
        assert_eq!(serial.give_out(), 0);
    }

    /// One step of a publisher or of a transfer: one access to their shared state.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert,
        Advance(i64),
        Give,
        Read,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Insert),
            (0..4i64).prop_map(Step::Advance),
            Just(Step::Give),
            Just(Step::Read),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// A publisher and a transfer, interleaved in any order: content that was fetched under the newest
        /// serial is the published content whenever the publisher is idle.
        #[test]
        fn no_secondary_has_old_content_under_the_newest_serial(steps in steps()) {
            let serial = Serial::default();
            let (mut content, mut inserted, mut second) = (0u32, false, 0);
            let (mut given, mut fetched) = (None, Vec::new());
            for step in steps {
                let before = serial.get();
                match step {
                    // Two in a row are one publication of two services.
                    Step::Insert => (content, inserted) = (content + 1, true),
                    Step::Advance(later) if inserted => {
                        second += later;
                        serial.advance(AT(second));
                        inserted = false;
                    }
                    Step::Give => given = Some(serial.give_out()),
                    Step::Read => fetched.extend(given.take().map(|serial| (serial, content))),
                    Step::Advance(_) => {}
                }
                prop_assert!(serial.get() >= before);
                let newest = fetched.iter().filter(|(under, _)| *under == serial.get());
                for (_, held) in newest.filter(|_| !inserted) {
                    prop_assert_eq!(*held, content);
                }
            }
        }
    }
}
