//! Reads what the API server publishes about the tokens that it signs: the name of the issuer, and the keys.
//!
//! Source: <https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery>.
//! Owns: the two requests, their deadlines, how much is read of an answer, what a refusal means. Does not
//! own: when to read (`keyring`), decoding keys (`keys`).

use std::{error::Error, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{Request, StatusCode};
use kube::{Client, client::Body, core::Status};
use serde::{Deserialize, de::Error as _};

use crate::kubernetes::{
    breaker::Breaker, call::GuardedCalls, failure::Failure, review::keys::Keys,
};
use crate::telemetry::metrics::ApiMetrics;

/// The path of the issuer's name.
const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// The path of the keys. The configuration may contain another address, which is for clients outside of the cluster.
const KEYS: &str = "/openid/v1/jwks";

/// The deadline of each request.
const READ_WITHIN: Duration = Duration::from_secs(3);

/// Maximum length of an answer. An RSA key of 4,096 bits takes about 800 bytes, so there is space for 80 keys.
const MAX_ANSWER: usize = 64 * 1024;

/// The issuer and keys that tokens are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Published {
    /// The `iss` claim of its tokens.
    pub(super) issuer: Box<str>,
    pub(super) keys: Keys,
}

/// Sends the requests. Does not retry.
pub(super) struct Issuer {
    client: Client,
    configuration: GuardedCalls,
    keys: GuardedCalls,
}

#[derive(Deserialize)]
struct Configuration {
    issuer: Box<str>,
}

impl Issuer {
    pub(super) fn new(client: Client, metrics: &ApiMetrics, breaker: &Breaker) -> Self {
        let guarded = |path| GuardedCalls {
            metrics: metrics.for_resource(path, &["get"]),
            breaker: breaker.clone(),
        };
        Self { client, configuration: guarded(CONFIGURATION), keys: guarded(KEYS) }
    }

    /// What the API server publishes now, and for each key that cannot be used, why not.
    ///
    /// # Errors
    /// When a request failed, or no token could be verified with the answers.
    pub(super) async fn read(&self) -> Result<(Published, Vec<String>), Failure> {
        // One after the other: an open breaker admits one call at a time, so one of two concurrent requests would
        // always fail, and the read with it.
        let configuration = self.get(&self.configuration, CONFIGURATION).await?;
        let keys = self.get(&self.keys, KEYS).await?;
        let unreadable = |path: &str, why: &str| Failure::Unreadable(format!("{path}: {why}"));
        let Configuration { issuer } = serde_json::from_slice(&configuration)
            .map_err(|error| unreadable(CONFIGURATION, &error.to_string()))?;
        if issuer.is_empty() {
            return Err(unreadable(CONFIGURATION, "it names no issuer"));
        }
        let (keys, unused) =
            Keys::decode(&keys).map_err(|error| unreadable(KEYS, &error.to_string()))?;
        if keys.len() == 0 {
            let why = format!("it contains no key that rollcall can use: {}", unused.join("; "));
            return Err(unreadable(KEYS, &why));
        }
        Ok((Published { issuer, keys }, unused))
    }

    async fn get(&self, calls: &GuardedCalls, path: &'static str) -> Result<Bytes, Failure> {
        calls.call("get", READ_WITHIN, self.fetch(path)).await
    }

    /// Has no deadline of its own: the caller sets one.
    async fn fetch(&self, path: &'static str) -> Result<Bytes, kube::Error> {
        let request = Request::get(path).body(Body::empty()).map_err(kube::Error::HttpError)?;
        let (head, body) = self.client.send(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(body_error)?.to_bytes();
        if head.status.is_success() { Ok(body) } else { Err(refusal(path, head.status, &body)) }
    }
}

/// The error for an incomplete body: it is too long, or the connection broke.
fn body_error(error: Box<dyn Error + Send + Sync>) -> kube::Error {
    if error.is::<LengthLimitError>() {
        return kube::Error::SerdeError(serde_json::Error::custom(TOO_LONG));
    }
    kube::Error::Service(error)
}

const TOO_LONG: &str = "the answer is longer than 64 KiB";

/// The API server's own message; for a path that it does not serve (404), a message with the fix.
fn refusal(path: &str, code: StatusCode, body: &[u8]) -> kube::Error {
    let status = if code == StatusCode::NOT_FOUND {
        let why = format!(
            "this API server does not serve {path}, so it does not publish its keys: set its issuer \
             (--service-account-issuer) to an https URL, or run rollcall with --auth-tokens review"
        );
        Status::failure(&why, "NotFound")
    } else {
        let says = |_| Status::failure(&String::from_utf8_lossy(body), "Unknown");
        serde_json::from_slice(body).unwrap_or_else(says)
    };
    kube::Error::Api(status.with_code(code.as_u16()).boxed())
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinHandle,
    };

