//! The names that may stand in a label: those of the configuration. Everything else shares one name, as a pod author
//! may write any provider and a store may be asked anything.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The configured names, and what stands for all others.
pub(super) struct Known {
    providers: BTreeMap<String, Provider>,
    none: Arc<str>,
    unknown: Arc<str>,
    other: Arc<str>,
}

struct Provider {
    label: Arc<str>,
    /// By their texts.
    rules: BTreeMap<String, Arc<str>>,
}

impl Known {
    /// Providers with the texts of their rules.
    pub(super) fn new(providers: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        let rule = |text: String| (text.clone(), escape(&text));
        let provider = |(name, rules): (String, Vec<String>)| {
            let label = escape(&name);
            (name, Provider { label, rules: rules.into_iter().map(rule).collect() })
        };
        Self {
            providers: providers.into_iter().map(provider).collect(),
            none: "".into(),
            unknown: "unknown".into(),
            other: "other".into(),
        }
    }

    /// The label of a provider. One that is not known yet has the empty name.
    pub(super) fn provider(&self, name: &str) -> Arc<str> {
        match self.providers.get(name) {
            Some(provider) => provider.label.clone(),
            None if name.is_empty() => self.none.clone(),
            None => self.unknown.clone(),
        }
    }

    /// The label of a provider's rule. A request that no rule allows has none.
    pub(super) fn rule(&self, provider: &str, text: Option<&str>) -> Arc<str> {
        let Some(text) = text else { return self.none.clone() };
        let rule = self.providers.get(provider).and_then(|provider| provider.rules.get(text));
        rule.unwrap_or(&self.other).clone()
    }
}

/// The encoder writes values as they are.
fn escape(text: &str) -> Arc<str> {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped.into()
}
