//! The gate: a token and what it is wanted for, in; a caller or a denial, out.
//!
//! Owns: how long answers are good, and the order of questions: whose token (by the API server's word, or by
//! the keys that it publishes), then whether the instance is their own, then whether they may in the whole
//! namespace, then on this one instance. Does not own: the rights (`right`), the calls to the API server
//! (`cluster::review`), and which instance is a pod's own (`own`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rollcall_model::lease::Moment;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::auth::{
    caller::{Asked, AskedRef, Caller, Fingerprint},
    memory::{Answer, Memory, Source},
    metrics::{AuthMetrics, Step},
    own::{self, Owners},
    right::{Right, Wanted},
    token,
};
use crate::clock;
use crate::kubernetes::{
    failure::Failure,
    review::{Ask, Keyring, Pod, Question, Reviews, Whose},
};

/// Tokens kept: 32 octets of fingerprint and some 550 of caller each, 10 MB when all are there. Every
/// pod has its own, so these are sidecars of 16,384 pods.
const TOKENS: usize = 16_384;

/// Decisions kept: a caller is a ServiceAccount, so these are 8,192 pairs of workload and right. 200
/// octets each.
const DECISIONS: usize = 8_192;

/// A token longer than this is none; those of ServiceAccounts have some 1,200 characters.
const MAX_TOKEN: usize = 8 * 1024;

/// A caller stays one for so long without being asked for; a token that is withdrawn (its pod deleted)
/// opens the door no longer than this. Checked with keys it is withdrawn with its key.
const CALLER_FRESH: Duration = Duration::from_secs(120);

/// A right stays one for so long. What a Role takes away is taken away after this.
const YES_FRESH: Duration = Duration::from_secs(30);

/// A no is asked again soon: somebody is just granting the right.
const NO_FRESH: Duration = Duration::from_secs(5);

/// While the API server is away what it said last of a right stays good for so long, a no too: a day,
/// so that the living go on beating through any outage that people would sleep through. The token
/// ends earlier.
const RIGHT_GOOD: Duration = Duration::from_secs(24 * 3600);

/// A question that has no last answer to fall back to.
const ASK_WITHIN: Duration = Duration::from_secs(3);

/// One that has.
const REFRESH_WITHIN: Duration = Duration::from_secs(1);

/// All of them, and the wait for somebody else's.
const ADMIT_WITHIN: Duration = Duration::from_secs(5);

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No token was given.
    NoToken,
    /// It is nobody's, or not made for us; why.
    BadToken(Arc<str>),
    /// They may not.
    Forbidden {
        /// Who.
        user: String,
        /// What.
        right: Right,
        /// Where, if not everywhere.
        namespace: Option<String>,
        /// The pod that their token is bound to, if with its own instance they might.
        pod: Option<Pod>,
    },
    /// The API server could not be asked.
    Away,
    /// Rollcall itself may not ask it.
    NotAllowedToAsk,
}

/// Checks callers.
pub struct Gate {
    reviews: Reviews,
    /// With these it is told whose a token is, if not by reviews.
    keyring: Option<Keyring>,
    tokens: Memory<Fingerprint, Bearer>,
    decisions: Memory<Asked, bool>,
    owners: Owners,
    metrics: AuthMetrics,
    /// Whether the last question of each kind failed, so that it is said once.
    failing: [AtomicBool; 2],
}

#[derive(Clone, Debug)]
enum Bearer {
    Is(Arc<Caller>),
    Nobody(Arc<str>),
}

impl Gate {
    /// A gate that knows nobody yet.
    #[must_use]
    pub fn new(
        reviews: Reviews,
        keyring: Option<Keyring>,
        owners: Owners,
        metrics: AuthMetrics,
    ) -> Self {
        let (tokens, decisions) = (Memory::new(TOKENS), Memory::new(DECISIONS));
        let failing = [const { AtomicBool::new(false) }; 2];
        Self { reviews, keyring, tokens, decisions, owners, metrics, failing }
    }

    /// Whether a caller may do this by their token alone: it is bound to the pod whose instance it is.
    #[must_use]
    pub fn is_own(&self, caller: &Caller, wanted: &Wanted<'_>) -> bool {
        own::is_own(caller.pod.as_ref(), wanted, &self.owners)
    }

