//! What an answer says beside its code (RFC 8914).

use std::borrow::Cow;

/// An extended error: a number for programs, and a few words for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ede {
    /// Its number.
    pub code: u16,
    /// A few words.
    pub text: Cow<'static, str>,
}

impl Ede {
    const fn new(code: u16, text: &'static str) -> Self {
        Self { code, text: Cow::Borrowed(text) }
    }

    /// 0: why an answer is empty.
    #[must_use]
    pub fn empty(why: String) -> Self {
        Self { code: 0, text: Cow::Owned(why) }
    }

    /// 3: nothing new has been seen for so long that nobody is judged any more.
    pub const STALE: Self = Self::new(3, "no news from the Kubernetes API");

    /// 3: those who were lost are answered, since nobody else is there (`--dns-empty last`).
    #[must_use]
    pub fn last_known(why: &str) -> Self {
        Self { code: 3, text: Cow::Owned(format!("{why}; these were lost last")) }
    }

    /// 14: the first list has not been taken in.
    pub const NOT_READY: Self = Self::new(14, "not yet in sync with the Kubernetes API");

    /// 18: not one of those who may ask.
    pub const PROHIBITED: Self = Self::new(18, "not an address that may ask this server");

    /// 18: not one of those who may have the whole zone.
    pub const NO_TRANSFER: Self = Self::new(18, "not an address that may transfer this zone");

    /// 20: not our zone.
    pub const NOT_AUTHORITATIVE: Self = Self::new(20, "not a zone of this server");

    /// 21: no other class, opcode, or transfer.
    pub const NOT_SUPPORTED: Self = Self::new(21, "not a query that this server answers");
}
