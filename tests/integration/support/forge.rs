//! Tokens as the cluster would sign them, and as it never would: with its own key, which a test can read.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::Value;

use super::control_plane::Shared;

/// Signs with the key of a control plane (ES256).
pub struct Forge {
    key: EcdsaKeyPair,
    header: Value,
    claims: Value,
}

impl Forge {
    /// Begins with what a good token says.
    pub fn of(shared: &Shared, good: &str) -> Self {
        let file = shared.audit_log.with_file_name("service-account.key");
        let text = fs::read_to_string(file).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let key = pair(&STANDARD.decode(body).unwrap());
        Self { key, header: part(good, 0), claims: part(good, 1) }
    }

    /// When the good one was made, in seconds.
    pub fn now(&self) -> i64 {
        self.claims["iat"].as_i64().unwrap()
    }

    /// With other claims.
    pub fn token(&self, claims: &Value) -> String {
        sign(&self.key, &self.header, &with(&self.claims, claims))
    }

    /// With another header; signed with the cluster's key, or with one that nobody knows.
    pub fn token_as(&self, header: &Value, by_the_cluster: bool) -> String {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let strange = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let strange = pair(strange.as_ref());
        let key = if by_the_cluster { &self.key } else { &strange };
        sign(key, &with(&self.header, header), &self.claims)
    }
}

/// Header (0) or claims (1) of a token.
pub fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn pair(pkcs8: &[u8]) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).unwrap()
}

fn with(object: &Value, changes: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    object
}

fn sign(key: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
    let encode = |octets: &[u8]| URL_SAFE_NO_PAD.encode(octets);
    let [header, claims] = [header, claims].map(|part| encode(part.to_string().as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(signature.as_ref()))
}
