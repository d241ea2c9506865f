//! The expiry time in a token.
//!
//! It is read only from tokens that have been authenticated, so nothing is verified here. Source:
//! RFC 7519 §4.1.4.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rollcall_model::lease::Wall;
use serde::Deserialize;

/// The assumed lifetime of a token without an expiry time: the default lifetime of pods' tokens.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
struct Claims {
    /// Seconds since the Unix epoch.
    exp: i64,
}

/// How long the token is still valid.
pub(super) fn remaining_lifetime(token: &str, now: Wall) -> Duration {
    let Some(expiry) = expiry(token) else { return DEFAULT_LIFETIME };
    let left = expiry.saturating_mul(1000).saturating_sub(now.0);
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

fn expiry(token: &str) -> Option<i64> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    Some(serde_json::from_slice::<Claims>(&payload).ok()?.exp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        format!("head.{}.signature", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn lifetime_is_read_from_the_token_or_else_an_hour() {
        let now = Wall(1_000_000);
        for (token, seconds) in [
            (token(r#"{"exp": 1060, "aud": ["rollcall"]}"#), 60),
            (token(r#"{"exp": 900}"#), 0),
            (token(r#"{"exp": -9223372036854775808}"#), 0),
            (token(r#"{"aud": "x"}"#), 3600),
            (token("no JSON"), 3600),
            ("opaque".to_owned(), 3600),
            ("a.~~~.b".to_owned(), 3600),
        ] {
            assert_eq!(remaining_lifetime(&token, now), Duration::from_secs(seconds), "{token}");
        }
    }
}
