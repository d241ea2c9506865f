//! Extended DNS errors: the reason for an answer, in addition to its code (RFC 8914).

use std::borrow::Cow;

/// An extended error: an INFO-CODE for programs, and a text that `dig` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ede {
    /// INFO-CODE.
    pub code: u16,
    /// EXTRA-TEXT.
    pub text: Cow<'static, str>,
}

impl Ede {
    const fn new(code: u16, text: &'static str) -> Self {
        Self { code, text: Cow::Borrowed(text) }
    }

    /// 0: the reason why an answer is empty.
    #[must_use]
    pub fn empty(reason: String) -> Self {
        Self { code: 0, text: Cow::Owned(reason) }
    }

    /// 3: the horizon is more than 15 s old, so this replica ends no lease.
    pub const STALE: Self = Self::new(3, "no lease ends for now: see standstill in /v1/cluster");

    /// 3: no instance is discoverable, so the answer contains the last discoverable instances (`--dns-empty last`).
    #[must_use]
    pub fn last_known(reason: &str) -> Self {
        Self { code: 3, text: Cow::Owned(format!("{reason}; these are the last instances known")) }
    }

    /// 14: this replica has not received the first list of instances.
    pub const NOT_READY: Self = Self::new(14, "this server has not listed the instances yet");

    /// 18: `--dns-allow` does not contain the client.
    pub const PROHIBITED: Self =
        Self::new(18, "your address may not query this server (--dns-allow)");

    /// 18: `--dns-transfer` does not contain the client.
    pub const NO_TRANSFER: Self =
        Self::new(18, "your address may not transfer this zone (--dns-transfer)");

    /// 20: the name is outside the zones of this server, or in a namespace that it does not serve.
    pub const NOT_AUTHORITATIVE: Self = Self::new(20, "this server does not answer for this name");

    /// 21: an opcode or a kind of transfer that is not implemented.
    pub const NOT_SUPPORTED: Self =
        Self::new(21, "this server does not support this kind of query");
}
