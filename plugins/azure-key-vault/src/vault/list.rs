//! Lists of a vault, page by page: the versions of an object, or the names of all; and where the next page is.
//!
//! Of the link to the next page only the query is used, and only if the rest of it is the list that was asked for: a
//! link is text of an answer, and the token goes along. No text of the body is ever part of an error but the link's.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use crate::failure::tidy;

/// Pages of one list. A vault puts 25 entries on each.
const MAX_PAGES: usize = 100;
/// Entries of one list.
const MAX_ENTRIES: usize = 10_000;
/// Characters of the link to a page.
const MAX_LINK: usize = 4_096;

/// One list, as far as it was read.
#[derive(Debug)]
pub(crate) struct List {
    /// The list's own URL, without the query.
    url: String,
    /// The query of the page to ask for next; none when the list is complete.
    next: Option<String>,
    pages: HashSet<String>,
    entries: Vec<Entry>,
}

/// One version of an object, or one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Empty in a list of names.
    pub(crate) version: String,
    pub(crate) tags: BTreeMap<String, String>,
    /// Unix seconds; 0 where the vault does not say.
    pub(crate) created: i64,
}

/// Why a list cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the vault's list is not the JSON that it should be")]
    Json,
    #[error("the vault's list has an entry without an identifier")]
    Identifier,
    #[error("the vault's list goes on at `{0}`, which is another place than the list; the token is not sent there")]
    Elsewhere(String),
    #[error("the vault's list leads back to a page that was read already")]
    Loop,
    #[error("the vault's list is longer than {MAX_PAGES} pages or {MAX_ENTRIES} entries")]
    Length,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Page {
    value: Option<Vec<Row>>,
    #[serde(rename = "nextLink")]
    next_link: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Row {
    id: Option<String>,
    kid: Option<String>,
    attributes: Option<Attributes>,
    tags: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Attributes {
    enabled: Option<bool>,
    created: Option<i64>,
}

impl List {
    /// A list that nothing was read of: its URL and the query of its first page.
    pub(crate) fn new(url: String, query: &str) -> Self {
        Self { url, next: Some(query.to_owned()), pages: HashSet::new(), entries: Vec::new() }
    }

    /// The URL of the page to ask for next; none when the list is complete.
    pub(crate) fn next(&self) -> Option<String> {
        self.next.as_ref().map(|query| format!("{}?{query}", self.url))
    }

    /// Adds the body of the page that was asked for.
    pub(crate) fn add(&mut self, body: &[u8]) -> Result<(), Error> {
        let page: Page = serde_json::from_slice(body).map_err(|_| Error::Json)?;
        self.pages.extend(self.next.take());
        for row in page.value.unwrap_or_default() {
            let id = row.id.or(row.kid).ok_or(Error::Identifier)?;
            // Without attributes nothing says that it may be used.
            let Some(attributes) = row.attributes.filter(|attributes| attributes.enabled != Some(false)) else {
                continue;
            };
            let (name, version) = (super::answer::name(&id), super::answer::version(&id));
            if !is_name(&name) || version.is_empty() && self.url.ends_with("/versions") {
                return Err(Error::Identifier);
            }
            let tags = row.tags.unwrap_or_default().into_iter();
            let tags = tags.map(|(tag, value)| (tag, value.unwrap_or_default())).collect();
            self.entries.push(Entry { name, version, tags, created: attributes.created.unwrap_or_default() });
        }
        if self.entries.len() > MAX_ENTRIES {
            return Err(Error::Length);
        }
        let Some(link) = page.next_link.filter(|link| !link.is_empty()) else { return Ok(()) };
        let query = self.query_of(&link).ok_or_else(|| Error::Elsewhere(tidy(&link, 200)))?;
        if self.pages.contains(query) {
            return Err(Error::Loop);
        }
        if self.pages.len() >= MAX_PAGES {
            return Err(Error::Length);
        }
        self.next = Some(query.to_owned());
        Ok(())
    }

    /// At most `count` enabled versions, the newest first, from `start` on or from the newest if that is empty; none if
    /// there is no such version. Versions of the same second stay in the vault's order.
    pub(crate) fn newest(&self, start: &str, count: usize) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.created));
        let is_start = |entry: &Entry| start.is_empty() || entry.version == start;
        entries.into_iter().skip_while(|entry| !is_start(entry)).take(count).collect()
    }

    /// Every entry, in the vault's order.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The query of a link that leads to this list. Vaults spell their port out.
    fn query_of<'l>(&self, link: &'l str) -> Option<&'l str> {
        let (host, path) = self.url.strip_prefix("https://")?.split_once('/')?;
        let (place, query) = link.split_once('?')?;
        let (found_host, found_path) = place.strip_prefix("https://")?.split_once('/')?;
        let found_host = found_host.strip_suffix(":443").unwrap_or(found_host);
        let same = found_host.eq_ignore_ascii_case(host) && found_path.eq_ignore_ascii_case(path);
        let plain = query.len() <= MAX_LINK && query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        (same && plain && !query.is_empty()).then_some(query)
    }
}

