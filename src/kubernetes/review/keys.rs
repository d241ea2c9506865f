//! The keys that a cluster signs its tokens with, as the API server publishes them.
//!
//! Sources: RFC 7517 (a set of keys in JSON), RFC 7518 §3.3 and §3.4 (signatures), §6.2 and §6.3 (keys).
//! Owns: which keys can be used, each for one algorithm, and verifying a signature with them. Does
//! not own: reading them from the API server (`issuer`), the content of tokens (`jwt`).

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

use crate::kubernetes::review::quote::quote;

/// Maximum number of keys that are kept. A cluster has one key, and two or three while the key is rotated.
const MAX_KEYS: usize = 32;

/// The modulus of an RSA key, in bytes: at least 2,048 bits, and at most 8,192, so that a verification stays cheap.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;

/// The algorithms with which Kubernetes signs tokens. `none` and the HMAC algorithms cannot be represented, so a token
/// cannot choose them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    Es384,
}

/// A public key. Each variant is for one algorithm.
#[derive(Clone, PartialEq, Eq)]
enum Key {
    Rsa { n: Box<[u8]>, e: Box<[u8]> },
    P256 { point: Box<[u8]> },
    P384 { point: Box<[u8]> },
}

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignatureError {
    /// There is no key with this id.
    UnknownKey,
    /// The key is for this other algorithm.
    OtherAlgorithm(Algorithm),
    /// The signature was not made with the key.
    BadSignature,
}

/// Keys by id.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Keys(BTreeMap<Box<str>, Key>);

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// The fields of a JWK that are used.
#[derive(Deserialize)]
struct Jwk {
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
    /// The algorithm with this `alg` name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
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
    /// Decodes a set of keys. Returns also, for each key that cannot be used, why not.
    ///
    /// # Errors
    /// When the JSON is not a set of keys.
    pub(super) fn decode(json: &[u8]) -> Result<(Self, Vec<String>), serde_json::Error> {
        let set: KeySet = serde_json::from_slice(json)?;
        let (mut keys, mut unused) = (BTreeMap::new(), Vec::new());
        for value in set.keys {
            let id = value.get("kid").and_then(Value::as_str).unwrap_or_default();
            let named = format!("the key {}", quote(id));
            match Key::decode(value) {
                Ok(_) if keys.len() >= MAX_KEYS => {
                    unused.push(format!("{named} is beyond the limit of {MAX_KEYS} keys"));
                }
                // When two keys have the same id, the first is kept, so that no later key can replace it.
                Ok((id, key)) => drop(keys.entry(id).or_insert(key)),
                Err(why) => unused.push(format!("{named} {why}")),
            }
        }
        Ok((Self(keys), unused))
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Verifies that the key with this id has signed the message with this algorithm.
    ///
    /// # Errors
    /// Why the signature is not accepted.
    pub(super) fn verify(
        &self,
        id: &str,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let key = self.0.get(id).ok_or(SignatureError::UnknownKey)?;
        if key.algorithm() != algorithm {
            return Err(SignatureError::OtherAlgorithm(key.algorithm()));
        }
        let verified = match key {
            Key::Rsa { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Key::P256 { point } => {
                verify_ecdsa(&ECDSA_P256_SHA256_FIXED, point, message, signature)
            }
            Key::P384 { point } => {
                verify_ecdsa(&ECDSA_P384_SHA384_FIXED, point, message, signature)
            }
        };
        verified.map_err(|_| SignatureError::BadSignature)
    }
}

fn verify_ecdsa(
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

    fn decode(value: Value) -> Result<(Box<str>, Self), String> {
        let jwk: Jwk =
            serde_json::from_value(value).map_err(|error| format!("cannot be read: {error}"))?;
        let id = jwk.kid.clone().filter(|id| !id.is_empty()).ok_or("has no id (kid)")?;
        if jwk.used_for.as_deref().is_some_and(|it| it != "sig") {
            return Err("is not for signatures (use)".to_owned());
        }
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => jwk.rsa()?,
            ("EC", Some("P-256")) => Self::P256 { point: jwk.point(32)? },
            ("EC", Some("P-384")) => Self::P384 { point: jwk.point(48)? },
            (kind, curve) => {
                let curve = curve.map(|curve| format!(" on {}", quote(curve))).unwrap_or_default();
                return Err(format!("has a type that rollcall cannot use: {}{curve}", quote(kind)));
            }
        };
        match jwk.alg {
            Some(alg) if alg != key.algorithm().as_str() => {
                Err(format!("is for {}, which rollcall does not support", quote(&alg)))
            }
            _ => Ok((id, key)),
        }
    }
}

impl Jwk {
    fn rsa(&self) -> Result<Key, String> {
        let (n, e) =
            (decode_base64url("n", self.n.as_deref())?, decode_base64url("e", self.e.as_deref())?);
        // ring accepts neither numbers with leading zeros nor a modulus outside these bounds.
        if !MODULUS.contains(&n.len()) || n.starts_with(&[0]) || e.starts_with(&[0]) {
            return Err(format!(
                "has a modulus of {} bytes; it must have 256 to 1,024, without leading zeros",
                n.len()
            ));
        }
        Ok(Key::Rsa { n, e })
    }

