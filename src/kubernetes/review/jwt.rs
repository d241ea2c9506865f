//! A token of a ServiceAccount, and whose it is by what the API server publishes: signed by one of the
//! cluster's keys, for rollcall, and in its time.
//!
//! Sources: RFC 7515 §5.2 (how a signed text is read), RFC 7519 §4.1 (claims), RFC 8725 (what others got
//! wrong), <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/> (what
//! Kubernetes writes). Owns: reading a token, the order of the checks, the words of a refusal. Does not
//! own: keys and signatures (`keys`), getting them (`keyring`).
//!
//! What only the API server knows is not seen here: whether the pod, the ServiceAccount or the Secret that a
//! token is bound to is still there.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::authentication::v1::UserInfo;
use rollcall_model::lease::Wall;
use serde::{Deserialize, de::IgnoredAny};

use crate::kubernetes::review::{
    brief::brief,
    issuer::Published,
    keys::{Algorithm, Unsigned},
    whose::{ACCOUNT, AUDIENCE, BINDING, Whose},
};

/// Clocks differ. As much as the API server allows for.
const LEEWAY: Duration = Duration::from_secs(60);

/// Everybody whom the API server knows is in it.
const AUTHENTICATED: &str = "system:authenticated";

/// And every ServiceAccount in this one, and in that of its namespace.
const ACCOUNTS: &str = "system:serviceaccounts";

/// A token that could be read; nothing of it is believed yet.
pub(super) struct Token<'a> {
    /// The first two parts.
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    key: Box<str>,
    claims: Claims,
}

/// Why a token is nobody's.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not good.
    Bad(String),
    /// Its issuer or its key is not known here: it may be newer than what is.
    Unknown(String),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<Box<str>>,
    crit: Option<IgnoredAny>,
}

/// What is read of the claims. Times are seconds since the Unix epoch.
#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audiences>,
    exp: Option<i64>,
    nbf: Option<i64>,
    iat: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Object,
    pod: Option<Object>,
}

#[derive(Deserialize)]
struct Object {
    name: String,
    uid: String,
}

impl<'a> Token<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// Why it is no token that a cluster signs.
    pub(super) fn read(text: &'a str) -> Result<Self, String> {
        let parts = || {
            let (signed, signature) = text.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            (!payload.contains('.')).then_some((signed, header, payload, signature))
        };
        let (signed, header, payload, signature) =
            parts().ok_or("it is no token of a ServiceAccount, which has three parts")?;
        let header: Header = json("header", header)?;
        let algorithm = Algorithm::named(&header.alg).ok_or_else(|| {
            let alg = brief(&header.alg);
            format!("its alg is {alg}; it has to be signed with RS256, ES256 or ES384")
        })?;
        if header.crit.is_some() {
            return Err("its header has extensions (crit) that rollcall does not know".to_owned());
        }
        let key = header.kid.filter(|key| !key.is_empty());
        let key = key.ok_or("its header does not name the key that signed it (kid)")?;
        let claims = json("claims", payload)?;
        let signature = octets("signature", signature)?;
        Ok(Self { signed, signature, algorithm, key, claims })
    }

    /// Whose it is. What costs least comes first, and what would have others asked last.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub(super) fn whose(&self, published: &Published, now: Wall) -> Result<Whose, Refusal> {
        let claims = &self.claims;
        claims.is_in_its_time(now).and_then(|()| claims.is_for_us()).map_err(Refusal::Bad)?;
        let issuer = claims.iss.as_deref().unwrap_or_default();
        if issuer != &*published.issuer {
            let issuer = brief(issuer);
            let why = format!("it is of the issuer {issuer}, which is not that of this cluster");
            return Err(Refusal::Unknown(why));
        }
        let (key, message) = (brief(&self.key), self.signed.as_bytes());
        let verified = published.keys.verify(&self.key, self.algorithm, message, &self.signature);
        verified.map_err(|why| match why {
            Unsigned::UnknownKey => Refusal::Unknown(format!(
                "it is signed with the key {key}, which this cluster does not publish"
            )),
            Unsigned::OtherAlgorithm(algorithm) => Refusal::Bad(format!(
                "its alg is {}, and the key {key} is for {}",
                self.algorithm.as_str(),
                algorithm.as_str()
            )),
            Unsigned::BadSignature => {
                Refusal::Bad(format!("its signature is not that of the key {key}"))
            }
        })?;
        claims.account().map_err(Refusal::Bad)
    }
}

