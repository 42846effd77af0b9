//! Certificates with private keys, in every form of PFX that `openssl` writes, against what it reads out of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_azure_key_vault::{Failure, FailureKind, Outcome, Parameters};
use proptest::prelude::*;

use crate::openssl::{CHAIN, WORKSHOP};
use crate::wire::{class, files, json, mount_with};

/// Mounts a secret that is a certificate of this content type.
fn mount_value(parameters: Parameters, value: &str, content_type: &str) -> Result<Outcome, Failure> {
    let value = value.replace('\n', "\\n");
    let body = format!(
        r#"{{"value":"{value}","id":"https://kv1.vault.azure.net/secrets/web/v","kid":"https://kv1.vault.azure.net/keys/web/v","contentType":"{content_type}"}}"#
    );
    mount_with(parameters, |_| json(200, &body))
}

fn mount_pfx(parameters: Parameters, pfx: &[u8]) -> Result<Outcome, Failure> {
    mount_value(parameters, &STANDARD.encode(pfx), "application/x-pkcs12")
}

fn web() -> Parameters {
    class(&["objectName: web\nobjectType: secret"])
}

/// The class with a parameter.
fn with(parameters: &[(&str, &str)]) -> Parameters {
    let mut class = web();
    class.extend(parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    class
}

fn pem_of(pfx: &[u8]) -> String {
    pem_with(web(), pfx)
}

fn pem_with(parameters: Parameters, pfx: &[u8]) -> String {
    let outcome = mount_pfx(parameters, pfx).unwrap();
    files(&outcome).last().unwrap().1.to_owned()
}

fn mistake(pfx: &[u8]) -> String {
    let failure = mount_pfx(web(), pfx).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidRequest, "{failure}");
    assert!(failure.message.starts_with("secret/web: "), "{failure}");
    failure.message
}

/// A PFX of the RSA key with its whole chain, and what has to become of it.
fn chained(options: &str) -> (Vec<u8>, String) {
    WORKSHOP.chain();
    let pfx = WORKSHOP.pfx("rsa.key", &CHAIN, options);
    (pfx, WORKSHOP.text("rsa.key") + &WORKSHOP.certificates(&CHAIN))
}

macro_rules! forms {
    ($($test:ident: $options:literal,)*) => {$(
        #[test]
        fn $test() {
            let (pfx, pem) = chained($options);
            assert_eq!(pem_of(&pfx), pem);
        }
    )*};
}

forms! {
    the_form_of_openssl_3_is_read: "",
    the_form_of_older_programs_is_read: "-legacy",
    triple_des_with_a_sha1_mac_is_read: "-keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg SHA1",
    triple_des_with_two_keys_is_read: "-keypbe PBE-SHA1-2DES -certpbe PBE-SHA1-2DES -macalg SHA1",
    rc2_with_128_bits_is_read: "-legacy -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-RC2-128",
    rc2_with_40_bits_is_read: "-legacy -keypbe PBE-SHA1-RC2-40 -certpbe PBE-SHA1-RC2-40",
    pbes2_with_triple_des_is_read: "-keypbe DES-EDE3-CBC -certpbe DES-EDE3-CBC",
    pbes2_with_aes_128_is_read: "-keypbe AES-128-CBC -certpbe AES-128-CBC",
    pbes2_with_aes_192_is_read: "-keypbe AES-192-CBC -certpbe AES-192-CBC",
    keys_that_are_not_encrypted_are_read: "-keypbe NONE",
    certificates_that_are_not_encrypted_are_read: "-certpbe NONE",
    a_file_with_nothing_encrypted_is_read: "-keypbe NONE -certpbe NONE",
    a_file_without_a_mac_is_read: "-nomac",
    an_older_file_without_a_mac_is_read: "-legacy -nomac",
    // `-nomac` leaves the certificates open as well, unless an option after it says otherwise.
    a_file_of_encrypted_certificates_without_a_mac_is_read: "-nomac -certpbe AES-256-CBC",
    an_older_file_of_encrypted_certificates_without_a_mac_is_read: "-legacy -nomac -certpbe PBE-SHA1-RC2-40",
    a_file_without_mac_and_encryption_is_read: "-nomac -keypbe NONE -certpbe NONE",
    a_mac_of_sha224_is_read: "-macalg SHA224",
    a_mac_of_sha384_is_read: "-macalg SHA384",
    a_mac_of_sha512_is_read: "-macalg SHA512",
    a_mac_of_one_iteration_is_read: "-nomaciter",
    one_iteration_everywhere_is_read: "-noiter -nomaciter",
    many_iterations_are_read: "-iter 50000",
    names_and_other_attributes_are_no_part_of_the_pem: "-name web -CSP provider -keysig",
}