/// What a vault's names are made of; one becomes the name of a file.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 127 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const URL: &str = "https://kv1.vault.azure.net/secrets/a/versions";

    fn list() -> List {
        List::new(URL.into(), "api-version=7.4")
    }

    /// A list of entries `id created enabled`.
    fn read(rows: &[(&str, i64, bool)]) -> List {
        let row = |(id, created, enabled): &(&str, i64, bool)| {
            format!(r#"{{"id":"https://h/secrets/a/{id}","attributes":{{"enabled":{enabled},"created":{created}}}}}"#)
        };
        let rows: Vec<String> = rows.iter().map(row).collect();
        let mut list = list();
        list.add(format!(r#"{{"value":[{}]}}"#, rows.join(",")).as_bytes()).unwrap();
        list
    }

    fn newest(rows: &[(&str, i64, bool)], start: &str, count: usize) -> Vec<String> {
        read(rows).newest(start, count).into_iter().map(|entry| entry.version).collect()
    }

    fn linked(link: &str) -> Result<Option<String>, Error> {
        let mut list = list();
        list.add(format!(r#"{{"value":[],"nextLink":"{link}"}}"#).as_bytes())?;
        Ok(list.next())
    }

    #[test]
    fn the_newest_come_first_and_no_more_than_were_asked_for() {
        let rows = [("1", 10, true), ("2", 30, true), ("3", 20, true), ("4", 40, false)];
        assert_eq!(newest(&rows, "", 2), ["2", "3"]);
        assert_eq!(newest(&rows, "", 9), ["2", "3", "1"]);
        assert_eq!(newest(&rows, "3", 9), ["3", "1"]);
        assert!(newest(&rows, "4", 9).is_empty() && newest(&rows, "x", 9).is_empty());
    }

    #[test]
    fn versions_of_one_second_stay_in_order() {
        assert_eq!(newest(&[("b", 1, true), ("a", 1, true), ("c", 2, true)], "", 9), ["c", "b", "a"]);
    }

    #[test]
    fn entries_without_attributes_are_dropped_and_without_times_are_the_oldest() {
        let mut list = list();
        list.add(
            br#"{"value":[{"id":"https://h/secrets/a/1"},{"kid":"https://h/keys/a/2","attributes":{}},
                {"id":"https://h/secrets/a/3","attributes":{"created":1,"enabled":null}}],"nextLink":null}"#,
        )
        .unwrap();
        assert_eq!(list.next(), None);
        assert_eq!(list.newest("", 9).into_iter().map(|entry| entry.version).collect::<Vec<_>>(), ["3", "2"]);
    }

    #[test]
    fn a_link_to_the_list_itself_is_followed() {
        for link in [
            "https://kv1.vault.azure.net:443/secrets/a/versions?$skiptoken=x&maxresults=25",
            "https://KV1.vault.azure.net/secrets/A/versions?$skiptoken=x&maxresults=25",
        ] {
            assert_eq!(linked(link).unwrap().unwrap(), format!("{URL}?$skiptoken=x&maxresults=25"));
        }
        assert_eq!(linked("").unwrap(), None);
    }

    #[test]
    fn a_link_to_anywhere_else_is_refused() {
        for link in [
            "https://evil.example/secrets/a/versions?x",
            "https://kv2.vault.azure.net/secrets/a/versions?x",
            "http://kv1.vault.azure.net/secrets/a/versions?x",
            "https://kv1.vault.azure.net:8443/secrets/a/versions?x",
            "https://kv1.vault.azure.net@evil.example/secrets/a/versions?x",
            "https://user@kv1.vault.azure.net/secrets/a/versions?x",
            "https://kv1.vault.azure.net.evil.example/secrets/a/versions?x",
            "https://kv1.vault.azure.net/secrets/b/versions?x",
            "https://kv1.vault.azure.net/secrets/a/versions/../../b?x",
            "https://kv1.vault.azure.net/secrets/a/versions",
            "https://kv1.vault.azure.net/secrets/a/versions?",
            "https://kv1.vault.azure.net/secrets/a/versions?x#y",
            "https://kv1.vault.azure.net/secrets/a/versions?x y",
            "//kv1.vault.azure.net/secrets/a/versions?x",
            "/secrets/a/versions?x",
        ] {
            assert_eq!(linked(link), Err(Error::Elsewhere(link.into())), "{link}");
        }
    }

    #[test]
    fn loops_and_lists_without_end_are_refused() {
        assert_eq!(linked(&format!("{URL}?api-version=7.4")), Err(Error::Loop));
        let mut list = list();
        let page = |page: usize| format!(r#"{{"nextLink":"{URL}?page={page}"}}"#);
        for number in 1..MAX_PAGES {
            list.add(page(number).as_bytes()).unwrap();
        }
        assert_eq!(list.add(page(MAX_PAGES).as_bytes()), Err(Error::Length));
        let row = r#"{"id":"https://h/secrets/a/v","attributes":{}}"#;
        let page = |rows: usize| format!(r#"{{"value":[{}]}}"#, vec![row; rows].join(","));
        assert_eq!(List::new(URL.into(), "q").add(page(MAX_ENTRIES).as_bytes()), Ok(()));
        assert_eq!(List::new(URL.into(), "q").add(page(MAX_ENTRIES + 1).as_bytes()), Err(Error::Length));
    }

    #[test]
    fn names_come_with_their_tags_and_can_be_nothing_but_names() {
        let names = |id: &str| {
            let mut list = List::new("https://kv1.vault.azure.net/secrets".into(), "q");
            let row = format!(r#"{{"id":"https://h/secrets/{id}","attributes":{{}},"tags":{{"a":"b","c":null}}}}"#);
            list.add(format!(r#"{{"value":[{row}]}}"#).as_bytes()).map(|()| list.entries().to_vec())
        };
        let tags = [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())].into();
        assert_eq!(names("x-1"), Ok(vec![Entry { name: "x-1".into(), version: String::new(), tags, created: 0 }]));
        for id in ["", "..", "a%2fb", "a b", &"x".repeat(128)] {
            assert_eq!(names(id), Err(Error::Identifier), "{id}");
        }
    }

    #[test]
    fn an_entry_without_an_identifier_is_an_error() {
        for id in ["{}", r#"{"id":null,"attributes":{}}"#, r#"{"id":"https://h/secrets/a","attributes":{}}"#] {
            assert_eq!(list().add(format!(r#"{{"value":[{id}]}}"#).as_bytes()), Err(Error::Identifier), "{id}");
        }
        assert_eq!(list().add(b"<html>"), Err(Error::Json));
    }

    proptest! {
        #[test]
        fn no_page_is_too_strange(body in prop::collection::vec(any::<u8>(), 0..100), link in "[ -~]{0,80}", tail in ".{0,20}") {
            let _ = list().add(&body);
            for link in [link, format!("{URL}{tail}"), format!("https://kv1.vault.azure.net{tail}?{tail}")] {
                let mut list = list();
                let page = serde_json::json!({"value": [{"id": link, "attributes": {}}], "nextLink": link});
                if list.add(page.to_string().as_bytes()).is_ok() && let Some(next) = list.next() {
                    let own = format!("{URL}?");
                    prop_assert!(next.starts_with(&own));
                }
                let _ = list.newest("", 3);
            }
        }
    }
}
