//! Forged tokens: signed with the cluster's own key, which a test can read, or with another key.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::Value;

use super::control_plane::TestControlPlane;

/// Signs tokens with the key of a control plane (ES256).
pub struct TokenForge {
    key: EcdsaKeyPair,
    header: Value,
    claims: Value,
}

impl TokenForge {
    /// Takes header and claims of a valid token as the base.
    pub fn from_valid_token(shared: &TestControlPlane, valid: &str) -> Self {
        let file = shared.audit_log.with_file_name("service-account.key");
        let text = fs::read_to_string(file).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let key = key_pair(&STANDARD.decode(body).unwrap());
        Self { key, header: decode_part(valid, 0), claims: decode_part(valid, 1) }
    }

    /// When the valid token was issued, in seconds.
    pub fn now(&self) -> i64 {
        self.claims["iat"].as_i64().unwrap()
    }

    /// A token with other claims.
    pub fn token(&self, claims: &Value) -> String {
        sign(&self.key, &self.header, &with(&self.claims, claims))
    }

    /// A token with another header, signed with the cluster's key or with an unknown one.
    pub fn token_as(&self, header: &Value, by_the_cluster: bool) -> String {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let unknown = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let unknown = key_pair(unknown.as_ref());
        let key = if by_the_cluster { &self.key } else { &unknown };
        sign(key, &with(&self.header, header), &self.claims)
    }
}

/// Header (0) or claims (1) of a token.
pub fn decode_part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn key_pair(pkcs8: &[u8]) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random).unwrap()
}

fn with(object: &Value, changes: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    object
}

fn sign(key: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let [header, claims] = [header, claims].map(|part| encode(part.to_string().as_bytes()));
    let signed = format!("{header}.{claims}");
    let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", encode(signature.as_ref()))
}
