//! One plugin's way out, and one call's view of it. The client is not connected yet: every request is denied.

use std::sync::Arc;

use super::{Answers, Caller, Error, Outbound, Record, Request, RuleSettings, Settings, SetupError};

/// The rules of one plugin and the connections made under them.
pub struct Egress {
    rules: Vec<RuleSettings>,
}

/// One call's view of an [`Egress`].
pub struct Gate {
    egress: Arc<Egress>,
    caller: Caller,
}

impl Egress {
    /// Makes the way out of a plugin with these rules; without any, it leads nowhere. The first rule that allows a request
    /// decides how it is sent.
    ///
    /// # Errors
    ///
    /// When certificates or proxies are not usable.
    pub fn new(rules: Vec<RuleSettings>, _settings: Settings) -> Result<Arc<Self>, SetupError> {
        Ok(Arc::new(Self { rules }))
    }

    /// Opens a gate for one call.
    #[must_use]
    pub fn open(self: &Arc<Self>, caller: Caller) -> Gate {
        Gate { egress: Arc::clone(self), caller }
    }
}

impl Gate {
    /// What was asked and answered so far, in the order in which it ended.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        Vec::new()
    }

    /// How many requests were refused without a record, because the call had used up its requests before.
    #[must_use]
    pub fn unrecorded(&self) -> u64 {
        0
    }
}

impl Outbound for Gate {
    fn send(&self, requests: Vec<Request>) -> Answers<'_> {
        let refuse = |request: Request| {
            let target = super::target::Target::parse(&request.url).map_err(Error::Protocol)?;
            let values: Vec<_> = self.egress.rules.iter().map(|rule| rule.rule.fill(&self.caller.parameters)).collect();
            let rules = self.egress.rules.iter().map(|rule| &rule.rule).zip(&values);
            Err(Error::Denied(super::rules::explain(&self.caller.plugin, rules, &request.method, &target)))
        };
        Box::pin(std::future::ready(requests.into_iter().map(refuse).collect()))
    }
}
