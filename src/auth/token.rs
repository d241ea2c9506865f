//! When a token ends, as it says itself.
//!
//! Read only from tokens that the API server has just called good, so nothing is verified here. Source:
//! RFC 7519 §4.1.4.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rollcall_model::lease::Wall;
use serde::Deserialize;

/// How long a token is believed to run that does not say when it ends: as long as those of pods do by
/// default.
const UNTOLD: Duration = Duration::from_secs(3600);

#[derive(Deserialize)]
struct Claims {
    /// Seconds since the Unix epoch.
    exp: i64,
}

/// How long it still runs.
pub(super) fn left(token: &str, now: Wall) -> Duration {
    let Some(end) = end(token) else { return UNTOLD };
    let left = end.saturating_mul(1000).saturating_sub(now.0);
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

fn end(token: &str) -> Option<i64> {
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
    fn a_token_runs_as_long_as_it_says_and_an_hour_when_it_does_not() {
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
            assert_eq!(left(&token, now), Duration::from_secs(seconds), "{token}");
        }
    }
}
