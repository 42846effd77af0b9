//! Why no rule allows a request, in words that let an administrator change the grant.
//!
//! Names method, host and path of the request, and the rules that came nearest with the part in which each differs. It
//! must never show a query value, a header or a body. `gate` is its caller, and removes known secrets afterwards.

use std::fmt::Write as _;

use super::{FillError, HostPattern, Mismatch, Rule, Values};
use crate::egress::target::Target;

/// How many rules a denial quotes.
const QUOTED: usize = 3;

/// How many bytes of path a denial shows.
const SHOWN_PATH: usize = 256;

/// Explains why none of `rules` (each with its values in this call) allows the request.
pub(crate) fn explain<'a>(
    plugin: &str,
    rules: impl Iterator<Item = (&'a Rule, &'a Result<Values, FillError>)>,
    method: &str,
    target: &Target,
) -> String {
    let path: String = target.path.chars().take(SHOWN_PATH).collect();
    let mut text =
        format!("no egress rule of plugin `{plugin}` allows {method} {}://{}{path}", target.scheme, target.authority());
    let mut near: Vec<_> = rules.map(|(rule, values)| (rule, values, judge(rule, values, method, target))).collect();
    if near.is_empty() {
        text.push_str("; it has no rules at all");
        return text;
    }
    near.sort_by_key(|(.., mismatch)| std::cmp::Reverse(closeness(mismatch)));
    let best = near.first().map(|(.., mismatch)| closeness(mismatch)).unwrap_or_default();
    let others = near.len();
    near.retain(|(.., mismatch)| closeness(mismatch) == best);
    near.truncate(QUOTED);
    let others = others - near.len();
    text.push_str("; nearest: ");
    for (position, (rule, values, mismatch)) in near.into_iter().enumerate() {
        let comma = if position == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}`{rule}` ({})", difference(rule, values, &mismatch));
    }
    if others > 0 {
        let _ = write!(text, "; {others} more differ further");
    }
    text
}

fn judge(rule: &Rule, values: &Result<Values, FillError>, method: &str, target: &Target) -> Mismatch {
    let nothing = Values::default();
    rule.compare(values.as_ref().unwrap_or(&nothing), method, target).unwrap_or_default()
}

/// The host says most about which rule was meant, then the path.
fn closeness(mismatch: &Mismatch) -> u8 {
    [
        (mismatch.host, 16),
        (mismatch.path, 8),
        (mismatch.method, 4),
        (mismatch.scheme, 2),
        (mismatch.port, 2),
        (mismatch.query, 1),
    ]
    .into_iter()
    .filter_map(|(differs, weight)| (!differs).then_some(weight))
    .sum()
}

fn difference(rule: &Rule, values: &Result<Values, FillError>, mismatch: &Mismatch) -> String {
    let values = match values {
        Ok(values) => values,
        Err(error) => return error.to_string(),
    };
    let parts = [
        (mismatch.method, "method"),
        (mismatch.scheme, "scheme"),
        (mismatch.host, "host"),
        (mismatch.port, "port"),
        (mismatch.path, "path"),
        (mismatch.query, "query"),
    ];
    let names: Vec<_> = parts.into_iter().filter_map(|(differs, name)| differs.then_some(name)).collect();
    let mut text = format!("differs in {}", names.join(" and "));
    if mismatch.host && rule.references.iter().any(|reference| reference.place == super::Place::Label) {
        let _ = write!(text, "; its host is `{}` here", host(rule, values));
    }
    text
}

fn host(rule: &Rule, values: &Values) -> String {
    match &rule.host {
        HostPattern::Address(address) => address.to_string(),
        HostPattern::Name { wildcard, labels } => {
            let labels = labels.iter().map(|label| label.text(values).unwrap_or_default());
            wildcard.then_some("*").into_iter().chain(labels).collect::<Vec<_>>().join(".")
        }
    }
}