#[test]
fn every_kind_of_key_is_written_as_openssl_writes_it() {
    for kind in ["rsa", "P-256", "P-384", "P-521", "P-224", "secp256k1", "ed25519", "ed448"] {
        let key = WORKSHOP.key(kind);
        WORKSHOP.openssl(&format!("req -x509 -new -key {key} -subj /CN=own -days 9 -out own-{kind}.pem"));
        for options in ["", "-legacy"] {
            let pfx = WORKSHOP.pfx(&key, &[&format!("own-{kind}")], options);
            let expected = WORKSHOP.text(&key) + &WORKSHOP.certificates(&[&format!("own-{kind}")]);
            assert_eq!(pem_of(&pfx), expected, "{kind} {options}");
        }
    }
}

#[test]
fn a_key_without_its_public_half_gets_it() {
    WORKSHOP.chain();
    for curve in ["P-256", "P-384", "P-521"] {
        let key = WORKSHOP.key(curve);
        WORKSHOP.openssl(&format!("req -x509 -new -key {key} -subj /CN=own -days 9 -out half-{curve}.pem"));
        WORKSHOP.openssl(&format!("ec -in {key} -no_public -out half-{curve}.key"));
        let pfx = WORKSHOP.pfx(&format!("half-{curve}.key"), &[&format!("half-{curve}")], "");
        assert!(pem_of(&pfx).starts_with(&WORKSHOP.text(&key)), "{curve}");
    }
}

#[test]
fn a_chain_is_put_in_order_whatever_the_order_of_the_file() {
    WORKSHOP.chain();
    let expected = WORKSHOP.text("rsa.key") + &WORKSHOP.certificates(&CHAIN);
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        // openssl puts the certificate of the key first, so the others are told apart from it.
        let names = order.map(|position| CHAIN[position]);
        let pfx = shuffled(&names);
        assert_eq!(pem_of(&pfx), expected, "{names:?}");
        let unordered = WORKSHOP.text("rsa.key") + &WORKSHOP.certificates(&names);
        assert_eq!(pem_with(with(&[("constructPEMChain", "false")]), &pfx), unordered, "{names:?}");
    }
}

/// A PFX of the RSA key and these certificates in exactly this order: files are put together, safe by safe.
fn shuffled(names: &[&str]) -> Vec<u8> {
    let safes: Vec<u8> = names.iter().flat_map(|name| certificate_safe(name)).collect();
    let key = pkcs8("rsa.key");
    let bag = sequence(&[object_id(KEY_BAG), explicit(&key)].concat());
    unprotected(&[key_first(&bag), safes].concat())
}

fn key_first(bag: &[u8]) -> Vec<u8> {
    data(&sequence(bag))
}

fn certificate_safe(name: &str) -> Vec<u8> {
    let der = WORKSHOP.openssl(&format!("x509 -in {name}.pem -outform DER"));
    let certificate = sequence(&[object_id(X509), explicit(&tlv(4, &der))].concat());
    data(&sequence(&sequence(&[object_id(CERTIFICATE_BAG), explicit(&certificate)].concat())))
}

