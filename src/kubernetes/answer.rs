//! An answer of the API server with its HTTP status.
//!
//! kube's client drops the status of a success, but only the status distinguishes a server-side apply that created an
//! object (201) from one that changed it (200). Owns: reading the answer. Does not own: the request, its deadline
//! (`call`), what a failure means (`failure`).

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{Request, StatusCode};
use kube::{Client, client::Body, core::Status};
use serde::de::{DeserializeOwned, Error as _};

/// Maximum length of an answer about one object: etcd stores at most 1.5 MiB, and JSON escapes make the text longer.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// The object in a successful answer, and the HTTP status.
#[derive(Debug)]
pub(super) struct ApiAnswer<T> {
    pub(super) value: T,
    pub(super) status: StatusCode,
}

/// Sends a request. The caller's deadline bounds it.
///
/// # Errors
/// As `Client::request`.
pub(super) async fn send_request<T: DeserializeOwned>(
    client: &Client,
    request: Request<Vec<u8>>,
) -> Result<ApiAnswer<T>, kube::Error> {
    let (head, body) = client.send(request.map(Body::from)).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(body_error)?.to_bytes();
    decode(head.status, &body)
}

fn decode<T: DeserializeOwned>(
    status: StatusCode,
    body: &[u8],
) -> Result<ApiAnswer<T>, kube::Error> {
    if !status.is_success() {
        return Err(api_error(status, body));
    }
    let value = serde_json::from_slice(body).map_err(kube::Error::SerdeError)?;
    Ok(ApiAnswer { value, status })
}

fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> kube::Error {
    if error.is::<LengthLimitError>() {
        return kube::Error::SerdeError(serde_json::Error::custom(
            "the answer is longer than 8 MiB",
        ));
    }
    kube::Error::Service(error)
}

/// The API server's Status object. Where the body holds none (a proxy answered, or the path is not served), one is made
/// from the HTTP status.
fn api_error(code: StatusCode, body: &[u8]) -> kube::Error {
    let status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| {
        Status::failure(String::from_utf8_lossy(body).trim(), "Failed to parse error data")
    });
    kube::Error::Api(status.with_code(code.as_u16()).boxed())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::kubernetes::failure::Failure;

    fn failure(code: u16, body: &str) -> Failure {
        decode::<Value>(StatusCode::from_u16(code).unwrap(), body.as_bytes()).unwrap_err().into()
    }

    #[test]
    fn status_distinguishes_created_from_changed() {
        for status in [StatusCode::OK, StatusCode::CREATED] {
            let answer = decode::<Value>(status, b"{\"a\": 1}").unwrap();
            assert_eq!((answer.status, &answer.value["a"]), (status, &Value::from(1)));
        }
    }

    #[test]
    fn errors_map_to_the_same_failures_as_with_kubes_client() {
        let conflict =
            "{\"kind\": \"Status\", \"reason\": \"Conflict\", \"message\": \"m\", \"code\": 409}";
        assert_eq!(failure(409, conflict), Failure::Conflict("m".to_owned()));
        assert_eq!(failure(404, "404 page not found\n"), Failure::Unserved);
        assert_eq!(failure(503, "<html>"), Failure::Unavailable("<html>".to_owned()));
        let truncated = decode::<Value>(StatusCode::OK, b"{").unwrap_err();
        assert!(matches!(Failure::from(truncated), Failure::Unreadable(_)));
    }
}