    use super::*;
    use crate::kubernetes::{
        breaker::Breakers,
        review::mint::{ISSUER, Signer},
    };
    use crate::telemetry::problems::ProblemTracker;

    /// Status and body for a path.
    type Answers = fn(&str) -> (u16, String);

    fn jwks() -> Value {
        json!({"keys": [Signer::es256("k").jwk()]})
    }

    fn configuration() -> Value {
        json!({"issuer": ISSUER, "jwks_uri": "https://10.0.0.1:6443/openid/v1/jwks"})
    }

    /// Starts an API server with these answers, and returns its URL.
    async fn serve(answers: Answers) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                let size = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..size]).into_owned();
                let (code, body) = answers(head.split(' ').nth(1).unwrap());
                let size = body.len();
                let head = format!(
                    "HTTP/1.1 {code} X\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n"
                );
                // The client closes the connection when it has read enough.
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        (url, server)
    }

    fn issuer(url: &str, breaker: &Breaker) -> Issuer {
        let mut config = kube::Config::new(url.parse().unwrap());
        config.default_retry = false; // as in `client::connect`
        let client = Client::try_from(config).unwrap();
        Issuer::new(
            client,
            &ApiMetrics::new(&mut Registry::default(), ProblemTracker::default()),
            breaker,
        )
    }

    /// Reads from an API server with these answers.
    async fn read(answers: Answers) -> Result<(Published, Vec<String>), Failure> {
        let (url, server) = serve(answers).await;
        let breaker = Breakers::new(&mut Registry::default()).reviews;
        let read = issuer(&url, &breaker).read().await;
        server.abort();
        read
    }

    #[tokio::test]
    async fn issuer_and_keys_are_read_from_the_api_server_itself() {
        let (published, unused) = read(|path| match path {
            CONFIGURATION => (200, configuration().to_string()),
            KEYS => (200, jwks().to_string()),
            _ => (500, String::new()),
        })
        .await
        .unwrap();
        assert_eq!((&*published.issuer, published.keys.len(), unused), (ISSUER, 1, Vec::new()));
    }

    #[tokio::test]
    async fn reading_the_keys_closes_an_open_breaker_when_the_api_server_answers_again() {
        let breaker = Breakers::new(&mut Registry::default()).reviews;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let unreachable = issuer(&format!("http://{closed}"), &breaker);
        for _ in 0..10 {
            unreachable.read().await.unwrap_err();
        }
        let (url, _server) = serve(|path| match path {
            KEYS => (200, jwks().to_string()),
            _ => (200, configuration().to_string()),
        })
        .await;
        let reachable = issuer(&url, &breaker);
        for _ in 0..100 {
            if reachable.read().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the breaker stays open");
    }

    #[tokio::test]
    async fn unusable_answer_is_an_error_that_names_the_fault() {
        let cases: [(Answers, &str); 7] = [
            (|_| (404, "404 page not found".to_owned()), "--service-account-issuer"),
            (
                |_| (403, r#"{"code": 403, "message": "User cannot get path"}"#.to_owned()),
                "refused with 403: User cannot get path",
            ),
            (|_| (503, "out of order".to_owned()), "too slow: out of order"),
            (|_| (200, "x".repeat(MAX_ANSWER + 1)), "longer than 64 KiB"),
            (|_| (200, "{".to_owned()), CONFIGURATION),
            (
                |path| match path {
                    KEYS => (200, r#"{"keys": [{"kty": "oct", "kid": "a"}]}"#.to_owned()),
                    _ => (200, configuration().to_string()),
                },
                "no key that rollcall can use: the key \"a\" has a type",
            ),
            (
                |path| match path {
                    KEYS => (200, jwks().to_string()),
                    _ => (200, r#"{"issuer": ""}"#.to_owned()),
                },
                "it names no issuer",
            ),
        ];
        for (answers, expected) in cases {
            let error = read(answers).await.unwrap_err().to_string();
            assert!(error.contains(expected), "no {expected:?} in {error:?}");
        }
    }
}