    /// Uid of the pod that a token is bound to, where this instance is the pod's own.
    #[must_use]
    pub fn own_pod(&self, caller: &Caller, wanted: &Wanted<'_>) -> Option<Arc<str>> {
        let pod = caller.pod.as_ref().filter(|_| self.is_own(caller, wanted))?;
        Some(pod.uid.as_ref().into())
    }

    /// The answer, when it is known; none when somebody has to be asked. A look-up or two.
    #[must_use]
    pub fn known(
        &self,
        token: Option<&str>,
        wanted: &Wanted<'_>,
        now: Moment,
    ) -> Option<Result<Arc<Caller>, Denial>> {
        let token = match legible(token) {
            Ok(token) => token,
            Err(denial) => return Some(Err(denial)),
        };
        let caller = match self.tokens.fresh(&Fingerprint::of_token(token), now)? {
            Bearer::Is(caller) => caller,
            Bearer::Nobody(why) => return Some(Err(Denial::BadToken(why))),
        };
        if !self.is_own(&caller, wanted) {
            for right in wanted.rights {
                if !self.decided(&caller, *right, wanted, now)? {
                    return Some(Err(forbidden(&caller, *right, wanted)));
                }
            }
        }
        self.metrics.remembered();
        Some(Ok(caller))
    }

    /// Whose token it is, if that is known already.
    #[must_use]
    pub fn user(&self, token: &str, now: Moment) -> Option<String> {
        match self.tokens.fresh(&Fingerprint::of_token(token), now)? {
            Bearer::Is(caller) => Some(caller.user().to_owned()),
            Bearer::Nobody(_) => None,
        }
    }

    /// The answer, whatever it takes, within five seconds.
    ///
    /// # Errors
    /// [`Denial`].
    pub async fn admit(
        &self,
        token: Option<&str>,
        wanted: &Wanted<'_>,
    ) -> Result<Arc<Caller>, Denial> {
        let token = legible(token)?;
        let admit = async {
            let caller = self.caller(token).await?;
            self.ask_all(&caller, wanted).await?;
            Ok(caller)
        };
        timeout(ADMIT_WITHIN, admit).await.unwrap_or(Err(Denial::Away))
    }

    /// Whether a caller who was admitted may do something more; within five seconds, too.
    ///
    /// # Errors
    /// [`Denial::Forbidden`], or that nobody can be asked.
    pub async fn allow(&self, caller: &Caller, wanted: &Wanted<'_>) -> Result<(), Denial> {
        timeout(ADMIT_WITHIN, self.ask_all(caller, wanted)).await.unwrap_or(Err(Denial::Away))
    }

    async fn ask_all(&self, caller: &Caller, wanted: &Wanted<'_>) -> Result<(), Denial> {
        if self.is_own(caller, wanted) {
            return Ok(());
        }
        for right in wanted.rights {
            let wide = self.decide(caller, *right, wanted.namespace, None).await?;
            let allowed = wide
                || match wanted.name {
                    None => false,
                    name => self.decide(caller, *right, wanted.namespace, name).await?,
                };
            if !allowed {
                return Err(forbidden(caller, *right, wanted));
            }
        }
        Ok(())
    }

    fn decided(
        &self,
        caller: &Caller,
        right: Right,
        wanted: &Wanted<'_>,
        now: Moment,
    ) -> Option<bool> {
        let caller = caller.fingerprint;
        let wide = AskedRef { caller, right, namespace: wanted.namespace, name: None };
        let wide_decided = self.decisions.fresh(&wide, now)?;
        if wide_decided || wanted.name.is_none() {
            return Some(wide_decided);
        }
        self.decisions.fresh(&AskedRef { name: wanted.name, ..wide }, now)
    }

