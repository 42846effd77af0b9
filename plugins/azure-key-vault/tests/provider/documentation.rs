//! The pages of this provider against its code: every parameter and field is in the tables and nothing else is, every
//! message of a troubleshooting table is one that somebody prints, and every link leads somewhere.

use std::collections::BTreeSet;

use crate::sources::{fields, parameters, read, root, unsaid};

const PAGE: &str = "docs/providers/azure.md";

/// It and the pages below it.
fn pages() -> Vec<(String, String)> {
    let folder = std::fs::read_dir(root().join("docs/providers/azure")).unwrap();
    let names = folder.map(|entry| format!("docs/providers/azure/{}", entry.unwrap().file_name().to_str().unwrap()));
    let pages: Vec<_> = names.chain([PAGE.to_owned()]).map(|path| (read(&path), path)).map(|(t, p)| (p, t)).collect();
    assert!(pages.len() > 7, "{}", pages.len());
    pages
}

/// The cells of every row of the tables whose first column has this title.
fn rows(text: &str, title: &str) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        let Some(cells) = cells(line) else {
            is_inside = false;
            continue;
        };
        if is_inside && !cells[0].starts_with("---") {
            rows.push(cells);
        } else if !is_inside {
            is_inside = cells[0] == title;
        }
    }
    rows
}

/// None for a line that is not a row. `\|` is a bar inside a cell.
fn cells(line: &str) -> Option<Vec<String>> {
    let line = line.replace("\\|", "\u{1}");
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect())
}

/// What stands between backticks.
fn codes(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The names in the first column.
fn names(title: &str) -> BTreeSet<String> {
    rows(&read(PAGE), title).iter().flat_map(|cells| codes(&cells[0])).map(str::to_owned).collect()
}

#[test]
fn every_parameter_that_the_code_knows_is_in_the_table_and_no_other_is() {
    assert_eq!(names("parameter"), parameters().into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn every_field_of_an_object_that_the_code_knows_is_in_the_table_and_no_other_is() {
    let parts = ["path", "objectAlias", "filePermission"].map(|field| format!("jmesPath.{field}"));
    assert_eq!(names("field"), fields().into_iter().chain(parts).collect::<BTreeSet<_>>());
}

#[test]
fn every_message_of_a_troubleshooting_table_is_one_that_somebody_prints() {
    let mut wrong = Vec::new();
    let mut messages = 0;
    for (page, text) in pages() {
        for cells in rows(&text, "message") {
            for message in codes(&cells[0]) {
                messages += 1;
                // What Entra and vaults say themselves; the advice for it hangs on the number.
                let message = message.strip_prefix("AADSTS").unwrap_or(message);
                wrong.extend(unsaid(message).into_iter().map(|part| format!("{page}: {part}")));
            }
            assert!(cells.len() == 3 && cells.iter().all(|cell| !cell.is_empty()), "{page}: {cells:?}");
        }
    }
    assert!(messages > 100, "{messages}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_link_of_the_pages_leads_to_a_page_and_a_heading() {
    let anchors = |text: &str| -> BTreeSet<String> {
        let headings =
            text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-');
        headings.map(|text| text.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
    };
    for (page, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = root().join(&page).parent().unwrap().to_owned();
            let target = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            let target = std::fs::read_to_string(&target).unwrap_or_else(|error| panic!("{page}: {link}: {error}"));
            assert!(anchor.is_empty() || anchors(&target).contains(anchor), "{page}: {link}");
        }
    }
}
