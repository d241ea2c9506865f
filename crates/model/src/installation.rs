//! Installations: which rollcall has written something, where two of them look after the same objects.
//!
//! Owns: the name of an installation, as it is written, and which of two is the older one. An installation is known by the
//! Lease object of its election, which all its replicas share: by when that was created, and its uid. Does not own: what
//! two installations do about each other (`rollcall-core`).

use std::{fmt, sync::Arc};

use crate::lease::Wall;

/// An installation. Of two, the older one is the lesser: the text begins with the time of creation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Installation(Arc<str>);

/// The shape of the time: each `0` stands for a digit.
const TIME: &[u8] = b"0000-00-00T00:00:00.000Z";

/// The longest uid: that of a UUID.
const UID: usize = 36;

impl Installation {
    /// The installation whose Lease was created then, with this uid; none where they cannot be written.
    #[must_use]
    pub fn new(created: Wall, uid: &str) -> Option<Self> {
        Self::parse(&format!("{created} {uid}").into())
    }

    /// As it is written: `2026-12-01T08:10:23.000Z 6f1c9a0e-…`; none for any other text.
    #[must_use]
    pub fn parse(text: &Arc<str>) -> Option<Self> {
        let (time, rest) = text.as_bytes().split_at_checked(TIME.len())?;
        let (space, uid) = rest.split_first()?;
        let fits = |(byte, shape): (&u8, &u8)| match shape {
            b'0' => byte.is_ascii_digit(),
            shape => byte == shape,
        };
        let is_of_uid = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let is_uid = (1..=UID).contains(&uid.len()) && uid.iter().all(is_of_uid);
        (time.iter().zip(TIME).all(fits) && *space == b' ' && is_uid).then(|| Self(text.clone()))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6f1c9a0e-0000-4000-8000-000000000001";

    #[test]
    fn an_installation_is_read_as_it_is_written_and_nothing_else_is_one() {
        let one = Installation::new(Wall(0), UUID).unwrap();
        assert_eq!(one.as_str(), format!("1970-01-01T00:00:00.000Z {UUID}"));
        let parse = |text: &str| Installation::parse(&text.into());
        assert_eq!(parse(one.as_str()).as_ref(), Some(&one));
        for text in ["", "soon", "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z ", UUID] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(Installation::new(Wall(0), "ü"), None);
        assert_eq!(Installation::new(Wall(0), &"a".repeat(37)), None);
        assert_eq!(parse(&format!("1970-01-01t00:00:00.000Z {UUID}")), None);
    }

    #[test]
    fn the_older_installation_is_the_lesser_and_of_two_as_old_that_of_the_lesser_uid() {
        let of = |millis, uid| Installation::new(Wall(millis), uid).unwrap();
        assert!(of(999_000, "f") < of(1_000_000, "a"));
        assert!(of(1_000_000, "a") < of(1_000_000, "b"));
    }
}