    async fn caller(&self, token: &str) -> Result<Arc<Caller>, Denial> {
        let asking = |anew| async move {
            Ok(match self.whose(token, ask(anew)).await? {
                Ok(whose) => {
                    let left = token::left(token, clock::wall());
                    let value = Bearer::Is(Arc::new(Caller::new(whose)));
                    Answer { value, fresh: CALLER_FRESH.min(left), good: Some(left) }
                }
                Err(why) => {
                    Answer { value: Bearer::Nobody(why.into()), fresh: NO_FRESH, good: None }
                }
            })
        };
        let (bearer, source) =
            self.note(Step::Token, self.tokens.get(&Fingerprint::of_token(token), asking).await)?;
        match bearer {
            Bearer::Is(caller) => {
                self.metrics.checked(Step::Token, "yes", source);
                Ok(caller)
            }
            Bearer::Nobody(why) => {
                self.metrics.checked(Step::Token, "no", source);
                Err(Denial::BadToken(why))
            }
        }
    }

    async fn whose(&self, token: &str, ask: Ask) -> Result<Result<Whose, String>, Failure> {
        match &self.keyring {
            Some(keyring) => keyring.whose(token, ask.within).await,
            None => self.reviews.token(token, ask).await,
        }
    }

    async fn decide(
        &self,
        caller: &Caller,
        right: Right,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<bool, Denial> {
        let (verb, subresource) = right.words();
        let asking = |anew| async move {
            let question = Question { verb, subresource, namespace, name };
            let allowed = self.reviews.access(&caller.identity, question, ask(anew)).await?;
            let fresh = if allowed { YES_FRESH } else { NO_FRESH };
            // A no in the whole namespace stands before the yes on one instance.
            Ok(Answer { value: allowed, fresh, good: Some(RIGHT_GOOD) })
        };
        let asked = AskedRef { caller: caller.fingerprint, right, namespace, name };
        let (allowed, source) =
            self.note(Step::Access, self.decisions.get(&asked.into(), asking).await)?;
        self.metrics.checked(Step::Access, if allowed { "yes" } else { "no" }, source);
        Ok(allowed)
    }

    fn note<T>(
        &self,
        step: Step,
        answer: Result<(T, Source), Failure>,
    ) -> Result<(T, Source), Denial> {
        let failed = match &answer {
            // Says nothing about whether the API server can be asked.
            Ok((_, Source::Memory)) => None,
            Ok((_, source)) => Some(*source == Source::Outage),
            Err(_) => Some(true),
        };
        // Where keys tell, whoever reads them says how that goes: that one token's key could not be read says
        // nothing about the others, and anybody can make one up.
        let by_keys = step == Step::Token && self.keyring.is_some();
        if let Some(failed) = failed.filter(|_| !by_keys) {
            self.tell(step, failed, answer.as_ref().err());
        }
        answer.map_err(|failure| {
            self.metrics.checked(step, "unknown", Source::Asked);
            match failure {
                Failure::Refused { code: 403, .. } => Denial::NotAllowedToAsk,
                _ => Denial::Away,
            }
        })
    }

    /// Says when questions begin to fail, and when they are answered again.
    fn tell(&self, step: Step, failed: bool, why: Option<&Failure>) {
        let [token, access] = &self.failing;
        let flag = if step == Step::Token { token } else { access };
        match (flag.swap(failed, Ordering::Relaxed), failed) {
            (false, true) => {
                let why = why.map_or_else(|| "no answer in time".to_owned(), Failure::to_string);
                warn!(
                    why,
                    ?step,
                    "cannot ask who is calling; who was not let in lately is refused"
                );
            }
            (true, false) => info!(?step, "who is calling can be asked again"),
            _ => {}
        }
    }
}

fn ask(anew: bool) -> Ask {
    Ask { anew, within: if anew { REFRESH_WITHIN } else { ASK_WITHIN } }
}

fn legible(token: Option<&str>) -> Result<&str, Denial> {
    match token {
        None => Err(Denial::NoToken),
        Some(token) if token.len() > MAX_TOKEN => Err(Denial::BadToken("it is too long".into())),
        Some(token) => Ok(token),
    }
}

fn forbidden(caller: &Caller, right: Right, wanted: &Wanted<'_>) -> Denial {
    let namespace = wanted.namespace.map(str::to_owned);
    let pod = caller.pod.clone().filter(|_| own::gives(right));
    Denial::Forbidden { user: caller.to_string(), right, namespace, pod }
}
