//! Lists of names and of versions, in pages with links from one to the next.
//!
//! Called by `api` when the caller may list. A list never shows a value. Links are honest unless the vault was told
//! otherwise.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use serde_json::{Value, json};

use super::api::attributes;
use super::refusal::Refusal;
use super::request::Query;
use super::{Collection, NextLink, Record, Version};

/// One page of names, or of the versions of one object. Versions come in the order of their ids, as the service
/// promises none.
pub(super) fn list(
    vault: &Record,
    collection: Collection,
    versions_of: Option<&str>,
    query: &Query,
    head: &Parts,
) -> Result<Value, Refusal> {
    let mut rows: Vec<(String, Value)> = match versions_of {
        Some(name) => {
            let stored = vault.objects.get(&(collection, name.to_ascii_lowercase()));
            let versions = stored.into_iter().flat_map(|stored| stored.versions.iter().map(move |kept| (stored, kept)));
            versions
                .map(|(stored, kept)| {
                    (kept.id.clone(), row(collection, vault.url(collection, &stored.name, Some(&kept.id)), kept))
                })
                .collect()
        }
        None => vault
            .objects
            .iter()
            .filter(|((kept, _), _)| *kept == collection)
            .filter_map(|((_, key), stored)| {
                let current = stored.versions.last()?;
                Some((key.clone(), row(collection, vault.url(collection, &stored.name, None), current)))
            })
            .collect(),
    };
    rows.sort_by(|(one, _), (other, _)| one.cmp(other));
    rows.retain(|(marker, _)| query.after.as_ref().is_none_or(|after| marker > after));
    let more = rows.len() > query.page;
    rows.truncate(query.page);
    let next = next_link(vault, rows.last().filter(|_| more).map(|(marker, _)| marker.as_str()), query, head);
    let value: Vec<Value> = rows.into_iter().map(|(_, row)| row).collect();
    Ok(json!({"value": value, "nextLink": next}))
}

fn row(collection: Collection, url: String, version: &Version) -> Value {
    let id = if collection == Collection::Keys { "kid" } else { "id" };
    let mut row = json!({id: url, "attributes": attributes(version), "tags": version.tags});
    if let Some(members) = row.as_object_mut() {
        members.extend(version.content_type.as_ref().map(|kept| ("contentType".to_owned(), json!(kept))));
        members.extend(version.managed.then(|| ("managed".to_owned(), json!(true))));
    }
    row
}

fn next_link(vault: &Record, last: Option<&str>, query: &Query, head: &Parts) -> Option<String> {
    // The service spells the port out.
    let base = format!("https://{}:443{}", vault.cloud.vault_host(&vault.name), head.uri.path());
    match &vault.next_link {
        NextLink::Honest => last.map(|marker| {
            let token = json!({"NextMarker": marker, "TargetLocation": 0}).to_string();
            let (version, page) = (&query.api_version, query.page);
            format!("{base}?api-version={version}&$skiptoken={}&maxresults={page}", URL_SAFE_NO_PAD.encode(token))
        }),
        NextLink::Always(url) => Some(url.clone()),
        NextLink::SamePage => Some(format!("{base}?{}", head.uri.query().unwrap_or_default())),
    }
}
