//! `GET /`: an overview page for browsers.
//!
//! Owns: its HTML, which has no scripts and loads no other resources. Does not own: the operations (`table`), and the
//! right to list services (`access`).

use std::{fmt::Write as _, sync::Arc};

use axum::{body::Body, extract::State};
use hyper::{
    HeaderMap, StatusCode,
    header::{
        ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
    },
};
use rollcall_model::{instance::Phase, view::View};

use crate::http::{
    access::bearer_token,
    answer::{Answer, HandlerResult},
    app::AppState,
    operation::{Group, Operation},
    problem::{Flaw, Problem, ProblemKind},
    query::Query,
};

/// The maximum number of services on the page, at about 300 bytes each.
const MAX_SERVICES: usize = 200;

/// The content security policy: the page has inline styles and nothing else.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;margin:2em auto;max-width:64em;padding:0 1em}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2em .8em .2em 0;\
border-bottom:1px solid #8884}code{font:14px ui-monospace,monospace;overflow-wrap:anywhere}.n{text-align:right}";

/// `GET /`. The page shows services only to callers with the right to list them.
pub(super) async fn page(
    State(app): State<Arc<AppState>>,
    Query(()): Query<()>,
    headers: HeaderMap,
) -> HandlerResult {
    if !accepts_html(&headers) {
        let flaw =
            Flaw::header("Accept", "this page is text/html only; programs can use /openapi.json");
        return Err(Problem::from_flaws(ProblemKind::NotAcceptable, vec![flaw]));
    }
    let may_list = app.authorization.may_list_all(bearer_token(&headers)).await;
    let html = Body::from(html(&app, may_list));
    Ok(Answer::new(StatusCode::OK, "text/html; charset=utf-8", html)
        .with_static(CACHE_CONTROL, "no-store")
        .with_static(CONTENT_SECURITY_POLICY, CONTENT_POLICY)
        .with_static(REFERRER_POLICY, "no-referrer")
        .with_static(X_FRAME_OPTIONS, "DENY")
        .with_static(VARY, "Accept, Authorization"))
}

/// Whether `Accept` allows HTML (RFC 9110 §12.5.1): the most specific range decides.
fn accepts_html(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = fields.flat_map(|field| field.split(','));
    let mut best = None;
    for range in ranges {
        let mut parts = range.split(';').map(str::trim);
        let specificity = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "" => continue,
            "text/html" => 3,
            "text/*" => 2,
            "*/*" => 1,
            _ => 0,
        };
        let weight =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let is_acceptable =
            weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0));
        best = best.max(Some((specificity, specificity > 0 && is_acceptable)));
    }
    best.is_none_or(|(_, accepts)| accepts)
}

fn html(app: &AppState, may_list: bool) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let (replica, zone, version) =
        (Escaped(&app.identity), Escaped(&app.zone), env!("CARGO_PKG_VERSION"));
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>rollcall: {replica}</title>\
         <style>{STYLE}</style></head>\n<body>\n<h1>rollcall</h1>\n<p>{}. This is replica \
         <strong>{replica}</strong>, version {version}, DNS zone <code>{zone}</code>. For programs: \
         <a href=\"openapi.json\">openapi.json</a>. Status: <a href=\"v1/cluster\">all replicas</a>.</p>\n",
        Escaped(env!("CARGO_PKG_DESCRIPTION")),
    );
    write_services(&mut out, app, may_list);
    out.push_str(&(app.calls)());
    out.push_str("</body>\n</html>\n");
    out
}

fn write_services(out: &mut String, app: &AppState, may_list: bool) {
    out.push_str("<h2>Services</h2>\n");
    if !may_list {
        out.push_str(
            "<p>Listing services needs a token (<code>--read-auth</code>): send \
             <code>Authorization: Bearer</code> with a token for the audience rollcall whose user has the right to \
             <code>list serviceinstances</code>. <code>kubectl create token NAME --audience rollcall</code> \
             makes one.</p>\n",
        );
        return;
    }
    if !app.intake.directory().is_synced() {
        out.push_str(
            "<p>This replica has not read all instances yet; reload the page in a moment.</p>\n",
        );
        return;
    }
    let mut views = app.intake.directory().views_in(None);
    views.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    if views.is_empty() {
        out.push_str("<p>There are no services yet.</p>\n");
        return;
    }
    out.push_str("<table>\n<tr><th>namespace</th><th>service</th>");
    for phase in Phase::ALL {
        let _ = write!(out, "<th class=\"n\">{phase}</th>");
    }
    out.push_str("</tr>\n");
    views.iter().take(MAX_SERVICES).for_each(|view| write_service(out, view));
    out.push_str("</table>\n");
    if let Some(more) = views.len().checked_sub(MAX_SERVICES).filter(|more| *more > 0) {
        let _ = writeln!(
            out,
            "<p>{more} more services are not shown: <a href=\"v1/services\">list all services</a>.</p>"
        );
    }
}

fn write_service(out: &mut String, view: &Arc<View>) {
    let (namespace, service) = (Escaped(&view.key.namespace), Escaped(&view.key.service));
    let _ = write!(
        out,
        "<tr><td><a href=\"v1/namespaces/{namespace}/services\">{namespace}</a></td><td>\
         <a href=\"v1/namespaces/{namespace}/services/{service}?health=any\">{service}</a></td>"
    );
    for phase in Phase::ALL {
        let _ = write!(out, "<td class=\"n\">{}</td>", view.count(*phase));
    }
    out.push_str("</tr>\n");
}

/// The list of all operations, as HTML.
pub(super) fn operations_html(operations: &[Operation]) -> String {
    let mut out = "<h2>API</h2>\n".to_owned();
    for group in Group::ALL {
        let _ = writeln!(out, "<h3>{}</h3>\n<table>", group.name());
        for operation in operations.iter().filter(|operation| operation.group == group) {
            let (path, summary) = (Escaped(operation.route.template()), Escaped(operation.summary));
            let _ = writeln!(
                out,
                "<tr><td><code>{}</code></td><td><code>{path}</code></td><td>{summary}</td></tr>",
                operation.method
            );
        }
        out.push_str("</table>\n");
    }
    out
}

/// Text, escaped for HTML.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::table::OPERATIONS;

    #[test]
    fn accept_must_allow_html() {
        for (accept, accepts) in [
            (&[][..], true),
            (&["text/html,application/xhtml+xml,*/*;q=0.8"], true),
            (&["*/*"], true),
            (&["text/*;q=0.1"], true),
            (&["application/json"], false),
            (&["application/json", "text/html"], true),
            (&["text/html;q=0, */*"], false),
            (&["TEXT/HTML; Q=1"], true),
            (&["*/*;q=0"], false),
            (&[""], true),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            assert_eq!(accepts_html(&headers), accepts, "{accept:?}");
        }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(
            Escaped("<a href=\"x\">'&").to_string(),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;"
        );
    }

    #[test]
    fn page_lists_every_operation() {
        let out = operations_html(&OPERATIONS);
        for operation in &OPERATIONS {
            assert!(
                out.contains(operation.route.template()) && out.contains(operation.method.as_str()),
                "{}",
                operation.id
            );
        }
        assert_eq!(out.matches("<tr>").count(), OPERATIONS.len());
    }
}
