//! The serial: the number by which DNS secondaries know whether they hold what is published.
//!
//! Owns: that it never goes back, and that no two contents are given out under one number. Does not
//! own: what counts as a change (`publication`), and the records that carry it (`dns`).
//!
//! A replica's serials are its own: another one sees the same changes at other moments.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use rollcall_model::lease::Wall;

/// Seconds of wall time since 1970, or more where contents changed faster than that after they had
/// been given out. Secondaries compare what is shown of it, 32 bits, by RFC 1982.
///
/// Seconds and whether they were given out are one atomic, so one order holds for all that happens
/// to it. A publication inserts its views and then moves the serial; a transfer takes the serial and
/// then reads views. If the move comes first, the transfer reads the new views, under the new serial.
/// If the transfer comes first, the move finds its serial given out and goes beyond it: whatever the
/// transfer reads, old, new or some of both, is not under the newest serial, and is fetched again.
/// Of changes that nobody fetched in between, several may share a serial: only the last content can
/// be given out under it.
#[derive(Debug, Default)]
pub(super) struct Serial(AtomicU64);

/// The lowest bit: given out.
const GIVEN: u64 = 1;

impl Serial {
    /// Something that readers see has changed, and can be seen.
    pub(super) fn advance(&self, wall: Wall) {
        let seconds = u64::try_from(wall.0.div_euclid(1000)).unwrap_or(0);
        let next = |last: u64| {
            let beyond = (last >> 1) + (last & GIVEN);
            Some(seconds.max(beyond) << 1)
        };
        let _ = self.0.fetch_update(SeqCst, SeqCst, next);
    }

    /// As it is.
    pub(super) fn get(&self) -> u32 {
        shown(self.0.load(SeqCst))
    }

    /// As it is, for content that is read only after this: the next change will have another.
    pub(super) fn give(&self) -> u32 {
        shown(self.0.fetch_or(GIVEN, SeqCst))
    }
}

fn shown(state: u64) -> u32 {
    u32::try_from((state >> 1) % (1 << 32)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: fn(i64) -> Wall = |seconds| Wall(seconds * 1000 + 999);

    #[test]
    fn it_is_the_second_of_the_last_change() {
        let serial = Serial::default();
        serial.advance(AT(1_700_000_000));
        assert_eq!(
            (serial.get(), serial.give(), serial.get()),
            (1_700_000_000, 1_700_000_000, 1_700_000_000)
        );
        serial.advance(AT(1_700_000_007));
        assert_eq!(serial.get(), 1_700_000_007);
    }

    #[test]
    fn a_change_in_the_same_second_moves_it_only_after_it_was_given_out() {
        let serial = Serial::default();
        serial.advance(AT(100));
        serial.advance(AT(100));
        assert_eq!(serial.get(), 100, "nobody holds the content before");
        assert_eq!((serial.give(), serial.give()), (100, 100), "twice the same content");
        serial.advance(AT(100));
        assert_eq!(serial.get(), 101);
        serial.advance(AT(100));
        assert_eq!(serial.give(), 101);
        serial.advance(AT(100));
        serial.advance(AT(101));
        assert_eq!(serial.get(), 102);
        serial.advance(AT(103));
        assert_eq!(serial.get(), 103, "the clock has caught up");
    }

    #[test]
    fn a_wall_clock_that_goes_back_does_not_take_it_along() {
        let serial = Serial::default();
        serial.advance(AT(100));
        serial.advance(AT(40));
        assert_eq!(serial.give(), 100);
        serial.advance(AT(40));
        assert_eq!(serial.get(), 101);
        serial.advance(Wall(-5));
        assert_eq!(serial.get(), 101);
    }

    #[test]
    fn after_the_last_number_comes_the_first() {
        let serial = Serial::default();
        serial.advance(AT((1 << 32) - 1));
        assert_eq!(serial.give(), u32::MAX);
        serial.advance(AT(7));
        assert_eq!(serial.give(), 0);
    }

    /// One step of a publisher or of a transfer; each of these is one access to what they share.
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
        /// A publisher and a transfer, interleaved in any way: whatever was fetched under the serial
        /// that stands when the publisher rests is what is published.
        #[test]
        fn nobody_holds_old_content_under_the_newest_serial(steps in steps()) {
            let serial = Serial::default();
            let (mut content, mut inserted, mut second) = (0u32, false, 0);
            let (mut given, mut fetched) = (None, Vec::new());
            for step in steps {
                let before = serial.get();
                match step {
                    // Twice in a row: one publication of two services.
                    Step::Insert => (content, inserted) = (content + 1, true),
                    Step::Advance(later) if inserted => {
                        second += later;
                        serial.advance(AT(second));
                        inserted = false;
                    }
                    Step::Give => given = Some(serial.give()),
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
