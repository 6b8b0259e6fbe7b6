//! Refusals as gRPC statuses with details that programs can read.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::committer::SubmitError;
use crate::convert::FieldError;

/// The domain of every reason.
pub const DOMAIN: &str = "headroom";
/// Reason: the session was superseded, has lapsed, or belongs to another generation.
pub const SESSION_STALE: &str = "SESSION_STALE";
/// Reason: the node was removed from the deployment.
pub const REVOKED: &str = "REVOKED";
/// Reason: the service takes no requests: its store failed or it is ending.
pub const STOPPED: &str = "STOPPED";

/// `INVALID_ARGUMENT` that names the field.
#[must_use]
pub fn bad_field(field: impl Into<String>, description: impl Into<String>) -> Status {
    let (field, description) = (field.into(), description.into());
    let text = format!("{field}: {description}");
    Status::with_error_details(
        Code::InvalidArgument,
        text,
        ErrorDetails::with_bad_request_violation(field, description),
    )
}

/// `RESOURCE_EXHAUSTED` that says when to come back.
#[must_use]
pub fn overloaded(retry_after: Duration) -> Status {
    exhausted(format!("the service is overloaded: retry after {} ms", retry_after.as_millis()), retry_after)
}

/// `RESOURCE_EXHAUSTED` for one who asked too often, with the time after which he may again.
#[must_use]
pub fn limited(text: impl Into<String>, retry_after: Duration) -> Status {
    exhausted(text.into(), retry_after)
}

fn exhausted(text: String, retry_after: Duration) -> Status {
    Status::with_error_details(
        Code::ResourceExhausted,
        text,
        ErrorDetails::with_retry_info(Some(retry_after)),
    )
}

/// `FAILED_PRECONDITION` with a reason that programs can read.
#[must_use]
pub fn precondition(reason: &str, text: impl Into<String>) -> Status {
    reasoned(Code::FailedPrecondition, reason, text)
}

/// Any code with a reason that programs can read.
#[must_use]
pub fn reasoned(code: Code, reason: &str, text: impl Into<String>) -> Status {
    Status::with_error_details(code, text, ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new()))
}

/// `PERMISSION_DENIED`, for a node that was removed; it is told so inside TLS.
#[must_use]
pub fn revoked() -> Status {
    reasoned(Code::PermissionDenied, REVOKED, "revoked: this node does not belong to the deployment")
}

/// `UNAVAILABLE`, for a store that failed or a service that is ending.
#[must_use]
pub fn unavailable(text: impl Into<String>) -> Status {
    reasoned(Code::Unavailable, STOPPED, text)
}

impl From<FieldError> for Status {
    fn from(error: FieldError) -> Self {
        bad_field(error.field, error.description)
    }
}

impl From<SubmitError> for Status {
    fn from(error: SubmitError) -> Self {
        let text = error.to_string();
        match error {
            SubmitError::Overloaded { retry_after, .. } => exhausted(text, retry_after),
            // Dropped undecided: the queue is slow, so the same time again is a fair guess.
            SubmitError::Expired { limit, .. } => exhausted(text, limit),
            SubmitError::Stopped => unavailable(text),
        }
    }
}

/// The reason of a status from a Headroom service.
#[must_use]
pub fn reason(status: &Status) -> Option<String> {
    status
        .get_error_details()
        .error_info()
        .filter(|info| info.domain == DOMAIN)
        .map(|info| info.reason.clone())
}

/// When an overloaded service wants to be asked again.
#[must_use]
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info().and_then(|info| info.retry_delay)
}

/// The field a service found at fault, with what is wrong with it.
#[must_use]
pub fn field(status: &Status) -> Option<FieldError> {
    let details = status.get_error_details();
    let violation = details.bad_request()?.field_violations.first()?;
    Some(FieldError::new(violation.field.clone(), &violation.description))
}

/// Whether the request ran out of time. A client's own limit arrives as `CANCELLED`.
#[must_use]
pub fn timed_out(status: &Status) -> bool {
    match status.code() {
        Code::DeadlineExceeded => true,
        Code::Cancelled => status.message().contains("Timeout expired"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named_in_text_and_details() {
        let status = Status::from(FieldError::new("legs[0].protocol", "must be given"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "legs[0].protocol: must be given");
        assert_eq!(field(&status), Some(FieldError::new("legs[0].protocol", "must be given")));
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let status = overloaded(Duration::from_millis(1500));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(retry_after(&status), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn a_reason_is_readable_and_another_domains_reason_is_not_taken_for_ours() {
        assert_eq!(reason(&precondition(SESSION_STALE, "superseded")).as_deref(), Some(SESSION_STALE));
        assert_eq!(reason(&revoked()).as_deref(), Some(REVOKED));
        assert_eq!(reason(&Status::unavailable("a proxy")), None);
        let details = ErrorDetails::with_error_info(REVOKED, "elsewhere", HashMap::new());
        assert_eq!(reason(&Status::with_error_details(Code::Unknown, "", details)), None);
    }

    #[test]
    fn both_forms_of_an_expired_time_limit_are_known() {
        assert!(timed_out(&Status::deadline_exceeded("late")));
        assert!(timed_out(&Status::cancelled("Timeout expired")));
        assert!(!timed_out(&Status::cancelled("by the caller")));
    }
}
