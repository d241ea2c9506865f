//! The keys of the cluster, and authentication of tokens with them, without a call to the API server for each token.
//!
//! ```text
//! KeyReader (task) ── every 5 minutes ──▶ API server       Keyring (each request)
//!        ▲                 │ issuer and keys                  │ a token
//!        │                 ▼                                  ▼
//!        └── a read request ◀── unknown issuer or key ◀── check with the keys read last
//! ```
//!
//! Owns: when the keys are read, how often untrusted tokens can cause a read, and that while reads fail, the keys
//! read last stay valid. Does not own: the requests to the API server (`issuer`), the checks of a token (`jwt`).

use std::{sync::Arc, time::Duration};

use kube::Client;
use rollcall_model::lease::Moment;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::clock;
use crate::kubernetes::{
    breaker::Breaker,
    failure::Failure,
    review::{
        issuer::{Issuer, Published},
        jwt::{Token, TokenError},
        subject::TokenSubject,
    },
};
use crate::telemetry::{
    keys::{Cause, KeyMetrics},
    metrics::ApiMetrics,
};

/// Between two reads: a key that the cluster withdraws is accepted for at most this long.
const READ_EVERY: Duration = Duration::from_secs(300);

/// The pause after a read that failed.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Between two reads for tokens with an unknown key. Any caller can make up such a token. On the other hand, a newly
/// published key is unknown for at most this long.
const READ_FOR_UNKNOWN_EVERY: Duration = Duration::from_secs(10);

/// The queue of read requests: one read serves all waiting callers, so a capacity of one is enough.
const REQUEST_QUEUE: usize = 1;

/// The result of the reads so far.
#[derive(Clone, Default)]
struct KeyState {
    /// The issuer and keys read last.
    published: Option<Arc<Published>>,
    /// Why the newest read failed, if it did.
    failure: Option<Failure>,
    /// No read for an unknown key begins before this moment.
    next_read_for_unknown: Moment,
}

/// Authenticates tokens with the keys. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    known: watch::Receiver<KeyState>,
    requests: mpsc::Sender<()>,
}

/// The task that reads the keys.
pub struct KeyReader {
    issuer: Issuer,
    known: watch::Sender<KeyState>,
    requests: mpsc::Receiver<()>,
    metrics: KeyMetrics,
}

impl Keyring {
    /// A keyring without keys, and the task that reads them with `client`.
    #[must_use]
    pub fn new(
        client: Client,
        metrics: &ApiMetrics,
        breaker: &Breaker,
        keys: KeyMetrics,
    ) -> (Self, KeyReader) {
        let (sender, known) = watch::channel(KeyState::default());
        let (requests, requested) = mpsc::channel(REQUEST_QUEUE);
        let issuer = Issuer::new(client, metrics, breaker);
        let reader = KeyReader { issuer, known: sender, requests: requested, metrics: keys };
        (Self { known, requests }, reader)
    }

    /// The subject of a token, or why the token is invalid.
    ///
    /// # Errors
    /// When the result depends on keys that could not be read in time.
    pub async fn authenticate(
        &self,
        token: &str,
        within: Duration,
    ) -> Result<Result<TokenSubject, String>, Failure> {
        let token = match Token::decode(token) {
            Ok(token) => token,
            Err(why) => return Ok(Err(why)),
        };
        let mut changes = self.known.clone();
        let known = changes.borrow_and_update().clone();
        match known.check(&token) {
            Some(Ok(subject)) => return Ok(Ok(subject)),
            Some(Err(TokenError::Invalid(why))) => return Ok(Err(why)),
            Some(Err(TokenError::UnknownKey(_))) | None => {}
        }
        // When the queue is full, the read that is already requested serves this caller, too.
        let _ = self.requests.try_send(());
        let may_read = clock::moment() >= known.next_read_for_unknown;
        if may_read && timeout(within, changes.changed()).await.is_err() {
            return Err(Failure::Unavailable(
                "the keys of the cluster were not read in time".to_owned(),
            ));
        }
        let known = changes.borrow().clone();
        match (known.check(&token), known.failure) {
            (Some(Ok(subject)), _) => Ok(Ok(subject)),
            (Some(Err(TokenError::Invalid(why))), _)
            | (Some(Err(TokenError::UnknownKey(why))), None) => Ok(Err(why)),
            // The token may be signed with a key that could not be read.
            (_, Some(failure)) => Err(failure),
            (None, None) => Err(Failure::Unavailable(
                "the keys of the cluster have not been read yet".to_owned(),
            )),
        }
    }
}

impl KeyState {
    /// Checks a token with the keys read last; `None` before the first successful read.
    fn check(&self, token: &Token<'_>) -> Option<Result<TokenSubject, TokenError>> {
        Some(token.authenticate(self.published.as_deref()?, clock::wall()))
    }
}

impl KeyReader {
    /// Reads the keys forever. Each request has a deadline.
    pub async fn run(mut self) {
        let mut cause = Cause::Due;
        loop {
            let answer = self.issuer.read().await;
            let pause = if answer.is_ok() { READ_EVERY } else { RETRY_AFTER };
            self.metrics.read(cause, answer.is_ok());
            // Callers that requested a read during this one receive its result. If a token's key is still unknown then,
            // its caller requests another read.
            while self.requests.try_recv().is_ok() {}
            self.publish(cause, answer);
            cause = self.next(pause).await;
        }
    }

    /// Waits until the next read is due or requested, and returns which.
    async fn next(&mut self, pause: Duration) -> Cause {
        let next_read_for_unknown = self.known.borrow().next_read_for_unknown;
        let requests = &mut self.requests;
        let request = async move {
            sleep(next_read_for_unknown.since(clock::moment())).await;
            requests.recv().await
        };
        tokio::select! {
            () = sleep(pause) => Cause::Due,
            Some(()) = request => Cause::Unknown,
        }
    }

    fn publish(&self, cause: Cause, answer: Result<(Published, Vec<String>), Failure>) {
        let mut known = self.known.borrow().clone();
        if cause == Cause::Unknown {
            known.next_read_for_unknown = clock::moment().after(READ_FOR_UNKNOWN_EVERY);
        }
        match answer {
            Ok((published, unused)) => {
                if known.failure.take().is_some() {
                    info!("the keys of the cluster can be read again");
                }
                if known.published.as_deref() != Some(&published) {
                    log_keys(&published, &unused);
                }
                self.metrics.known(published.keys.len(), clock::wall().0);
                known.published = Some(Arc::new(published));
            }
            Err(failure) => {
                if known.failure.is_none() {
                    let known =
                        known.published.as_ref().map_or(0, |published| published.keys.len());
                    warn!(
                        why = %failure,
                        known,
                        "cannot read the keys of the cluster; tokens signed with a known key are accepted, \
                         all others are answered 503"
                    );
                }
                known.failure = Some(failure);
            }
        }
        self.known.send_replace(known);
    }
}

fn log_keys(published: &Published, unused: &[String]) {
    let Published { issuer, keys } = published;
    info!(%issuer, ?keys, "tokens are now checked with these keys of the cluster");
    for why in unused {
        warn!(
            why,
            "rollcall cannot use one of the cluster's keys, and refuses tokens signed with it; \
             --auth-tokens review accepts them"
        );
    }
}
