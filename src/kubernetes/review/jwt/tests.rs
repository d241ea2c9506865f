//! What counts as a token, and all that does not: each with its reason.

use ring::hmac;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::review::{
    Identity, Pod,
    mint::{ISSUER, NOW, Signer, claims, encode, published},
};

const AT: Wall = Wall(NOW * 1000);

fn check(token: &str, published: &Published, now: Wall) -> Result<Whose, Refusal> {
    Token::read(token).map_err(Refusal::Bad)?.whose(published, now)
}

/// Its claims, with some of them replaced, or taken away where they are null.
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

fn refused(token: &str, published: &Published, says: &str) {
    match check(token, published, AT) {
        Err(Refusal::Bad(why)) => assert!(why.contains(says), "no {says:?} in {why:?}"),
        other => panic!("{other:?} of {token}, and not {says:?}"),
    }
}

#[test]
fn a_token_is_its_accounts_and_its_pods_by_each_algorithm_that_kubernetes_signs_with() {
    for signer in [Signer::rs256("k"), Signer::es256("k"), Signer::es384("k")] {
        let Whose { identity, pod } =
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
fn a_token_that_no_pod_has_is_its_accounts_alone() {
    let signer = Signer::es256("k");
    let published = published(&[&signer]);
    let account = json!({"name": "orders", "uid": "s1"});
    for bound in [json!({}), json!({"node": {"name": "n", "uid": "n1"}}), json!({"pod": null})] {
        let mut kubernetes = json!({"namespace": "shop", "serviceaccount": account});
        kubernetes.as_object_mut().unwrap().extend(bound.as_object().unwrap().clone());
        let token = signer.token(&with(&json!({"kubernetes.io": kubernetes})));
        assert_eq!(check(&token, &published, AT).unwrap().pod, None, "{kubernetes}");
    }
    // Another audience beside ours does no harm, and one alone may stand without a list.
    for audience in [json!(["vault", "rollcall"]), json!("rollcall")] {
        let token = signer.token(&with(&json!({"aud": audience})));
        assert!(check(&token, &published, AT).is_ok(), "{audience}");
    }
}

#[test]
fn what_a_token_says_of_its_time_its_audience_and_its_account_has_to_fit() {
    let signer = Signer::es256("k");
    let published = published(&[&signer]);
    let account = |namespace: &str, name: &str, uid: &str| json!({"kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}}});
    let until = |end: i64| json!({"exp": end});
    for (changes, says) in [
        (until(NOW - 60), "it ended at 2027-01-15T07:59:00.000Z"),
        (until(0), "it ended at 1970-01-01"),
        (until(i64::MIN), "it ended at"),
        (json!({"exp": null}), "does not say when it ends"),
        (json!({"exp": "2000000000"}), "its claims cannot be read"),
        (json!({"exp": 2e9}), "its claims cannot be read"),
        (json!({"nbf": NOW + 61}), "begins at 2027-01-15T08:01:01.000Z (nbf)"),
        (json!({"nbf": i64::MAX}), "(nbf)"),
        (json!({"iat": NOW + 61}), "(iat)"),
        (json!({"aud": [ISSUER]}), "for the audience \"https://kubernetes.default.svc\""),
        (json!({"aud": ["rollcall2"]}), "and not for rollcall"),
        (json!({"aud": []}), "for the audience nobody"),
        (json!({"aud": null}), "for the audience nobody"),
        (json!({"aud": {"rollcall": true}}), "its claims cannot be read"),
        (json!({"sub": "system:serviceaccount:shop:admin"}), "it is of \"system:serviceaccount:sh"),
        (json!({"sub": null}), "it is of \"\" (sub)"),
        (json!({"kubernetes.io": null}), "which ServiceAccount it is of"),
        (account("till", "orders", "s1"), "it is of"),
        (account("shop", "orders", ""), "which ServiceAccount it is of"),
        (account("", "orders", "s1"), "which ServiceAccount it is of"),
    ] {
        refused(&signer.token(&with(&changes)), &published, says);
    }
    // Within what clocks may differ it is good.
    for changes in [until(NOW - 59), json!({"nbf": NOW + 60}), json!({"iat": NOW + 60})] {
        assert!(check(&signer.token(&with(&changes)), &published, AT).is_ok(), "{changes}");
    }
    let long = with(&json!({"aud": ["x".repeat(5000)]}));
    let Err(Refusal::Bad(why)) = check(&signer.token(&long), &published, AT) else { panic!() };
    assert!(why.len() < 200, "what a stranger wrote is said again in full: {why}");
}

#[test]
fn an_unknown_issuer_or_key_may_be_newer_than_what_is_known() {
    let (signer, stranger) = (Signer::es256("k"), Signer::es256("k2"));
    let published = published(&[&signer]);
    let issuer = with(&json!({"iss": "https://elsewhere.example"}));
    let none = with(&json!({"iss": null}));
    for (token, says) in [
        (stranger.token(&claims()), "signed with the key \"k2\""),
        (signer.token(&issuer), "of the issuer \"https://elsewhere.example\""),
        (signer.token(&none), "of the issuer \"\""),
    ] {
        match check(&token, &published, AT) {
            Err(Refusal::Unknown(why)) => assert!(why.contains(says), "{why}"),
            other => panic!("{other:?}, and not {says:?}"),
        }
    }
    // One that has ended, or is not for us, has nobody asked.
    for changes in [json!({"exp": NOW - 60}), json!({"aud": ["vault"]})] {
        let token = stranger.token(&with(&changes));
        assert!(matches!(check(&token, &published, AT), Err(Refusal::Bad(_))));
    }
}

#[test]
fn only_the_key_that_is_named_counts_and_only_for_its_own_algorithm() {
    let (rsa, p256, p384) = (Signer::rs256("rsa"), Signer::es256("p256"), Signer::es384("p384"));
    let (all, claims) = (published(&[&rsa, &p256, &p384]), claims().to_string());
    for (signer, header, says) in [
        // Signed with another key than is named.
        (&Signer::es256("p256"), json!({"alg": "ES256", "kid": "p256"}), "is not that of the key"),
        (&rsa, json!({"alg": "ES256", "kid": "p256"}), "is not that of the key"),
        (&p384, json!({"alg": "ES256", "kid": "p256"}), "is not that of the key"),
        // An algorithm that is not the key's.
        (&rsa, json!({"alg": "RS256", "kid": "p256"}), "the key \"p256\" is for ES256"),
        (&p256, json!({"alg": "ES256", "kid": "rsa"}), "the key \"rsa\" is for RS256"),
        (&p256, json!({"alg": "ES384", "kid": "p256"}), "the key \"p256\" is for ES256"),
        (&p256, json!({"alg": "ES256", "kid": "p384"}), "the key \"p384\" is for ES384"),
    ] {
        refused(&signer.token_of(&header.to_string(), &claims), &all, says);
    }
}

#[test]
fn a_public_key_is_no_secret_and_no_signature_is_none() {
    for signer in [Signer::rs256("k"), Signer::es256("k")] {
        let published = published(&[&signer]);
        let body = encode(claims().to_string());
        for (alg, algorithm) in [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384)] {
            let signed = format!("{}.{body}", encode(json!({"alg": alg, "kid": "k"}).to_string()));
            let tag = hmac::sign(&hmac::Key::new(algorithm, &signer.public()), signed.as_bytes());
            let says = format!("its alg is \"{alg}\"");
            refused(&format!("{signed}.{}", encode(tag)), &published, &says);
        }
        for alg in ["none", "None", "NONE", "", "rs256", "RS512", "PS256", "ES512", "EdDSA"] {
            let signed = format!("{}.{body}", encode(json!({"alg": alg, "kid": "k"}).to_string()));
            let says = format!("its alg is \"{alg}\"");
            refused(&format!("{signed}."), &published, &says);
            refused(
                &format!("{signed}.{}", encode(signer.sign(signed.as_bytes()))),
                &published,
                &says,
            );
        }
        // With an algorithm that is good, and nothing, noughts or too much for a signature.
        let token = signer.token(&claims());
        let (signed, good) = token.rsplit_once('.').unwrap();
        for bad in [String::new(), encode([0; 64]), encode([0; 256]), format!("{good}AAAA")] {
            refused(&format!("{signed}.{bad}"), &published, "its signature is not that of the key");
        }
    }
}

#[test]
fn a_header_says_each_thing_once_and_names_its_key() {
    let signer = Signer::es256("k");
    let (published, claims) = (published(&[&signer]), claims().to_string());
    for (header, says) in [
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
        refused(&signer.token_of(header, &claims), &published, says);
    }
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    let twice = claims.replace("\"aud\":", "\"aud\":[\"vault\"],\"aud\":");
    refused(&signer.token_of(header, &twice), &published, "duplicate field");
    // A key that a token brings along is not looked at.
    let own = Signer::es256("k");
    let brought = json!({"alg": "ES256", "kid": "k", "jwk": own.jwk(), "jku": "https://x.example"});
    refused(&own.token_of(&brought.to_string(), &claims), &published, "is not that of the key");
}

#[test]
fn what_is_torn_padded_huge_or_changed_anywhere_is_refused() {
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
    for (text, says) in [
        (String::new(), "three parts"),
        ("opaque".to_owned(), "three parts"),
        ("a.b".to_owned(), "three parts"),
        (format!("{good}.{good}"), "three parts"),
        (format!("{good}=="), "is no base64url"),
        (format!("{good} "), "is no base64url"),
        (".".repeat(8192), "three parts"),
        ("..".to_owned(), "its header cannot be read"),
        (format!("{}.e30.", encode(r#"{"alg":"ES256","kid":"k"}"#)), "does not say when it ends"),
    ] {
        refused(&text, &published, says);
    }
    // As deep as eight thousand characters can be: the parser has a bound, and no stack is lost.
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let header = r#"{"alg":"ES256","kid":"k"}"#;
    for (field, says) in [("aud", "its claims cannot be read"), ("x", "does not say when it ends")]
    {
        let token = signer.token_of(header, &format!("{{\"{field}\":{deep}}}"));
        refused(&token, &published, says);
    }
}
