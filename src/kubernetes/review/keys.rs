//! The keys that a cluster signs its tokens with, as the API server publishes them.
//!
//! Sources: RFC 7517 (a set of keys in JSON), RFC 7518 §3.3 and §3.4 (signatures), §6.2 and §6.3 (keys).
//! Owns: which keys can be used, each for one algorithm, and whether a signature is of one of them. Does
//! not own: reading them from the API server (`issuer`), and what is signed (`jwt`).

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use crate::kubernetes::review::brief::brief;

/// Keys kept. A cluster has one, and a second and third while it is replaced.
const MAX_KEYS: usize = 32;

/// The modulus of an RSA key, in octets: 2,048 bits at least, and as many as are worth the time at most.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// How a token is signed: by what Kubernetes signs with, and nothing else. What has no signature or a
/// shared secret has no name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    Es384,
}

/// A public key, for the one algorithm that it is for.
#[derive(Clone, PartialEq, Eq)]
enum Key {
    Rsa { n: Box<[u8]>, e: Box<[u8]> },
    P256 { point: Box<[u8]> },
    P384 { point: Box<[u8]> },
}

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsigned {
    /// There is no such key.
    UnknownKey,
    /// The key is for this algorithm.
    OtherAlgorithm(Algorithm),
    /// It is not that of the key.
    BadSignature,
}

/// Keys by their id.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Keys(BTreeMap<Box<str>, Key>);

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// What is read of a key; the rest of it is not needed.
#[derive(Deserialize)]
struct Written {
    kid: Option<Box<str>>,
    kty: String,
    #[serde(rename = "use")]
    used_for: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Algorithm {
    /// By its name in a token.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Rs256, Self::Es256, Self::Es384].into_iter().find(|it| it.as_str() == name)
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }
}

impl Keys {
    /// Reads a set, and says of each key that cannot be used why not.
    ///
    /// # Errors
    /// When it is no set of keys.
    pub(super) fn read(json: &[u8]) -> Result<(Self, Vec<String>), serde_json::Error> {
        let set: Set = serde_json::from_slice(json)?;
        let (mut keys, mut unused) = (BTreeMap::new(), Vec::new());
        for value in set.keys {
            let id = value.get("kid").and_then(Value::as_str).unwrap_or_default();
            let named = format!("the key {}", brief(id));
            match Key::read(value) {
                Ok(_) if keys.len() >= MAX_KEYS => {
                    unused.push(format!("{named} comes after {MAX_KEYS} others"));
                }
                // Of two that bear one id the first counts, so that none can take its place.
                Ok((id, key)) => drop(keys.entry(id).or_insert(key)),
                Err(why) => unused.push(format!("{named} {why}")),
            }
        }
        Ok((Self(keys), unused))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the key of this id has signed the message in this way.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn verify(
        &self,
        id: &str,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Unsigned> {
        let key = self.0.get(id).ok_or(Unsigned::UnknownKey)?;
        if key.algorithm() != algorithm {
            return Err(Unsigned::OtherAlgorithm(key.algorithm()));
        }
        let verified = match key {
            Key::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Key::P256 { point } => on_curve(&ECDSA_P256_SHA256_FIXED, point, message, signature),
            Key::P384 { point } => on_curve(&ECDSA_P384_SHA384_FIXED, point, message, signature),
        };
        verified.map_err(|_| Unsigned::BadSignature)
    }
}

fn on_curve(
    algorithm: &'static EcdsaVerificationAlgorithm,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), ring::error::Unspecified> {
    UnparsedPublicKey::new(algorithm, point).verify(message, signature)
}

impl Key {
    const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256 { .. } => Algorithm::Es256,
            Self::P384 { .. } => Algorithm::Es384,
        }
    }

    fn read(value: Value) -> Result<(Box<str>, Self), String> {
        let written: Written =
            serde_json::from_value(value).map_err(|error| format!("cannot be read: {error}"))?;
        let id = written.kid.clone().filter(|id| !id.is_empty()).ok_or("has no id (kid)")?;
        if written.used_for.as_deref().is_some_and(|it| it != "sig") {
            return Err("is not for signatures (use)".to_owned());
        }
        let key = match (written.kty.as_str(), written.crv.as_deref()) {
            ("RSA", _) => written.rsa()?,
            ("EC", Some("P-256")) => Self::P256 { point: written.point(32)? },
            ("EC", Some("P-384")) => Self::P384 { point: written.point(48)? },
            (kind, curve) => {
                let curve = curve.map(|curve| format!(" on {}", brief(curve))).unwrap_or_default();
                return Err(format!(
                    "is of a kind that rollcall cannot use: {}{curve}",
                    brief(kind)
                ));
            }
        };
        match written.alg {
            Some(alg) if alg != key.algorithm().as_str() => {
                Err(format!("is for {}, which rollcall does not take", brief(&alg)))
            }
            _ => Ok((id, key)),
        }
    }
}