impl Claims {
    fn is_in_its_time(&self, now: Wall) -> Result<(), String> {
        let leeway = i64::try_from(LEEWAY.as_millis()).unwrap_or(0);
        let millis = |seconds: i64| seconds.saturating_mul(1000);
        let end = self.exp.ok_or("it does not say when it ends (exp)")?;
        if millis(end).saturating_add(leeway) <= now.0 {
            return Err(format!("it ended at {}", Wall(millis(end))));
        }
        for (field, begin) in [("nbf", self.nbf), ("iat", self.iat)] {
            let begin = begin.map_or(i64::MIN, millis);
            if begin > now.0.saturating_add(leeway) {
                let begin = Wall(begin);
                return Err(format!(
                    "it begins at {begin} ({field}), and here it is {now}: do the clocks differ?"
                ));
            }
        }
        Ok(())
    }

    fn is_for_us(&self) -> Result<(), String> {
        let audiences = match &self.aud {
            Some(Audiences::One(one)) => std::slice::from_ref(one),
            Some(Audiences::Many(many)) => many.as_slice(),
            None => &[],
        };
        if audiences.iter().any(|audience| audience == AUDIENCE) {
            return Ok(());
        }
        let first = audiences.first().map_or_else(|| "nobody".to_owned(), |first| brief(first));
        Err(format!("it is made for the audience {first}, and not for {AUDIENCE}"))
    }

    /// As the API server would call it.
    fn account(&self) -> Result<Whose, String> {
        let named = self.kubernetes.as_ref().filter(|it| it.names_an_account());
        let named = named.ok_or("it does not say which ServiceAccount it is of (kubernetes.io)")?;
        let Kubernetes { namespace, serviceaccount, pod } = named;
        let user = format!("{ACCOUNT}{namespace}:{}", serviceaccount.name);
        if self.sub.as_deref() != Some(&user) {
            let sub = brief(self.sub.as_deref().unwrap_or_default());
            return Err(format!("it is of {sub} (sub), and of {} (kubernetes.io)", brief(&user)));
        }
        let bound = pod.iter().flat_map(|pod| [("pod-name", &pod.name), ("pod-uid", &pod.uid)]);
        let extra = bound.map(|(key, value)| (format!("{BINDING}{key}"), vec![value.clone()]));
        Ok(Whose::from(UserInfo {
            username: Some(user),
            uid: Some(serviceaccount.uid.clone()),
            groups: Some(vec![
                ACCOUNTS.to_owned(),
                format!("{ACCOUNTS}:{namespace}"),
                AUTHENTICATED.to_owned(),
            ]),
            extra: Some(extra.collect::<BTreeMap<_, _>>()),
        }))
    }
}

impl Kubernetes {
    fn names_an_account(&self) -> bool {
        let Object { name, uid } = &self.serviceaccount;
        ![&self.namespace, name, uid].into_iter().any(String::is_empty)
    }
}

fn octets(part: &str, text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its {part} is no base64url"))
}

/// A field that is there twice is refused with the rest: nobody may read one, and check the other.
fn json<T: for<'de> Deserialize<'de>>(part: &str, text: &str) -> Result<T, String> {
    let octets = octets(part, text)?;
    serde_json::from_slice(&octets)
        .map_err(|error| format!("its {part} cannot be read: {}", brief(&error.to_string())))
}

#[cfg(test)]
mod tests;
