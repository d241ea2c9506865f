//! The kinds of problems: their statuses, their types (for programs), and their titles (for people).

use hyper::StatusCode;

/// The prefix of every `type`. Unlike a URL, a tag URI (RFC 4151) does not promise a page that explains it.
const TYPE_PREFIX: &str = "tag:rollcall.dev,2026:";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum ProblemKind {
    IllegalName,
    BadQuery,
    BadHeader,
    BadBody,
    SlowBody,
    /// The request has no usable token.
    Unauthenticated,
    /// The request has a token that the API server does not accept.
    BadToken,
    Forbidden,
    UnknownRoute,
    MethodNotAllowed,
    UnknownInstance,
    UnknownNamespace,
    NotAcceptable,
    Evicted,
    Terminating,
    OtherIncarnation,
    OtherVersion,
    TooLarge,
    WrongContentType,
    BadFields,
    NotSynced,
    Behind,
    TooManyRequests,
    Overloaded,
    TooManySubscribers,
    Unavailable,
    /// A bug in rollcall.
    Internal,
    /// The API server or this replica refused the request with this status.
    Refused(u16),
}

impl ProblemKind {
    /// All kinds; `Refused` occurs once for all its statuses.
    pub(in crate::http) const ALL: [Self; 28] = [
        Self::IllegalName,
        Self::BadQuery,
        Self::BadHeader,
        Self::BadBody,
        Self::SlowBody,
        Self::Unauthenticated,
        Self::BadToken,
        Self::Forbidden,
        Self::UnknownRoute,
        Self::MethodNotAllowed,
        Self::UnknownInstance,
        Self::UnknownNamespace,
        Self::NotAcceptable,
        Self::Evicted,
        Self::Terminating,
        Self::OtherIncarnation,
        Self::OtherVersion,
        Self::TooLarge,
        Self::WrongContentType,
        Self::BadFields,
        Self::NotSynced,
        Self::Behind,
        Self::TooManyRequests,
        Self::Overloaded,
        Self::TooManySubscribers,
        Self::Unavailable,
        Self::Internal,
        Self::Refused(403),
    ];

    /// The statuses that are passed on: those of the Kubernetes API, and 421, which this replica returns.
    const PASSED_ON: [u16; 5] = [400, 403, 409, 421, 422];

    pub(in crate::http) fn status(self) -> StatusCode {
        match self {
            Self::IllegalName | Self::BadQuery | Self::BadHeader | Self::BadBody => {
                StatusCode::BAD_REQUEST
            }
            Self::UnknownRoute | Self::UnknownInstance | Self::UnknownNamespace => {
                StatusCode::NOT_FOUND
            }
            Self::Unauthenticated | Self::BadToken => StatusCode::UNAUTHORIZED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Evicted => StatusCode::GONE,
            Self::Terminating => StatusCode::CONFLICT,
            Self::OtherIncarnation | Self::OtherVersion => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::WrongContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BadFields => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotSynced
            | Self::Behind
            | Self::TooManySubscribers
            | Self::Overloaded
            | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            // A webhook of the cluster can refuse with any status; only those in the contract are passed on.
            Self::Refused(status) if Self::PASSED_ON.contains(&status) => {
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY)
            }
            Self::Forbidden | Self::Refused(400..500) => StatusCode::FORBIDDEN,
            Self::Refused(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// The `type` member of the problem.
    pub(in crate::http) fn uri(self) -> String {
        format!("{TYPE_PREFIX}{}", self.slug())
    }

    /// The last part of its `type`.
    pub(in crate::http) const fn slug(self) -> &'static str {
        match self {
            Self::IllegalName => "illegal-name",
            Self::BadQuery => "bad-query",
            Self::BadHeader => "bad-header",
            Self::BadBody => "bad-body",
            Self::SlowBody => "slow-body",
            Self::Unauthenticated => "unauthenticated",
            Self::BadToken => "bad-token",
            Self::Forbidden => "forbidden",
            Self::UnknownRoute => "unknown-route",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::UnknownInstance => "unknown-instance",
            Self::UnknownNamespace => "unknown-namespace",
            Self::NotAcceptable => "not-acceptable",
            Self::Evicted => "evicted",
            Self::Terminating => "terminating",
            Self::OtherIncarnation => "other-incarnation",
            Self::OtherVersion => "other-version",
            Self::TooLarge => "too-large",
            Self::WrongContentType => "wrong-content-type",
            Self::BadFields => "bad-fields",
            Self::NotSynced => "not-synced",
            Self::TooManyRequests => "too-many-requests",
            Self::Overloaded => "overloaded",
            Self::Behind => "behind",
            Self::TooManySubscribers => "too-many-subscribers",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::Refused(_) => "refused",
        }
    }

    pub(in crate::http) const fn title(self) -> &'static str {
        match self {
            Self::IllegalName => "A name in the path is not valid",
            Self::BadQuery => "The query is not valid",
            Self::BadHeader => "A header is not valid",
            Self::BadBody => "The body is not valid JSON",
            Self::SlowBody => "The body did not arrive in time",
            Self::Unauthenticated => "A bearer token is needed",
            Self::BadToken => "The token is not accepted",
            Self::Forbidden => "The caller is not allowed to do this",
            Self::UnknownRoute => "No such path",
            Self::MethodNotAllowed => "Method not allowed",
            Self::UnknownInstance => "No such instance",
            Self::UnknownNamespace => "No such namespace",
            Self::NotAcceptable => "This page is HTML only",
            Self::Evicted => "The instance was evicted",
            Self::Terminating => "The instance is being deleted",
            Self::OtherIncarnation => "Another incarnation has this name",
            Self::OtherVersion => "The instance does not have this version",
            Self::TooLarge => "The body is too large",
            Self::WrongContentType => "The body must be uncompressed JSON",
            Self::BadFields => "Some fields are invalid",
            Self::NotSynced => "This replica has not read all instances yet",
            Self::TooManyRequests => "Too many requests",
            Self::Overloaded => "This replica is at capacity",
            Self::Behind => "This replica has not reached that index yet",
            Self::TooManySubscribers => "This replica has too many subscribers",
            Self::Unavailable => "Rollcall cannot use the Kubernetes API at the moment",
            Self::Internal => "Internal error",
            Self::Refused(421) => "This replica serves another namespace",
            Self::Refused(502) => "The stored object cannot be read",
            Self::Refused(_) => "The request was refused",
        }
    }
}
