//! Parts of a secret that is JSON, found by JMESPath.

use std::io;

use jmespath::Variable;
use zeroize::Zeroizing;

use crate::provider;

/// Bytes of a part. A secret has 25 KB, but an expression can write the same again and again.
const MAX_PART: usize = 1 << 20;

/// Why there is no such part. None of it is shown but the expression, which is the class's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("its value is not JSON, so jmesPath finds nothing in it")]
    Json,
    #[error("the path `{0}` of jmesPath finds nothing in its value")]
    Nothing(String),
    #[error("the path `{0}` of jmesPath does not fit its value")]
    Expression(String),
    #[error("the path `{0}` of jmesPath finds more than {MAX_PART} bytes")]
    Size(String),
}

/// A secret's JSON, read once.
pub(super) struct Json(jmespath::Rcvar);

impl Json {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::Json)?;
        Ok(Self(jmespath::Rcvar::new(Variable::from_json(text).map_err(|_| Error::Json)?)))
    }

    /// What an expression finds: a text as it is, everything else as JSON.
    pub(super) fn find(&self, expression: &str) -> Result<provider::Secret, Error> {
        let shown = || crate::failure::tidy(expression, 60);
        let search = jmespath::compile(expression).and_then(|compiled| compiled.search(&self.0));
        let found = search.map_err(|_| Error::Expression(shown()))?;
        match &*found {
            Variable::Null => Err(Error::Nothing(shown())),
            Variable::String(text) if text.len() > MAX_PART => Err(Error::Size(shown())),
            Variable::String(text) => Ok(Zeroizing::new(text.clone().into_bytes())),
            other => {
                let mut part = Part::default();
                serde_json::to_writer(&mut part, other).map_err(|_| Error::Size(shown()))?;
                Ok(part.0)
            }
        }
    }
}

/// A part as it is written, up to [`MAX_PART`].
#[derive(Default)]
struct Part(provider::Secret);

impl io::Write for Part {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PART {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(json: &str, expression: &str) -> Result<String, Error> {
        let found = Json::read(json.as_bytes())?.find(expression)?;
        Ok(String::from_utf8(found.to_vec()).unwrap())
    }

    const DATABASE: &str =
        r#"{"user": "db\u00e4", "ports": [1, 65535.5], "tls": {"on": true}, "none": null, "a b": "x\n"}"#;

    #[test]
    fn a_text_is_found_as_it_is_and_the_rest_as_json() {
        for (expression, expected) in [
            ("user", "db\u{e4}"),
            ("ports[0]", "1"),
            ("ports[-1]", "65535.5"),
            ("tls", r#"{"on":true}"#),
            ("tls.on", "true"),
            ("\"a b\"", "x\n"),
            ("join(':', [user, 'x'])", "db\u{e4}:x"),
            ("ports[?@ > `1`]", "[65535.5]"),
        ] {
            assert_eq!(found(DATABASE, expression).as_deref(), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_is_not_there_or_no_json_is_an_error_without_the_value() {
        for expression in ["none", "other", "user.name", "ports[7]"] {
            assert_eq!(found(DATABASE, expression), Err(Error::Nothing(expression.into())));
        }
        assert_eq!(found(DATABASE, "abs(user)"), Err(Error::Expression("abs(user)".into())));
        for json in ["", "hunter2", "{", "\u{0}"] {
            assert_eq!(found(json, "a"), Err(Error::Json));
        }
        assert_eq!(Json::read(&[0xff]).err(), Some(Error::Json));
    }

    #[test]
    fn what_an_expression_writes_again_and_again_ends() {
        // Two to the power of 70 copies of one text.
        let doubled = vec!["[@,@]"; 70].join("|");
        assert_eq!(found(r#""x""#, &doubled), Err(Error::Size(crate::failure::tidy(&doubled, 60))));
        let long = format!("\"{}\"", "x".repeat(MAX_PART + 1));
        assert_eq!(found(&long, "@"), Err(Error::Size("@".into())));
    }

    proptest! {
        #[test]
        fn no_expression_is_too_strange(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "user", "ports", ".", "[", "]", "*", "[*]", "0", "-1", ":", "?", "|", "||", "&&", "!", "(", ")", "@",
                "&", "`1`", "'x'", "\"a b\"", "{", "}", ",", "sort_by", "map", "length", "==", "<", " ", "99999999999",
            ]), 0..12),
            text in ".{0,20}",
        ) {
            let _ = found(DATABASE, &pieces.concat());
            let _ = found(DATABASE, &text);
            let _ = found(&text, "a");
        }
    }
}
