//! `coffer crds`: the CustomResourceDefinitions, for `kubectl apply -f -`.

use crate::api::definitions;
use crate::error::Error;
use crate::exit::Exit;

/// What stands above the documents; the file in the repository is this command's output.
const HEAD: &str = "# The CustomResourceDefinitions of Coffer, as `coffer crds` prints them.\n";

pub fn run() -> Result<Exit, Error> {
    super::print(&text()?)?;
    Ok(Exit::Ok)
}

fn text() -> Result<String, Error> {
    let unprintable = |error: Box<dyn std::error::Error + Send + Sync>| Error::Print(std::io::Error::other(error));
    let mut text = HEAD.to_owned();
    for definition in definitions::all().map_err(|error| unprintable(error.into()))? {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition).map_err(|error| unprintable(error.into()))?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const COMMITTED: &str = include_str!("../../../deploy/crds/secrets-store.csi.x-k8s.io.yaml");

    #[test]
    fn the_committed_definitions_are_those_that_are_printed() {
        let command = "cargo run -q -p coffer -- crds > deploy/crds/secrets-store.csi.x-k8s.io.yaml";
        assert!(text().unwrap() == COMMITTED, "the committed definitions are stale; refresh them: {command}");
    }

    #[test]
    fn what_is_printed_reads_as_what_is_meant() {
        let documents: Vec<Value> = serde_saphyr::from_multiple(COMMITTED).unwrap();
        assert_eq!(json!(documents), json!(definitions::all().unwrap()));
    }
}
