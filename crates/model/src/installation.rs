//! Installations: which installation of rollcall has written an object, if several manage the same
//! objects.
//!
//! Owns: the name of an installation, and which of two is the older one. An installation is identified by the
//! Lease object of its election, which all its replicas share: by the creation time and the uid. Does not
//! own: how two installations behave towards each other (`rollcall-core`).

use std::{fmt, sync::Arc};

use crate::lease::Wall;

/// The name of an installation. Older installations sort first, because the text begins with the creation
/// time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Installation(Arc<str>);

/// The format of the time: each `0` stands for a digit.
const TIME: &[u8] = b"0000-00-00T00:00:00.000Z";

/// The length of the longest uid, which is a UUID.
const UID: usize = 36;

impl Installation {
    /// The installation whose Lease was created at this time with this uid; `None` if they do not have the
    /// written form.
    #[must_use]
    pub fn new(created: Wall, uid: &str) -> Option<Self> {
        Self::parse(&format!("{created} {uid}").into())
    }

    /// Parses the written form, `2026-12-01T08:10:23.000Z 6f1c9a0e-…`; `None` for any other text.
    #[must_use]
    pub fn parse(text: &Arc<str>) -> Option<Self> {
        let (time, rest) = text.as_bytes().split_at_checked(TIME.len())?;
        let (space, uid) = rest.split_first()?;
        let fits = |(byte, shape): (&u8, &u8)| match shape {
            b'0' => byte.is_ascii_digit(),
            shape => byte == shape,
        };
        let is_uid_byte = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
        let is_uid = (1..=UID).contains(&uid.len()) && uid.iter().all(is_uid_byte);
        (time.iter().zip(TIME).all(fits) && *space == b' ' && is_uid).then(|| Self(text.clone()))
    }

    /// The written form.
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
    fn installation_name_survives_formatting_and_parsing() {
        let installation = Installation::new(Wall(0), UUID).unwrap();
        assert_eq!(installation.as_str(), format!("1970-01-01T00:00:00.000Z {UUID}"));
        let parse = |text: &str| Installation::parse(&text.into());
        assert_eq!(parse(installation.as_str()).as_ref(), Some(&installation));
        for text in ["", "soon", "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z ", UUID] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(Installation::new(Wall(0), "ü"), None);
        assert_eq!(Installation::new(Wall(0), &"a".repeat(37)), None);
        assert_eq!(parse(&format!("1970-01-01t00:00:00.000Z {UUID}")), None);
    }

    #[test]
    fn older_installation_sorts_first_then_smaller_uid() {
        let created = |millis, uid| Installation::new(Wall(millis), uid).unwrap();
        assert!(created(999_000, "f") < created(1_000_000, "a"));
        assert!(created(1_000_000, "a") < created(1_000_000, "b"));
    }
}
