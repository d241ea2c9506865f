//! Tokens for tests: key pairs of each type, and the JWKS that a cluster would publish for them.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use serde_json::{Value, json};

use crate::kubernetes::review::{issuer::Published, keys::Keys};

/// The time at which tests check tokens, in seconds since the Unix epoch.
pub(super) const NOW: i64 = 1_800_000_000;

/// The issuer of the tokens.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc";

/// An RSA key from a file, because ring cannot generate RSA keys.
const RSA: &str = include_str!("../../../tests/keys/rsa.pem");

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

/// Signs tokens.
pub(super) struct Signer {
    id: &'static str,
    alg: &'static str,
    pair: Pair,
}

impl Signer {
    pub(super) fn rs256(id: &'static str) -> Self {
        let (_, body) = RSA.split_once("-----BEGIN PRIVATE KEY-----\n").unwrap();
        let (body, _) = body.split_once("-----END").unwrap();
        let der = STANDARD.decode(body.replace('\n', "")).unwrap();
        Self { id, alg: "RS256", pair: Pair::Rsa(RsaKeyPair::from_pkcs8(&der).unwrap()) }
    }

    pub(super) fn es256(id: &'static str) -> Self {
        Self::on_curve(id, "ES256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub(super) fn es384(id: &'static str) -> Self {
        Self::on_curve(id, "ES384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn on_curve(
        id: &'static str,
        alg: &'static str,
        algorithm: &'static EcdsaSigningAlgorithm,
    ) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self { id, alg, pair: Pair::Ec(pair) }
    }

    /// The public key as a JWK.
    pub(super) fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e }: RsaPublicKeyComponents<Vec<u8>> =
                    pair.public().into();
                json!({
                    "use": "sig", "kty": "RSA", "kid": self.id, "alg": self.alg,
                    "n": encode(n), "e": encode(e),
                })
            }
            Pair::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({
                    "use": "sig", "kty": "EC", "kid": self.id, "alg": self.alg, "crv": curve,
                    "x": encode(x), "y": encode(y),
                })
            }
        }
    }

    /// The bytes of the public key, which an algorithm confusion attack uses as an HMAC secret.
    pub(super) fn public(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public().as_ref().to_vec(),
            Pair::Ec(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
        }
    }

    /// A token with these claims, in the form of Kubernetes.
    pub(super) fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": self.alg, "kid": self.id}).to_string();
        self.token_of(&header, &claims.to_string())
    }

    /// A token with any header and claims.
    pub(super) fn token_of(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = encode(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a cluster with these keys publishes.
pub(super) fn published(signers: &[&Signer]) -> Published {
    let set = json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()});
    let (keys, unused) = Keys::decode(set.to_string().as_bytes()).unwrap();
    assert_eq!(unused, [""; 0]);
    Published { issuer: ISSUER.into(), keys }
}

/// The claims of a pod's token, with the account `orders` in `shop`.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": ["rollcall"], "sub": "system:serviceaccount:shop:orders",
        "exp": NOW + 3600, "iat": NOW, "nbf": NOW, "jti": "0f1e2d3c",
        "kubernetes.io": {
            "namespace": "shop",
            "node": {"name": "node-1", "uid": "n1"},
            "pod": {"name": "orders-1", "uid": "p1"},
            "serviceaccount": {"name": "orders", "uid": "s1"},
            "warnafter": NOW + 3607,
        },
    })
}
