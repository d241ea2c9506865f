//! Authentication of a ServiceAccount token with the keys that the API server publishes: signature, audience and times.
//!
//! Sources: RFC 7515 §5.2 (JWS validation), RFC 7519 §4.1 (claims), RFC 8725 (best practices, from known
//! mistakes), <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/> (the claims of
//! Kubernetes). Owns: decoding a token, the order of the checks, the texts of refusals. Does not
//! own: keys and signatures (`keys`), reading the keys (`keyring`).
//!
//! This does not check what only the API server knows: whether the pod, the ServiceAccount or the Secret that the
//! token is bound to still exists.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::api::authentication::v1::UserInfo;
use rollcall_model::lease::Wall;
use serde::{Deserialize, de::IgnoredAny};

use crate::kubernetes::review::{
    issuer::Published,
    keys::{Algorithm, SignatureError},
    quote::quote,
    subject::{ACCOUNT, AUDIENCE, BINDING, TokenSubject},
};

/// How much clocks may differ: as much as the API server allows.
const LEEWAY: Duration = Duration::from_secs(60);

/// The group of all authenticated users.
const AUTHENTICATED: &str = "system:authenticated";

/// The group of all ServiceAccounts; with `:` and a namespace, the group of all in that namespace.
const ACCOUNTS: &str = "system:serviceaccounts";

/// A decoded token, which is not verified yet.
pub(super) struct Token<'a> {
    /// The first two parts, which the signature covers.
    signed: &'a str,
    signature: Vec<u8>,
    algorithm: Algorithm,
    key: Box<str>,
    claims: Claims,
}

/// Why a token is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    /// The token is invalid.
    Invalid(String),
    /// The issuer or the key is unknown: it may be newer than the keys read last.
    UnknownKey(String),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<Box<str>>,
    crit: Option<IgnoredAny>,
}

/// The claims that are used. Times are seconds since the Unix epoch.
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
    /// Decodes a token.
    ///
    /// # Errors
    /// Why it is not a token of a ServiceAccount.
    pub(super) fn decode(text: &'a str) -> Result<Self, String> {
        let parts = || {
            let (signed, signature) = text.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            (!payload.contains('.')).then_some((signed, header, payload, signature))
        };
        let (signed, header, payload, signature) =
            parts().ok_or("it is not a ServiceAccount token, which has three parts")?;
        let header: Header = json("header", header)?;
        let algorithm = Algorithm::from_name(&header.alg).ok_or_else(|| {
            let alg = quote(&header.alg);
            format!("its alg is {alg}, but it must be signed with RS256, ES256 or ES384")
        })?;
        if header.crit.is_some() {
            return Err(
                "its header has extensions (crit) that rollcall does not support".to_owned()
            );
        }
        let key = header.kid.filter(|key| !key.is_empty());
        let key = key.ok_or("its header does not name the key that signed it (kid)")?;
        let claims = json("claims", payload)?;
        let signature = decode_base64url("signature", signature)?;
        Ok(Self { signed, signature, algorithm, key, claims })
    }

    /// The subject of a valid token. The cheapest checks come first. A token with an unknown issuer or key makes rollcall
    /// read the keys again, so those checks come after the time and the audience.
    ///
    /// # Errors
    /// Why the token is refused.
    pub(super) fn authenticate(
        &self,
        published: &Published,
        now: Wall,
    ) -> Result<TokenSubject, TokenError> {
        let claims = &self.claims;
        claims
            .check_times(now)
            .and_then(|()| claims.check_audience())
            .map_err(TokenError::Invalid)?;
        let issuer = claims.iss.as_deref().unwrap_or_default();
        if issuer != &*published.issuer {
            let issuer = quote(issuer);
            let why = format!("its issuer is {issuer}, which is not that of this cluster");
            return Err(TokenError::UnknownKey(why));
        }
        let (key, message) = (quote(&self.key), self.signed.as_bytes());
        let verified = published.keys.verify(&self.key, self.algorithm, message, &self.signature);
        verified.map_err(|why| match why {
            SignatureError::UnknownKey => TokenError::UnknownKey(format!(
                "it is signed with the key {key}, which this cluster does not publish"
            )),
            SignatureError::OtherAlgorithm(algorithm) => TokenError::Invalid(format!(
                "its alg is {}, but the key {key} is for {}",
                self.algorithm.as_str(),
                algorithm.as_str()
            )),
            SignatureError::BadSignature => {
                TokenError::Invalid(format!("its signature is not that of the key {key}"))
            }
        })?;
        claims.subject().map_err(TokenError::Invalid)
    }
}

impl Claims {
    fn check_times(&self, now: Wall) -> Result<(), String> {
        let leeway = i64::try_from(LEEWAY.as_millis()).unwrap_or(0);
        let millis = |seconds: i64| seconds.saturating_mul(1000);
        let end = self.exp.ok_or("it has no expiry time (exp)")?;
        if millis(end).saturating_add(leeway) <= now.0 {
            return Err(format!("it expired at {}", Wall(millis(end))));
        }
        for (field, begin) in [("nbf", self.nbf), ("iat", self.iat)] {
            let begin = begin.map_or(i64::MIN, millis);
            if begin > now.0.saturating_add(leeway) {
                let begin = Wall(begin);
                return Err(format!(
                    "it is valid from {begin} ({field}), but the time of this replica is {now}: check both clocks"
                ));
            }
        }
        Ok(())
    }

    fn check_audience(&self) -> Result<(), String> {
        let audiences = match &self.aud {
            Some(Audiences::One(one)) => std::slice::from_ref(one),
            Some(Audiences::Many(many)) => many.as_slice(),
            None => &[],
        };
        if audiences.iter().any(|audience| audience == AUDIENCE) {
            return Ok(());
        }
        let first = audiences.first();
        Err(first.map_or_else(
            || format!("it has no audience, but it must be for {AUDIENCE}"),
            |first| format!("it is for the audience {}, not for {AUDIENCE}", quote(first)),
        ))
    }

    /// The user that the API server would find for these claims.
    fn subject(&self) -> Result<TokenSubject, String> {
        let named = self.kubernetes.as_ref().filter(|it| it.names_an_account());
        let named = named.ok_or("it does not name its ServiceAccount (kubernetes.io)")?;
        let Kubernetes { namespace, serviceaccount, pod } = named;
        let user = format!("{ACCOUNT}{namespace}:{}", serviceaccount.name);
        if self.sub.as_deref() != Some(&user) {
            let sub = quote(self.sub.as_deref().unwrap_or_default());
            return Err(format!(
                "its sub is {sub}, but its ServiceAccount is {} (kubernetes.io)",
                quote(&user)
            ));
        }
        let bound = pod.iter().flat_map(|pod| [("pod-name", &pod.name), ("pod-uid", &pod.uid)]);
        let extra = bound.map(|(key, value)| (format!("{BINDING}{key}"), vec![value.clone()]));
        Ok(TokenSubject::from(UserInfo {
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

fn decode_base64url(part: &str, text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its {part} is not base64url"))
}

/// Decodes a part. A repeated field is an error, because one of the two would be checked and the other used.
fn json<T: for<'de> Deserialize<'de>>(part: &str, text: &str) -> Result<T, String> {
    let bytes = decode_base64url(part, text)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| format!("its {part} cannot be read: {}", quote(&error.to_string())))
}

#[cfg(test)]
mod tests;