fn pkcs8(key: &str) -> Vec<u8> {
    WORKSHOP.openssl(&format!("pkcs8 -topk8 -nocrypt -in {key} -outform DER"))
}

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
const KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 1];
const SHROUDED_KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 2];
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
const SAFE_CONTENTS_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 6];

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    let head = if content.len() < 128 { vec![tag, length[3]] } else { [&[tag, 0x84][..], &length].concat() };
    // The shortest form is required.
    let head = match content.len() {
        128..256 => vec![tag, 0x81, length[3]],
        256..65_536 => vec![tag, 0x82, length[2], length[3]],
        _ if content.len() < 128 => head,
        _ => vec![tag, 0x83, length[1], length[2], length[3]],
    };
    [head, content.to_vec()].concat()
}

fn sequence(content: &[u8]) -> Vec<u8> {
    tlv(0x30, content)
}

fn explicit(content: &[u8]) -> Vec<u8> {
    tlv(0xa0, content)
}

fn object_id(id: &[u8]) -> Vec<u8> {
    tlv(6, id)
}

fn data(content: &[u8]) -> Vec<u8> {
    sequence(&[object_id(DATA), explicit(&tlv(4, content))].concat())
}

/// A file of these safes without a MAC.
fn unprotected(safes: &[u8]) -> Vec<u8> {
    sequence(&[tlv(2, &[3]), data(&sequence(safes))].concat())
}

#[test]
fn several_keys_come_first_in_the_order_of_the_file() {
    WORKSHOP.chain();
    let (one, other) = (WORKSHOP.key("P-256"), WORKSHOP.key("ed25519"));
    let bag = |key: &str| sequence(&[object_id(KEY_BAG), explicit(&pkcs8(key))].concat());
    let safes = [
        certificate_safe("leaf"),
        data(&sequence(&bag(&other))),
        certificate_safe("intermediate"),
        data(&sequence(&[bag(&one), bag("rsa.key")].concat())),
    ];
    let keys = [other, one, "rsa.key".to_owned()].map(|key| WORKSHOP.text(&key)).concat();
    let expected = keys + &WORKSHOP.certificates(&["leaf", "intermediate"]);
    assert_eq!(pem_of(&unprotected(&safes.concat())), expected);
}

/// A PFX of the RSA key, closed by `openssl pkcs8` with these options, and the leaf.
fn shrouded(options: &str) -> Vec<u8> {
    WORKSHOP.chain();
    let key = WORKSHOP.openssl(&format!("pkcs8 -topk8 -in rsa.key -outform DER -passout pass: {options}"));
    let bag = sequence(&[object_id(SHROUDED_KEY_BAG), explicit(&key)].concat());
    unprotected(&[data(&sequence(&bag)), certificate_safe("leaf")].concat())
}

