//! Tokens of a service account for `coffer mount`: in a cluster kubelet brings them, here they stand in files.
//!
//! A token's end is read out of it and not believed beyond that: who signed it is for the secret store to judge. Errors
//! name option and file, never the content.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_sandbox::provider::ServiceAccountToken;
use coffer_sandbox::secret::SecretBytes;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::args::TokenFile;
use crate::error::Error;

/// The largest file; a token has one or two thousand bytes.
const LARGEST: u64 = 64 << 10;

#[derive(Deserialize)]
struct Claims {
    exp: u64,
}

/// Reads one file.
pub fn read(token: &TokenFile) -> Result<ServiceAccountToken, Error> {
    let shown = token.file.display();
    let mut text = Zeroizing::new(String::new());
    let opened = File::open(&token.file).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
    if let Err(error) = opened {
        return Err(refuse(format!("the token file {shown} cannot be read: {error}")));
    }
    let jwt = text.trim();
    let expires = expiry(jwt).ok_or_else(|| refuse(format!("the token file {shown} holds no JSON Web Token")))?;
    Ok(ServiceAccountToken {
        audience: token.audience.clone(),
        token: SecretBytes::from(jwt.as_bytes().to_vec()),
        expires: SystemTime::UNIX_EPOCH + Duration::from_secs(expires),
    })
}

fn refuse(message: String) -> Error {
    let help = "make it with `kubectl create token SERVICE-ACCOUNT --audience AUDIENCE`";
    Error::Selection { message, help: Some(help.to_owned()) }
}

/// When a token ends, in Unix seconds (RFC 7519 section 4.1.4).
fn expiry(jwt: &str) -> Option<u64> {
    let mut parts = jwt.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(claims).ok()?);
    serde_json::from_slice::<Claims>(&claims).ok().map(|claims| claims.exp.min(LATEST))
}

/// The end of the year 9999, which every clock can show.
const LATEST: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn the_end_is_read_out_of_the_token() {
        assert_eq!(expiry(&token(r#"{"exp":4600,"aud":["a"]}"#)), Some(4_600));
        assert_eq!(expiry(&token(r#"{"exp":18446744073709551615}"#)), Some(LATEST));
        for wrong in ["", "a.b", "a.!.c", &token("{}"), &token("[]"), &format!("{}.d", token(r#"{"exp":1}"#))] {
            assert_eq!(expiry(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_no_token_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let wanted = TokenFile { audience: "api://a".into(), file: file.clone() };
        let missing = read(&wanted).err().unwrap().to_string();
        assert!(missing.contains("cannot be read"), "{missing}");
        std::fs::write(&file, "a secret").unwrap();
        let broken = read(&wanted).err().unwrap().to_string();
        assert!(broken.contains("holds no JSON Web Token") && !broken.contains("a secret"), "{broken}");
        std::fs::write(&file, token(r#"{"exp":4600}"#) + "\n").unwrap();
        assert_eq!(read(&wanted).ok().unwrap().audience, "api://a");
    }
}
