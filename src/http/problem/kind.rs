//! The kinds of problems: their statuses, their types for programs, and their titles for people.

use hyper::StatusCode;

/// Names the kinds. A tag URI (RFC 4151) promises no page behind it, as a URL would.
const TYPE: &str = "tag:rollcall.dev,2026:";

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Kind {
    IllegalName,
    BadQuery,
    BadHeader,
    BadBody,
    SlowBody,
    /// No token.
    Unauthenticated,
    /// A token that is not accepted.
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
    /// The fault is ours.
    Internal,
    /// As the API server said, with its status.
    Refused(u16),
}

impl Kind {
    /// Each kind once.
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

    /// The statuses with which something is refused for a reason of Kubernetes' own, or (421) of this replica's.
    const REFUSED: [u16; 5] = [400, 403, 409, 421, 422];

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
            // What the API server answers is passed on only as far as the contract knows it: a webhook of the
            // cluster may refuse with any status.
            Self::Refused(status) if Self::REFUSED.contains(&status) => {
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY)
            }
            Self::Forbidden | Self::Refused(400..500) => StatusCode::FORBIDDEN,
            Self::Refused(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// Its `type`.
    pub(in crate::http) fn uri(self) -> String {
        format!("{TYPE}{}", self.words().0)
    }

    pub(in crate::http) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::IllegalName => ("illegal-name", "A name in the path is not legal"),
            Self::BadQuery => ("bad-query", "The query cannot be understood"),
            Self::BadHeader => ("bad-header", "A header cannot be understood"),
            Self::BadBody => ("bad-body", "The body is not the JSON that was expected"),
            Self::SlowBody => ("slow-body", "The body did not arrive in time"),
            Self::Unauthenticated => ("unauthenticated", "It has to be known who is calling"),
            Self::BadToken => ("bad-token", "The token is not accepted"),
            Self::Forbidden => ("forbidden", "The caller may not do this"),
            Self::UnknownRoute => ("unknown-route", "There is nothing at this path"),
            Self::MethodNotAllowed => ("method-not-allowed", "Not with this method"),
            Self::UnknownInstance => ("unknown-instance", "There is no such instance"),
            Self::UnknownNamespace => ("unknown-namespace", "There is no such namespace"),
            Self::NotAcceptable => ("not-acceptable", "It is to be had as HTML only"),
            Self::Evicted => ("evicted", "The instance was evicted"),
            Self::Terminating => ("terminating", "The instance is being deleted"),
            Self::OtherIncarnation => ("other-incarnation", "Another incarnation bears this name"),
            Self::OtherVersion => ("other-version", "The instance has changed since"),
            Self::TooLarge => ("too-large", "The body is too large"),
            Self::WrongContentType => ("wrong-content-type", "The body must be plain JSON"),
            Self::BadFields => ("bad-fields", "Some fields are not as they must be"),
            Self::NotSynced => ("not-synced", "This replica has only just started"),
            Self::TooManyRequests => ("too-many-requests", "This is more than may be asked for"),
            Self::Overloaded => ("overloaded", "This replica has as much to do as it can take"),
            Self::Behind => ("behind", "This replica has not seen that yet"),
            Self::TooManySubscribers => {
                ("too-many-subscribers", "This replica has as many subscribers as it can take")
            }
            Self::Unavailable => ("unavailable", "Kubernetes cannot be asked just now"),
            Self::Internal => ("internal", "This replica failed"),
            Self::Refused(_) => ("refused", "This is refused"),
        }
    }
}