#[test]
fn every_pseudorandom_function_of_pbes2_is_read() {
    for function in ["hmacWithSHA1", "hmacWithSHA224", "hmacWithSHA256", "hmacWithSHA384", "hmacWithSHA512"] {
        let expected = [WORKSHOP.key("rsa"), "leaf.pem".into()];
        let pfx = shrouded(&format!("-v2 aes-256-cbc -v2prf {function}"));
        assert_eq!(pem_of(&pfx), expected.map(|file| WORKSHOP.text(&file)).concat(), "{function}");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    assert!(mistake(&shrouded("-scrypt")).contains("uses the key derivation 1.3.6.1.4.1.11591.4.11, which"));
    assert!(mistake(&shrouded("-v2 aes-256-cbc -v2prf hmacWithSHA512-256")).contains("an unknown kind"));
    assert!(mistake(&chained("-macalg SHA3-256").0).contains("uses the MAC algorithm 2.16.840.1.101.3.4.2.8, which"));
}

#[test]
fn bags_in_bags_are_read_to_a_depth() {
    WORKSHOP.chain();
    let nested = |depth: usize| {
        let mut bag = sequence(&[object_id(KEY_BAG), explicit(&pkcs8("rsa.key"))].concat());
        for _ in 0..depth {
            bag = sequence(&[object_id(SAFE_CONTENTS_BAG), explicit(&sequence(&bag))].concat());
        }
        unprotected(&[data(&sequence(&bag)), certificate_safe("leaf")].concat())
    };
    assert!(pem_of(&nested(3)).starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(mistake(&nested(9)).contains("too many parts"));
}

#[test]
fn certificates_that_are_not_one_chain_stay_in_order_and_are_remarked() {
    WORKSHOP.chain();
    for names in
        [&["leaf", "root"][..], &["leaf", "intermediate", "root", "stranger"], &["root", "intermediate", "root"]]
    {
        let outcome = mount_pfx(web(), &shuffled(names)).unwrap();
        let expected = WORKSHOP.text("rsa.key") + &WORKSHOP.certificates(names);
        assert_eq!(files(&outcome), [("web", expected.as_str())], "{names:?}");
        assert!(outcome.remarks[0].starts_with("secret/web: its certificates are not one chain"), "{names:?}");
    }
}

#[test]
fn a_leaf_without_an_identifier_of_its_own_is_a_leaf() {
    WORKSHOP.chain();
    let pfx = shuffled(&["root", "intermediate", "anonymous"]);
    let expected = WORKSHOP.text("rsa.key") + &WORKSHOP.certificates(&["anonymous", "intermediate", "root"]);
    assert_eq!(pem_of(&pfx), expected);
    assert_eq!(pem_of(&shuffled(&["bare"])), WORKSHOP.text("rsa.key") + &WORKSHOP.certificates(&["bare"]));
}

#[test]
fn without_certificates_there_is_no_chain() {
    WORKSHOP.chain();
    assert!(mistake(&shuffled(&[])).contains("no leaf found"));
    assert_eq!(pem_with(with(&[("constructPEMChain", "0")]), &shuffled(&[])), WORKSHOP.text("rsa.key"));
}

#[test]
fn certificates_and_keys_have_files_of_their_own_where_the_class_says_so() {
    let (pfx, pem) = chained("");
    let outcome = mount_pfx(with(&[("writeCertAndKeyInSeparateFiles", "true")]), &pfx).unwrap();
    let (certificates, key) = (WORKSHOP.certificates(&CHAIN), WORKSHOP.text("rsa.key"));
    assert_eq!(files(&outcome), [("web.crt", certificates.as_str()), ("web.key", &key), ("web", &pem)]);
    assert_eq!(outcome.objects.len(), 1);
    // Of a plain secret there is one file.
    let plain = mount_with(with(&[("writeCertAndKeyInSeparateFiles", "true")]), |_| {
        json(200, r#"{"value":"x","id":"https://kv1.vault.azure.net/secrets/web/v"}"#)
    });
    assert_eq!(files(&plain.unwrap()), [("web", "x")]);
}

#[test]
fn a_pem_bundle_stays_as_it_is_and_is_taken_apart_for_separate_files() {
    WORKSHOP.chain();
    let key = WORKSHOP.text("rsa.key");
    let (root, leaf) = (WORKSHOP.text("root.pem"), WORKSHOP.text("leaf.pem"));
    let bundle = format!("note\n{root}\n{key}{leaf}");
    let outcome = mount_value(web(), &bundle, "application/x-pem-file").unwrap();
    assert_eq!(files(&outcome), [("web", bundle.as_str())]);
    let separate = with(&[("writeCertAndKeyInSeparateFiles", "1")]);
    let outcome = mount_value(separate, &bundle, "application/x-pem-file").unwrap();
    let certificates = root + &leaf;
    assert_eq!(files(&outcome), [("web.crt", certificates.as_str()), ("web.key", &key), ("web", &bundle)]);
}

#[test]
fn separate_files_of_a_pfx_that_stays_one_are_empty() {
    let mut parameters = class(&["objectName: web\nobjectType: secret\nobjectFormat: pfx"]);
    parameters.insert("writeCertAndKeyInSeparateFiles".into(), "true".into());
    assert_eq!(files(&mount_pfx(parameters, b"pfx").unwrap()), [("web.crt", ""), ("web.key", ""), ("web", "cGZ4")]);
}

#[test]
fn pem_of_a_pfx_cannot_be_decoded_once_more() {
    let (pfx, _) = chained("");
    let failure = mount_pfx(class(&["objectName: web\nobjectType: secret\nobjectEncoding: base64"]), &pfx).unwrap_err();
    assert_eq!(failure.message, "secret/web: its value is not base64: check objectEncoding");
}

#[test]
fn line_ends_in_the_base64_of_a_pfx_are_no_part_of_it() {
    let (pfx, pem) = chained("");
    let text = STANDARD
        .encode(pfx)
        .as_bytes()
        .chunks(76)
        .map(|line| String::from_utf8_lossy(line) + "\r\n")
        .collect::<String>();
    let text = text.replace('\r', "\\r");
    let outcome = mount_value(web(), &text, "application/x-pkcs12").unwrap();
    assert_eq!(files(&outcome), [("web", pem.as_str())]);
}

#[test]
fn a_file_with_a_password_is_told_so() {
    for options in
        ["-passout pass:x", "-passout pass:x -legacy", "-passout pass:x -nomac", "-passout pass:x -nomac -legacy"]
    {
        let (pfx, _) = chained(options);
        assert!(mistake(&pfx).contains("closed with a password"), "{options}");
    }
}

#[test]
fn what_is_no_pfx_is_told_so() {
    assert!(mistake(b"").contains("not well-formed"));
    assert!(mistake(b"-----BEGIN CERTIFICATE-----").contains("not well-formed"));
    let (mut pfx, _) = chained("");
    pfx.push(0);
    assert!(mistake(&pfx).contains("not well-formed"));
    let failure = mount_value(web(), "%", "application/x-pkcs12").unwrap_err();
    assert!(failure.message.contains("its value is not base64"), "{failure}");
    assert!(mistake(&sequence(&[tlv(2, &[2]), data(&sequence(&[]))].concat())).contains("another version than 3"));
}

#[test]
fn iterations_without_end_are_refused_before_any_is_done() {
    // Without a MAC both derivations are tried, out of one budget.
    let (pfx, _) = chained("-iter 310000 -nomac -passout pass:x");
    let told = mistake(&pfx);
    assert!(told.contains("too much work"), "{told}");
    for options in ["-iter 2000000", "-legacy -iter 2000000 -nomac", "-iter 1000000 -nomaciter"] {
        let (pfx, _) = chained(options);
        assert!(mistake(&pfx).contains("too much work"), "{options}");
    }
}

#[test]
fn all_files_of_a_class_share_one_budget() {
    // Half a million hash computations each: the third has not enough left, and neither has any after it.
    let (pfx, _) = chained("-iter 100000");
    let objects: Vec<String> = (0..50).map(|n| format!("objectName: web{n}\nobjectType: secret")).collect();
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    let failure = mount_pfx(class(&objects), &pfx).unwrap_err();
    assert_eq!(failure.message.lines().count(), 1, "{failure}");
    let start =
        "secret/web2, secret/web3, secret/web4, secret/web5, secret/web6 and 43 more: its PFX asks for too much work";
    assert!(failure.message.starts_with(start), "{failure}");
    // Two have enough.
    assert!(mount_pfx(class(&objects[..2]), &pfx).is_ok());
}

#[test]
fn what_the_vectors_of_other_programs_hold_is_read() {
    // Made with the derivation for no password at all instead of an empty one; see the README beside it.
    let expected = include_str!("../vectors/no-password.pem");
    assert_eq!(pem_of(include_bytes!("../vectors/no-password.pfx")), expected);
    assert_eq!(pem_of(include_bytes!("../vectors/no-password-no-mac.pfx")), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_file_is_too_strange(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(), form in 0..4_usize) {
        let (mut pfx, _) = chained(["-noiter -nomaciter -nomac", "-nomac -keypbe NONE -certpbe NONE", "-legacy -noiter -nomaciter", "-noiter -nomaciter"][form]);
        for (place, byte) in changes {
            let place = place.index(pfx.len());
            pfx[place] = byte;
        }
        let _ = mount_pfx(web(), &pfx);
        pfx.truncate(cut.index(pfx.len()));
        let _ = mount_pfx(web(), &pfx);
    }
}
