//! Keys, certificates and PFX files made by the `openssl` program while the tests run, and what it makes of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};

use tempfile::TempDir;

/// A folder for the files that `openssl` reads and writes. What one test made is there for the others.
pub struct Workshop {
    folder: TempDir,
    /// Names of what is made, so that no two tests make the same.
    made: Mutex<Vec<String>>,
}

/// The folder of this run.
pub static WORKSHOP: LazyLock<Workshop> =
    LazyLock::new(|| Workshop { folder: tempfile::tempdir().unwrap(), made: Mutex::default() });

/// A root, an intermediate certificate and a leaf, by the names of their files.
pub const CHAIN: [&str; 3] = ["leaf", "intermediate", "root"];

const EXTENSIONS: &str = "\
[ca]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[leaf]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[leaf-without-identifier]
subjectKeyIdentifier = none
authorityKeyIdentifier = keyid
[bare]
subjectKeyIdentifier = none
authorityKeyIdentifier = none
";

impl Workshop {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// Runs `openssl` with the words of `arguments`, in the folder; an `@` stands for an empty argument.
    pub fn openssl(&self, arguments: &str) -> Vec<u8> {
        let words = arguments.split_whitespace().map(|word| if word == "@" { "" } else { word });
        let run = Command::new("openssl").args(words).current_dir(self.folder.path()).output();
        let run = run.unwrap_or_else(|error| panic!("these tests need the program openssl, version 3: {error}"));
        assert!(run.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&run.stderr));
        run.stdout
    }

    fn once(&self, name: &str, make: impl FnOnce()) {
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !made.iter().any(|done| done == name) {
            make();
            made.push(name.to_owned());
        }
    }

    /// The file of a key: `rsa`, `ed25519`, or the name of a curve. PKCS#8, as `openssl` writes it.
    pub fn key(&self, kind: &str) -> String {
        let file = format!("{kind}.key");
        self.once(&file, || {
            let algorithm = match kind {
                "rsa" => "rsa -pkeyopt rsa_keygen_bits:2048".to_owned(),
                "ed25519" | "ed448" | "x25519" => kind.to_owned(),
                curve => format!("ec -pkeyopt ec_paramgen_curve:{curve} -pkeyopt ec_param_enc:named_curve"),
            };
            self.openssl(&format!("genpkey -algorithm {algorithm} -out {file}"));
        });
        file
    }

    /// Makes the files `leaf.pem`, `intermediate.pem` and `root.pem`, and others beside the chain.
    pub fn chain(&self) {
        let key = self.key("rsa");
        let (root, intermediate) = (self.key("P-256"), self.key("P-384"));
        self.once("chain", || {
            std::fs::write(self.path("extensions"), EXTENSIONS).unwrap();
            self.sign("root", &root, "ca", None);
            self.sign("intermediate", &intermediate, "ca", Some(("root", &root)));
            self.sign("leaf", &key, "leaf", Some(("intermediate", &intermediate)));
            self.sign("anonymous", &key, "leaf-without-identifier", Some(("intermediate", &intermediate)));
            self.sign("bare", &key, "bare", None);
            self.sign("stranger", &self.unlocked_key("P-521"), "ca", None);
        });
    }

    /// As [`Self::key`], where nobody else makes this one.
    fn unlocked_key(&self, curve: &str) -> String {
        let file = format!("{curve}.unlocked.key");
        self.openssl(&format!("genpkey -algorithm ec -pkeyopt ec_paramgen_curve:{curve} -out {file}"));
        file
    }

    fn sign(&self, name: &str, key: &str, extensions: &str, issuer: Option<(&str, &str)>) {
        self.openssl(&format!("req -new -key {key} -subj /CN={name} -out {name}.csr"));
        let issuer = match issuer {
            Some((issuer, key)) => format!("-CA {issuer}.pem -CAkey {key} -CAcreateserial"),
            None => format!("-key {key}"),
        };
        self.openssl(&format!(
            "x509 -req -in {name}.csr -days 9 -extfile extensions -extensions {extensions} {issuer} -out {name}.pem"
        ));
    }

    /// The texts of these certificates one after the other.
    pub fn certificates(&self, names: &[&str]) -> String {
        names.iter().map(|name| self.text(&format!("{name}.pem"))).collect()
    }

    /// A PFX of a key and certificates in this order, made with further options; no password unless they say one.
    pub fn pfx(&self, key: &str, certificates: &[&str], options: &str) -> Vec<u8> {
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let input = folder.path().join("input.pem");
        std::fs::write(&input, format!("{}{}", self.text(key), self.certificates(certificates))).unwrap();
        let password = if options.contains("-passout") { "" } else { "-passout pass:" };
        self.openssl(&format!("pkcs12 -export -in {} {password} {options}", display(&input)))
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