impl Written {
    fn rsa(&self) -> Result<Key, String> {
        let (n, e) = (octets("n", self.n.as_deref())?, octets("e", self.e.as_deref())?);
        // ring takes no number with zeros before it, and no modulus outside of these bounds.
        if !MODULUS.contains(&n.len()) || n.starts_with(&[0]) || e.starts_with(&[0]) {
            return Err(format!("has a modulus of {} octets, and not 256 to 1,024", n.len()));
        }
        Ok(Key::Rsa { n, e })
    }

    /// Uncompressed, as SEC 1 §2.3.3 writes it. Whether it is on the curve shows with the first signature.
    fn point(&self, size: usize) -> Result<Box<[u8]>, String> {
        let (x, y) = (octets("x", self.x.as_deref())?, octets("y", self.y.as_deref())?);
        if (x.len(), y.len()) != (size, size) {
            return Err(format!("has no point of twice {size} octets"));
        }
        Ok([&[4], &*x, &*y].concat().into())
    }
}

fn octets(field: &str, text: Option<&str>) -> Result<Box<[u8]>, String> {
    let text = text.ok_or_else(|| format!("has no {field}"))?;
    let octets = URL_SAFE_NO_PAD.decode(text);
    octets.map(Into::into).map_err(|_| format!("has an {field} that is no base64url"))
}

/// The ids, which are no secret; whose the keys are is told by them.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::review::mint::{Signer, encode};

    fn read(keys: &[Value]) -> (Keys, Vec<String>) {
        Keys::read(json!({"keys": keys}).to_string().as_bytes()).unwrap()
    }

    /// A key, with some fields replaced.
    fn with(signer: &Signer, changes: &Value) -> Value {
        let mut jwk = signer.jwk();
        jwk.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        jwk
    }

    #[test]
    fn a_key_that_cannot_be_used_is_left_out_with_the_reason_and_the_others_are_kept() {
        let (rsa, ec, good) = (Signer::rs256("r"), Signer::es256("e"), Signer::es384("good"));
        for (key, says) in [
            (with(&ec, &json!({"kid": null})), "the key \"\" has no id"),
            (with(&ec, &json!({"kid": 7})), "cannot be read"),
            (with(&ec, &json!({"use": "enc"})), "the key \"e\" is not for signatures"),
            (with(&ec, &json!({"alg": "ES512"})), "is for \"ES512\""),
            (with(&ec, &json!({"crv": "P-521", "alg": "ES512"})), "\"EC\" on \"P-521\""),
            (with(&ec, &json!({"crv": "P-384"})), "no point of twice 48 octets"),
            (with(&ec, &json!({"x": encode([1; 31])})), "no point of twice 32 octets"),
            (with(&ec, &json!({"y": "="})), "has an y that is no base64url"),
            (with(&ec, &json!({"y": null})), "has no y"),
            (with(&rsa, &json!({"alg": "RS512"})), "is for \"RS512\""),
            (with(&rsa, &json!({"n": encode([3; 128])})), "a modulus of 128 octets"),
            (with(&rsa, &json!({"n": encode([3; 2000])})), "a modulus of 2000 octets"),
            (with(&rsa, &json!({"n": encode([0; 256])})), "a modulus of"),
            (
                json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0"}),
                "of a kind that rollcall cannot use",
            ),
            (
                json!({"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": "AA"}),
                "\"OKP\" on \"Ed25519\"",
            ),
            (json!("nonsense"), "cannot be read"),
        ] {
            let (keys, unused) = read(&[key, good.jwk()]);
            assert_eq!(format!("{keys:?}"), "[\"good\"]");
            assert!(unused.len() == 1 && unused[0].contains(says), "no {says:?} in {unused:?}");
        }
        for bad in ["", "{}", "[]", "{\"keys\": {}}", "{\"keys\": [}"] {
            assert!(Keys::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_two_keys_with_one_id_the_first_counts() {
        let (first, second) = (Signer::es256("k"), Signer::es256("k"));
        let (keys, _) = read(&[first.jwk(), second.jwk()]);
        let verify = |signer: &Signer| keys.verify("k", Algorithm::Es256, b"x", &signer.sign(b"x"));
        assert_eq!((verify(&first), verify(&second)), (Ok(()), Err(Unsigned::BadSignature)));
    }

    #[test]
    fn a_point_that_is_on_no_curve_verifies_nothing() {
        let signer = Signer::es256("k");
        let (keys, unused) = read(&[with(&signer, &json!({"x": encode([7; 32])}))]);
        assert_eq!((keys.len(), unused), (1, Vec::new()));
        let signature = signer.sign(b"x");
        let verified = keys.verify("k", Algorithm::Es256, b"x", &signature);
        assert_eq!(verified, Err(Unsigned::BadSignature));
    }

    #[test]
    fn more_keys_than_a_cluster_has_are_not_kept() {
        let signer = Signer::es256("k");
        let many: Vec<_> =
            (0..100).map(|at| with(&signer, &json!({"kid": format!("k{at}")}))).collect();
        let (keys, unused) = read(&many);
        assert_eq!((keys.len(), unused.len()), (MAX_KEYS, 100 - MAX_KEYS));
    }
}
