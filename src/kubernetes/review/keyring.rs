//! The keys of the cluster as they are known here, and tokens that are checked with them: no question a token.
//!
//! ```text
//! KeyReader (task) ── every 5 minutes ──▶ API server       Keyring (each call)
//!        ▲                 │ what is published                │ a token
//!        │                 ▼                                  ▼
//!        └── a wish ◀── a key or an issuer that is not known ◀── checked with what is known last
//! ```
//!
//! Owns: when the API server is asked, how often strangers can bring that about, and what counts while it
//! cannot be asked: what is known last. Does not own: the questions (`issuer`), the checks (`jwt`).

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
        jwt::{Refusal, Token},
        whose::Whose,
    },
};
use crate::telemetry::{
    keys::{Cause, KeyMetrics},
    metrics::ApiMetrics,
};

/// How old the keys get: one that is withdrawn is believed no longer than this.
const EVERY: Duration = Duration::from_secs(300);

/// When they could not be read.
const RETRY: Duration = Duration::from_secs(10);

/// Between two reads for tokens whose key is not known. Anybody can make up such a token; a new key that
/// was published meanwhile is known after this.
const HEED_EVERY: Duration = Duration::from_secs(10);

/// Wishes that wait: one read fulfils all of them.
const WISHES: usize = 1;

/// What is known.
#[derive(Clone, Default)]
struct Known {
    /// What was read last.
    published: Option<Arc<Published>>,
    /// Why the newest attempt to read failed, if it did.
    failure: Option<Failure>,
    /// No read for an unknown key begins before.
    heeds_from: Moment,
}

/// Checks tokens. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    known: watch::Receiver<Known>,
    wishes: mpsc::Sender<()>,
}

/// The task that reads the keys.
pub struct KeyReader {
    issuer: Issuer,
    known: watch::Sender<Known>,
    wishes: mpsc::Receiver<()>,
    metrics: KeyMetrics,
}

impl Keyring {
    /// An empty one, and the task that fills it; `client` is used for questions only.
    #[must_use]
    pub fn new(
        client: Client,
        metrics: &ApiMetrics,
        breaker: &Breaker,
        keys: KeyMetrics,
    ) -> (Self, KeyReader) {
        let (sender, known) = watch::channel(Known::default());
        let (wishes, wished) = mpsc::channel(WISHES);
        let issuer = Issuer::new(client, metrics, breaker);
        let reader = KeyReader { issuer, known: sender, wishes: wished, metrics: keys };
        (Self { known, wishes }, reader)
    }

    /// Whose token it is; or why it is nobody's, or not for us.
    ///
    /// # Errors
    /// When that depends on keys that could not be read in time.
    pub async fn whose(
        &self,
        token: &str,
        within: Duration,
    ) -> Result<Result<Whose, String>, Failure> {
        let token = match Token::read(token) {
            Ok(token) => token,
            Err(why) => return Ok(Err(why)),
        };
        let mut news = self.known.clone();
        let known = news.borrow_and_update().clone();
        match known.check(&token) {
            Some(Ok(whose)) => return Ok(Ok(whose)),
            Some(Err(Refusal::Bad(why))) => return Ok(Err(why)),
            Some(Err(Refusal::Unknown(_))) | None => {}
        }
        // Where one waits already, its read is ours, too.
        let _ = self.wishes.try_send(());
        let heeded = clock::moment() >= known.heeds_from;
        if heeded && timeout(within, news.changed()).await.is_err() {
            return Err(Failure::Away("the keys of the cluster were not read in time".to_owned()));
        }
        let known = news.borrow().clone();
        match (known.check(&token), known.failure) {
            (Some(Ok(whose)), _) => Ok(Ok(whose)),
            (Some(Err(Refusal::Bad(why))), _) | (Some(Err(Refusal::Unknown(why))), None) => {
                Ok(Err(why))
            }
            // It may be signed with a key that could not be read.
            (_, Some(failure)) => Err(failure),
            (None, None) => Err(Failure::Away("the keys of the cluster are not read".to_owned())),
        }
    }
}

impl Known {
    /// None while nothing is known.
    fn check(&self, token: &Token<'_>) -> Option<Result<Whose, Refusal>> {
        Some(token.whose(self.published.as_deref()?, clock::wall()))
    }
}

impl KeyReader {
    /// Reads for ever. Each question has its deadline.
    pub async fn run(mut self) {
        let mut cause = Cause::Due;
        loop {
            let answer = self.issuer.read().await;
            let pause = if answer.is_ok() { EVERY } else { RETRY };
            self.metrics.read(cause, answer.is_ok());
            // Who wished meanwhile waits for what was just read; whoever sees that wishes for more.
            while self.wishes.try_recv().is_ok() {}
            self.take(cause, answer);
            cause = self.next(pause).await;
        }
    }

    /// Waits until it is time to read again, or somebody wishes it; and says which.
    async fn next(&mut self, pause: Duration) -> Cause {
        let heeds_from = self.known.borrow().heeds_from;
        let wishes = &mut self.wishes;
        let wish = async move {
            sleep(heeds_from.since(clock::moment())).await;
            wishes.recv().await
        };
        tokio::select! {
            () = sleep(pause) => Cause::Due,
            Some(()) = wish => Cause::Unknown,
        }
    }

    fn take(&self, cause: Cause, answer: Result<(Published, Vec<String>), Failure>) {
        let mut known = self.known.borrow().clone();
        if cause == Cause::Unknown {
            known.heeds_from = clock::moment().after(HEED_EVERY);
        }
        match answer {
            Ok((published, unused)) => {
                if known.failure.take().is_some() {
                    info!("the keys of the cluster can be read again");
                }
                if known.published.as_deref() != Some(&published) {
                    tell_of(&published, &unused);
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
                        "cannot read the keys of the cluster; tokens that those known have signed are good, \
                         others cannot be told"
                    );
                }
                known.failure = Some(failure);
            }
        }
        self.known.send_replace(known);
    }
}

fn tell_of(published: &Published, unused: &[String]) {
    let Published { issuer, keys } = published;
    info!(%issuer, ?keys, "these keys of the cluster are known now");
    for why in unused {
        warn!(
            why,
            "a key of the cluster cannot be used, and who has a token that it signed is refused; with \
             --auth-tokens review they are not"
        );
    }
}