    /// The uncompressed point (SEC 1 §2.3.3). Whether it is on the curve is checked with each signature.
    fn point(&self, size: usize) -> Result<Box<[u8]>, String> {
        let (x, y) =
            (decode_base64url("x", self.x.as_deref())?, decode_base64url("y", self.y.as_deref())?);
        if (x.len(), y.len()) != (size, size) {
            return Err(format!("has no point with two coordinates of {size} bytes"));
        }
        Ok([&[4], &*x, &*y].concat().into())
    }
}

fn decode_base64url(field: &str, text: Option<&str>) -> Result<Box<[u8]>, String> {
    let text = text.ok_or_else(|| format!("has no {field}"))?;
    let bytes = URL_SAFE_NO_PAD.decode(text);
    bytes.map(Into::into).map_err(|_| format!("has a field {field} that is not base64url"))
}

/// The ids of the keys, for logs.
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
        Keys::decode(json!({"keys": keys}).to_string().as_bytes()).unwrap()
    }

    /// A key, with some fields replaced.
    fn with(signer: &Signer, changes: &Value) -> Value {
        let mut jwk = signer.jwk();
        jwk.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        jwk
    }

    #[test]
    fn unusable_key_is_left_out_with_a_reason_and_the_others_are_kept() {
        let (rsa, ec, good) = (Signer::rs256("r"), Signer::es256("e"), Signer::es384("good"));
        for (key, reason) in [
            (with(&ec, &json!({"kid": null})), "the key \"\" has no id"),
            (with(&ec, &json!({"kid": 7})), "cannot be read"),
            (with(&ec, &json!({"use": "enc"})), "the key \"e\" is not for signatures"),
            (with(&ec, &json!({"alg": "ES512"})), "is for \"ES512\""),
            (with(&ec, &json!({"crv": "P-521", "alg": "ES512"})), "\"EC\" on \"P-521\""),
            (with(&ec, &json!({"crv": "P-384"})), "no point with two coordinates of 48"),
            (with(&ec, &json!({"x": encode([1; 31])})), "no point with two coordinates of 32"),
            (with(&ec, &json!({"y": "="})), "has a field y that is not base64url"),
            (with(&ec, &json!({"y": null})), "has no y"),
            (with(&rsa, &json!({"alg": "RS512"})), "is for \"RS512\""),
            (with(&rsa, &json!({"n": encode([3; 128])})), "a modulus of 128 bytes"),
            (with(&rsa, &json!({"n": encode([3; 2000])})), "a modulus of 2000 bytes"),
            (with(&rsa, &json!({"n": encode([0; 256])})), "a modulus of"),
            (json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0"}), "a type that rollcall cannot use"),
            (
                json!({"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": "AA"}),
                "\"OKP\" on \"Ed25519\"",
            ),
            (json!("nonsense"), "cannot be read"),
        ] {
            let (keys, unused) = read(&[key, good.jwk()]);
            assert_eq!(format!("{keys:?}"), "[\"good\"]");
            assert!(unused.len() == 1 && unused[0].contains(reason), "no {reason:?} in {unused:?}");
        }
        for bad in ["", "{}", "[]", "{\"keys\": {}}", "{\"keys\": [}"] {
            assert!(Keys::decode(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn first_of_two_keys_with_the_same_id_is_kept() {
        let (first, second) = (Signer::es256("k"), Signer::es256("k"));
        let (keys, _) = read(&[first.jwk(), second.jwk()]);
        let verify = |signer: &Signer| keys.verify("k", Algorithm::Es256, b"x", &signer.sign(b"x"));
        assert_eq!((verify(&first), verify(&second)), (Ok(()), Err(SignatureError::BadSignature)));
    }

    #[test]
    fn key_with_a_point_off_the_curve_verifies_no_signature() {
        let signer = Signer::es256("k");
        let (keys, unused) = read(&[with(&signer, &json!({"x": encode([7; 32])}))]);
        assert_eq!((keys.len(), unused), (1, Vec::new()));
        let signature = signer.sign(b"x");
        let verified = keys.verify("k", Algorithm::Es256, b"x", &signature);
        assert_eq!(verified, Err(SignatureError::BadSignature));
    }

    #[test]
    fn number_of_keys_is_bounded() {
        let signer = Signer::es256("k");
        let many: Vec<_> =
            (0..100).map(|at| with(&signer, &json!({"kid": format!("k{at}")}))).collect();
        let (keys, unused) = read(&many);
        assert_eq!((keys.len(), unused.len()), (MAX_KEYS, 100 - MAX_KEYS));
    }
}
