//! Which tokens are accepted, and for which reason all others are refused.

use ring::hmac;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::review::{
    Identity, Pod,
    mint::{ISSUER, NOW, Signer, claims, encode, published},
};

const AT: Wall = Wall(NOW * 1000);

fn check(token: &str, published: &Published, now: Wall) -> Result<TokenSubject, TokenError> {
    Token::decode(token).map_err(TokenError::Invalid)?.authenticate(published, now)
}

/// The claims of `mint::claims` with some of them replaced; null removes a claim.
fn with(changes: &Value) -> Value {
    let mut claims = claims();
    for (field, value) in changes.as_object().unwrap() {
        let all = claims.as_object_mut().unwrap();
        match value {
            Value::Null => drop(all.remove(field)),
            value => drop(all.insert(field.clone(), value.clone())),
        }
    }
    claims
}

fn refused(token: &str, published: &Published, reason: &str) {
    match check(token, published, AT) {
        Err(TokenError::Invalid(why)) => assert!(why.contains(reason), "no {reason:?} in {why:?}"),
        other => panic!("{other:?} for {token} instead of {reason:?}"),
    }
}

#[test]
fn token_names_its_account_and_its_pod_with_each_algorithm_of_kubernetes() {
    for signer in [Signer::rs256("k"), Signer::es256("k"), Signer::es384("k")] {
        let TokenSubject { identity, pod } =
            check(&signer.token(&claims()), &published(&[&signer]), AT).unwrap();
        let Identity { user, uid, groups, extra } = identity;
        assert_eq!(user, "system:serviceaccount:shop:orders");
        assert_eq!(uid.as_deref(), Some("s1"));
        let shop = "system:serviceaccounts:shop";
        assert_eq!(groups, ["system:authenticated", "system:serviceaccounts", shop]);
        assert!(extra.is_empty(), "{extra:?}");
        let pod = pod.unwrap();
        let own = Pod { namespace: "shop".into(), name: "orders-1".into(), uid: "p1".into() };
        assert_eq!(pod, own);
    }
}

#[test]
fn token_without_a_pod_names_its_account_only() {
    let signer = Signer::es256("k");
    let published = published(&[&signer]);
    let account = json!({"name": "orders", "uid": "s1"});
    for bound in [json!({}), json!({"node": {"name": "n", "uid": "n1"}}), json!({"pod": null})] {
        let mut kubernetes = json!({"namespace": "shop", "serviceaccount": account});
        kubernetes.as_object_mut().unwrap().extend(bound.as_object().unwrap().clone());
        let token = signer.token(&with(&json!({"kubernetes.io": kubernetes})));
        assert_eq!(check(&token, &published, AT).unwrap().pod, None, "{kubernetes}");
    }
    // Further audiences are allowed, and a single audience can be a string instead of a list.
    for audience in [json!(["vault", "rollcall"]), json!("rollcall")] {
        let token = signer.token(&with(&json!({"aud": audience})));
        assert!(check(&token, &published, AT).is_ok(), "{audience}");
    }
}

