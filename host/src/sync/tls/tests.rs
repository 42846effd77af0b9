//! Against what `openssl` makes and writes.

use std::path::Path;
use std::process::Command;

use super::*;

/// A folder in which `openssl` is run.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Runs `openssl` with these words.
    fn run(&self, words: &str) {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(self.0.path()).output().unwrap();
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(Path::new(&self.path(name))).unwrap()
    }

    /// A key `k`, PKCS#8, and a certificate `c` of it.
    fn pair(kind: &str) -> Self {
        let folder = Self::new();
        folder.run(&format!("genpkey -algorithm {kind} -out k"));
        folder.run("req -x509 -key k -subj /CN=a -days 2 -out c");
        folder
    }
}

const RSA: &str = "RSA -pkeyopt rsa_keygen_bits:2048";
const P256: &str = "EC -pkeyopt ec_paramgen_curve:P-256";
const CURVES: [&str; 3] = [P256, "EC -pkeyopt ec_paramgen_curve:P-384", "EC -pkeyopt ec_paramgen_curve:P-521"];

fn text(secret: Result<Secret, Error>) -> String {
    String::from_utf8(secret.unwrap().to_vec()).unwrap()
}

#[test]
fn rsa_keys_become_pkcs1_and_keys_on_curves_sec1_in_whatever_form_they_come() {
    for kind in CURVES.iter().chain(&[RSA]) {
        let folder = Folder::pair(kind);
        let is_rsa = *kind == RSA;
        folder.run(if is_rsa { "rsa -in k -traditional -out wanted" } else { "ec -in k -out wanted" });
        let (key, wanted, certificate) = (folder.read("k"), folder.read("wanted"), folder.read("c"));
        for file in [key.clone(), wanted.clone(), [&certificate[..], &key].concat(), [&key[..], &certificate].concat()]
        {
            assert_eq!(extract("tls.key", &file).unwrap().to_vec(), wanted, "{kind}");
        }
        let both = [&key[..], &certificate].concat();
        assert_eq!(extract("tls.crt", &both).unwrap().to_vec(), certificate);
        assert_eq!(extract("ca.crt", &both).unwrap().to_vec(), certificate);
    }
}

#[test]
fn parameters_requests_and_public_keys_after_a_key_are_no_keys_and_the_last_key_counts() {
    let folder = Folder::pair(P256);
    folder.run("ec -in k -out wanted");
    folder.run("ecparam -name prime256v1 -out parameters");
    folder.run("pkey -in k -pubout -out public");
    folder.run("req -new -key k -subj /CN=a -out request");
    let [wanted, parameters, public, request] =
        ["wanted", "parameters", "public", "request"].map(|name| folder.read(name));
    for after in [&parameters, &public, &request] {
        let file = [&parameters[..], &wanted, after].concat();
        assert_eq!(extract("tls.key", &file).unwrap().to_vec(), wanted);
    }
    let other = Folder::pair(RSA).read("k");
    let file = [&other[..], &folder.read("k")].concat();
    assert_eq!(extract("tls.key", &file).unwrap().to_vec(), wanted);
    assert_eq!(extract("tls.key", &public).unwrap_err(), Error::UnreadableKey);
}

#[test]
fn edwards_keys_stay_pkcs8() {
    let folder = Folder::pair("ED25519");
    let key = folder.read("k");
    assert_eq!(extract("tls.key", &key).unwrap().to_vec(), key);
}

#[test]
fn a_chain_keeps_its_order_and_loses_what_stands_around_it() {
    let [leaf, above] = [Folder::pair(P256).read("c"), Folder::pair(P256).read("c")];
    let around = [b"subject=a\xff\r\n", &leaf[..], b"issuer\n", &above].concat();
    assert_eq!(extract("tls.crt", &around).unwrap().to_vec(), [&leaf[..], &above].concat());
    let windows = String::from_utf8(leaf.clone()).unwrap().replace('\n', "\r\n");
    assert_eq!(extract("tls.crt", windows.as_bytes()).unwrap().to_vec(), leaf);
}

#[test]
fn a_pfx_of_every_make_without_a_password_is_taken_apart_and_so_is_its_base64() {
    let folder = Folder::pair(RSA);
    folder.run("rsa -in k -traditional -out wanted");
    for options in
        ["", " -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1", " -keypbe NONE -certpbe NONE", " -nomac"]
    {
        folder.run(&format!("pkcs12 -export -inkey k -in c -passout pass: -out p{options}"));
        let pfx = folder.read("p");
        let base64 = BASE64.encode(&pfx).into_bytes();
        for file in [&pfx, &base64] {
            assert_eq!(extract("tls.crt", file).unwrap().to_vec(), folder.read("c"), "{options}");
            assert_eq!(extract("tls.key", file).unwrap().to_vec(), folder.read("wanted"), "{options}");
        }
    }
    folder.run("pkcs12 -export -inkey k -in c -passout pass:secret -out p");
    assert_eq!(extract("tls.key", &folder.read("p")).unwrap_err(), Error::Pfx(pfx::Error::Password));
}

#[test]
fn what_is_no_key_or_no_certificate_is_an_error_and_never_an_empty_block() {
    let folder = Folder::pair(P256);
    let (key, certificate) = (folder.read("k"), folder.read("c"));
    folder.run("pkey -in k -aes256 -passout pass:secret -out encrypted");
    folder.run("genpkey -algorithm X25519 -out x");
    folder.run("x509 -in c -outform DER -out der");
    assert_eq!(extract("tls.key", &folder.read("encrypted")).unwrap_err(), Error::Encrypted);
    assert!(matches!(extract("tls.key", &folder.read("x")).unwrap_err(), Error::KeyType(_)));
    assert_eq!(extract("tls.key", &certificate).unwrap_err(), Error::NoKey);
    assert_eq!(extract("tls.crt", &key).unwrap_err(), Error::NoCertificate);
    for (name, file) in [("tls.crt", &folder.read("der")), ("tls.key", &folder.read("der"))] {
        assert!(matches!(extract(name, file).unwrap_err(), Error::Pfx(_)), "DER is no PEM: {name}");
    }
    for file in [&b""[..], b"text", b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"] {
        assert!(extract("tls.key", file).is_err() && extract("tls.crt", file).is_err(), "{file:?}");
    }
    let mistake = extract("extra", &certificate).unwrap_err();
    assert_eq!(mistake, Error::Key("extra".into()));
    assert!(text(extract("tls.crt", &certificate)).starts_with("-----BEGIN CERTIFICATE-----\n"));
}
