//! A Kubernetes client whose API server is a function, for unit tests of the modules that use the client.
//!
//! It answers reviews of tokens and access; every instance is unknown. `tests/integration` covers the behaviour of a real
//! API server.

use std::convert::Infallible;

use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Bytes};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower::service_fn;

/// A client of that API server.
pub fn client() -> Client {
    Client::new(service_fn(serve), "default")
}

async fn serve(request: Request<Body>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let sent = body.collect().await.unwrap().to_bytes();
    let sent: Value = serde_json::from_slice(&sent).unwrap_or_default();
    let (status, answer) = answer(&parts.method, parts.uri.path(), sent);
    let mut response = Response::new(Full::from(answer.to_string()));
    *response.status_mut() = status;
    Ok(response)
}

fn answer(method: &Method, path: &str, mut sent: Value) -> (StatusCode, Value) {
    match (method.as_str(), path.rsplit('/').next()) {
        ("POST", Some("tokenreviews")) => {
            let token = sent["spec"]["token"].as_str().unwrap_or_default().to_owned();
            sent["status"] = if token.starts_with("bad") {
                json!({"authenticated": false, "error": "no such token"})
            } else {
                let user = json!({"username": token, "uid": token, "groups": []});
                json!({"authenticated": true, "user": user, "audiences": ["rollcall"]})
            };
            (StatusCode::CREATED, sent)
        }
        ("POST", Some("subjectaccessreviews")) => {
            let is_weak = sent["spec"]["user"] == "weak";
            sent["status"] = json!({"allowed": !is_weak});
            (StatusCode::CREATED, sent)
        }
        _ => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "not found", "reason": "NotFound", "code": 404,
                "details": {"name": path.rsplit('/').next(), "kind": "serviceinstances", "group": "rollcall.dev"},
            });
            (StatusCode::NOT_FOUND, status)
        }
    }
}