#[test]
fn times_audience_and_account_of_a_token_are_checked() {
    let signer = Signer::es256("k");
    let published = published(&[&signer]);
    let account = |namespace: &str, name: &str, uid: &str| json!({"kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}});
    let until = |end: i64| json!({"exp": end});
    for (changes, reason) in [
        (until(NOW - 60), "it expired at 2027-01-15T07:59:00.000Z"),
        (until(0), "it expired at 1970-01-01"),
        (until(i64::MIN), "it expired at"),
        (json!({"exp": null}), "has no expiry time"),
        (json!({"exp": "2000000000"}), "its claims cannot be read"),
        (json!({"exp": 2e9}), "its claims cannot be read"),
        (json!({"nbf": NOW + 61}), "valid from 2027-01-15T08:01:01.000Z (nbf)"),
        (json!({"nbf": i64::MAX}), "(nbf)"),
        (json!({"iat": NOW + 61}), "(iat)"),
        (json!({"aud": [ISSUER]}), "for the audience \"https://kubernetes.default.svc\""),
        (json!({"aud": ["rollcall2"]}), "not for rollcall"),
        (json!({"aud": []}), "it has no audience"),
        (json!({"aud": null}), "it has no audience"),
        (json!({"aud": {"rollcall": true}}), "its claims cannot be read"),
        (
            json!({"sub": "system:serviceaccount:shop:admin"}),
            "its sub is \"system:serviceaccount:sh",
        ),
        (json!({"sub": null}), "its sub is \"\""),
        (json!({"kubernetes.io": null}), "does not name its ServiceAccount"),
        (account("till", "orders", "s1"), "but its ServiceAccount is"),
        (account("shop", "orders", ""), "does not name its ServiceAccount"),
        (account("", "orders", "s1"), "does not name its ServiceAccount"),
    ] {
        refused(&signer.token(&with(&changes)), &published, reason);
    }
    // Differences of clocks within the leeway are accepted.
    for changes in [until(NOW - 59), json!({"nbf": NOW + 60}), json!({"iat": NOW + 60})] {
        assert!(check(&signer.token(&with(&changes)), &published, AT).is_ok(), "{changes}");
    }
    let long = with(&json!({"aud": ["x".repeat(5000)]}));
    let Err(TokenError::Invalid(why)) = check(&signer.token(&long), &published, AT) else {
        panic!()
    };
    assert!(why.len() < 200, "the refusal quotes untrusted input in full: {why}");
}

#[test]
fn unknown_issuer_or_key_is_refused_as_unknown() {
    let (signer, unknown) = (Signer::es256("k"), Signer::es256("k2"));
    let published = published(&[&signer]);
    let issuer = with(&json!({"iss": "https://elsewhere.example"}));
    let none = with(&json!({"iss": null}));
    for (token, reason) in [
        (unknown.token(&claims()), "signed with the key \"k2\""),
        (signer.token(&issuer), "its issuer is \"https://elsewhere.example\""),
        (signer.token(&none), "its issuer is \"\""),
    ] {
        match check(&token, &published, AT) {
            Err(TokenError::UnknownKey(why)) => assert!(why.contains(reason), "{why}"),
            other => panic!("{other:?} instead of {reason:?}"),
        }
    }
    // A token that has expired, or has another audience, never makes rollcall read the keys again.
    for changes in [json!({"exp": NOW - 60}), json!({"aud": ["vault"]})] {
        let token = unknown.token(&with(&changes));
        assert!(matches!(check(&token, &published, AT), Err(TokenError::Invalid(_))));
    }
}

#[test]
fn signature_is_verified_with_the_named_key_and_its_algorithm_only() {
    let (rsa, p256, p384) = (Signer::rs256("rsa"), Signer::es256("p256"), Signer::es384("p384"));
    let (all, claims) = (published(&[&rsa, &p256, &p384]), claims().to_string());
    for (signer, header, reason) in [
        // Signed with another key than the header names.
        (&Signer::es256("p256"), json!({"alg": "ES256", "kid": "p256"}), "is not that of the key"),
        (&rsa, json!({"alg": "ES256", "kid": "p256"}), "is not that of the key"),
        (&p384, json!({"alg": "ES256", "kid": "p256"}), "is not that of the key"),
        // An algorithm that is not the key's.
        (&rsa, json!({"alg": "RS256", "kid": "p256"}), "the key \"p256\" is for ES256"),
        (&p256, json!({"alg": "ES256", "kid": "rsa"}), "the key \"rsa\" is for RS256"),
        (&p256, json!({"alg": "ES384", "kid": "p256"}), "the key \"p256\" is for ES256"),
        (&p256, json!({"alg": "ES256", "kid": "p384"}), "the key \"p384\" is for ES384"),
    ] {
        refused(&signer.token_of(&header.to_string(), &claims), &all, reason);
    }
}

#[test]
fn hmac_with_a_public_key_and_missing_signatures_are_refused() {
    for signer in [Signer::rs256("k"), Signer::es256("k")] {
        let published = published(&[&signer]);
        let body = encode(claims().to_string());
        for (alg, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384)] {
            let signed = format!("{}.{body}", encode(json!({"alg": alg, "kid": "k"}).to_string()));
            let tag = hmac::sign(&hmac::Key::new(algorithm, &signer.public()), signed.as_bytes());
            let reason = format!("its alg is \"{alg}\"");
            refused(&format!("{signed}.{}", encode(tag)), &published, &reason);
        }
        for alg in ["none", "None", "NONE", "", "rs256", "RS512", "PS256", "ES512", "EdDSA"] {
            let signed = format!("{}.{body}", encode(json!({"alg": alg, "kid": "k"}).to_string()));
            let reason = format!("its alg is \"{alg}\"");
            refused(&format!("{signed}."), &published, &reason);
            refused(
                &format!("{signed}.{}", encode(signer.sign(signed.as_bytes()))),
                &published,
                &reason,
            );
        }
        // With a supported algorithm, and a signature that is empty, zeros, or too long.
        let token = signer.token(&claims());
        let (signed, good) = token.rsplit_once('.').unwrap();
        for bad in [String::new(), encode([0; 64]), encode([0; 256]), format!("{good}AAAA")] {
            refused(&format!("{signed}.{bad}"), &published, "its signature is not that of the key");
        }
    }
}

#[test]
fn header_without_key_or_with_repeated_fields_is_refused() {
    let signer = Signer::es256("k");
    let (published, claims) = (published(&[&signer]), claims().to_string());
    for (header, reason) in [
        (r#"{"alg":"ES256"}"#, "does not name the key"),
        (r#"{"alg":"ES256","kid":""}"#, "does not name the key"),
        (r#"{"alg":"ES256","kid":null}"#, "does not name the key"),
        (r#"{"alg":"ES256","kid":7}"#, "its header cannot be read"),
        (r#"{"kid":"k"}"#, "its header cannot be read"),
        (r#"{"alg":"none","alg":"ES256","kid":"k"}"#, "duplicate field"),
        (r#"{"alg":"ES256","kid":"x","kid":"k"}"#, "duplicate field"),
        (r#"{"alg":"ES256","kid":"k","crit":["b64"],"b64":false}"#, "extensions (crit)"),
        (r#"{"alg":"ES256","kid":"k"} x"#, "its header cannot be read"),
        (r#"["ES256","k"]x"#, "its header cannot be read"),
        ("", "its header cannot be read"),
    ] {
        refused(&signer.token_of(header, &claims), &published, reason);
    }
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let twice = claims.replace("\"aud\":", "\"aud\":[\"vault\"],\"aud\":");
    refused(&signer.token_of(header, &twice), &published, "duplicate field");
    // A key inside the token is ignored.
    let own = Signer::es256("k");
    let brought = json!({"alg": "ES256", "kid": "k", "jwk": own.jwk(), "jku": "https://x.example"});
    refused(&own.token_of(&brought.to_string(), &claims), &published, "is not that of the key");
}

#[test]
fn truncated_padded_huge_or_modified_token_is_refused() {
    let signer = Signer::es256("k");
    let published = published(&[&signer]);
    let good = signer.token(&claims());
    assert!(check(&good, &published, AT).is_ok());
    for end in 0..good.len() {
        assert!(check(&good[..end], &published, AT).is_err(), "its first {end} characters");
    }
    for at in 0..good.len() {
        for other in ["A", "~", "=", ".", "é"] {
            let changed = format!("{}{other}{}", &good[..at], &good[at + 1..]);
            let same = changed == good;
            assert_eq!(check(&changed, &published, AT).is_ok(), same, "{other} at {at}");
        }
    }
    for (text, reason) in [
        (String::new(), "three parts"),
        ("opaque".to_owned(), "three parts"),
        ("a.b".to_owned(), "three parts"),
        (format!("{good}.{good}"), "three parts"),
        (format!("{good}=="), "is not base64url"),
        (format!("{good} "), "is not base64url"),
        (".".repeat(8192), "three parts"),
        ("..".to_owned(), "its header cannot be read"),
        (format!("{}.e30.", encode(r#"{"alg":"ES256","kid":"k"}"#)), "has no expiry time"),
    ] {
        refused(&text, &published, reason);
    }
    // As deeply nested as 8,192 characters allow: the parser limits the depth, so the stack does not overflow.
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    for (field, reason) in [("aud", "its claims cannot be read"), ("x", "has no expiry time")] {
        let token = signer.token_of(header, &format!("{{\"{field}\":{deep}}}"));
        refused(&token, &published, reason);
    }
}
