//! Who reads, as the query of a request says.

use std::sync::Arc;

use axum::extract::Query;
use axum::http::Uri;
use headroom_core::{IdError, SourceId};
use headroom_shared::convert::FieldError;

use super::refusal::Refusal;
use crate::agent::Agent;
use crate::json;

/// Who reads, as the query says.
#[derive(serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// The media server that reads: only its legs are told.
    #[param(schema_with = json::schema::text)]
    source: Option<String>,
    /// The reader is no media server: none shows life, and none counts as told of revoked legs.
    observer: Option<bool>,
}

/// Who reads.
pub(super) struct Reader {
    pub(super) source: Option<SourceId>,
    /// No media server: no source shows life, and nobody counts as told of revoked legs.
    pub(super) observer: bool,
}

pub(super) fn asked(uri: &Uri) -> Result<Reader, Refusal> {
    let Query(Asked { source, observer }) = Query::try_from_uri(uri)
        .map_err(|error| Refusal::malformed(FieldError::new("query", error.body_text())))?;
    let source: Option<Result<SourceId, IdError>> = source.map(|text| text.parse());
    let source = source.transpose().map_err(|error| Refusal::malformed(FieldError::new("source", error)))?;
    Ok(Reader { source, observer: observer.unwrap_or(false) })
}

/// Who reads; unless it is an observer, the source that is named shows life, or the default one does.
pub(super) fn reader(agent: &Arc<Agent>, uri: &Uri) -> Result<Reader, Refusal> {
    let reader = asked(uri)?;
    if !reader.observer {
        agent.alive(reader.source.clone().unwrap_or_default());
    }
    Ok(reader)
}
