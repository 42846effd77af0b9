//! The failures that a user of the Azure provider can tell apart, and how they are told apart here.

use super::{Test, assert_shown};
use crate::sources::unsaid;

/// What a failure means to whoever decides what happens next, as in `wit/provider.wit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    InvalidRequest,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    Throttled,
    Unavailable,
    Internal,
    /// The driver refuses before a provider is asked.
    Driver,
}

struct Row {
    /// As in the catalogue; where it has no name, what happened.
    row: &'static str,
    kind: Kind,
    /// The words that tell it from the others; `…` for what differs.
    words: &'static str,
    tests: &'static [Test],
}

use Kind::{Driver, Internal, InvalidRequest, NotFound, PermissionDenied, Throttled, Unauthenticated, Unavailable};

const fn row(row: &'static str, kind: Kind, words: &'static str, tests: &'static [Test]) -> Row {
    Row { row, kind, words, tests }
}

/// Those of the parameters. Attributes and the mode are no JSON here, so there is nothing to be broken.
const CLASSES: [Row; 22] = [
    row(
        "E-JSON-ATTR",
        Driver,
        "Volume attributes missing in request",
        &[("node/publish", "a_request_that_lacks_something_is_refused_before_anything_is_done")],
    ),
    row(
        "E-JSON-SEC",
        Driver,
        "the service account tokens are not what kubelet sends",
        &[
            ("publish/tokens", "what_is_something_else_is_refused_without_a_word_of_it"),
            ("node/publish", "tokens_among_the_secrets_do_not_become_secrets_of_the_provider"),
        ],
    ),
    row(
        "E-JSON-PERM",
        InvalidRequest,
        "filePermission … must be octal, between 0 and 0777",
        &[("src/objects/object", "permissions_are_octal_with_or_without_a_leading_zero")],
    ),
    row(
        "E-POD, E-NS",
        InvalidRequest,
        "pod … is not provided: set podInfoOnMount of the CSIDriver object to true",
        &[
            ("provider/identities", "pod_identity_without_a_pod_says_what_is_missing"),
            ("node/forged", "where_kubelet_says_nothing_about_the_pod_nothing_is_published"),
        ],
    ),
    row(
        "E-BOOL",
        InvalidRequest,
        "failed to parse … flag: … must be true or false",
        &[
            ("src/parameters", "every_boolean_of_go_is_understood_and_nothing_else"),
            ("provider/identities", "a_flag_that_is_no_boolean_is_quoted_and_no_way_is_chosen"),
        ],
    ),
    row(
        "E-MODES",
        InvalidRequest,
        "only one identity mode may be on, and … are true",
        &[("provider/identities", "more_than_one_mode_is_refused_by_all_their_names")],
    ),
    row(
        "E-KV",
        InvalidRequest,
        "keyvaultName is not provided",
        &[
            ("src/parameters", "a_missing_parameter_names_what_it_was_misspelt_as"),
            ("mount/mistakes", "a_missing_parameter_is_named"),
        ],
    ),
    row(
        "E-TENANT",
        InvalidRequest,
        "tenantID or tenantId is not provided",
        &[("src/parameters", "the_newer_spelling_of_the_tenant_wins_unless_it_is_empty")],
    ),
    row(
        "E-CLOUD",
        InvalidRequest,
        "cloudName … is not valid",
        &[
            ("src/cloud", "an_unknown_cloud_is_answered_with_the_nearest_name"),
            ("src/cloud", "a_file_that_is_not_granted_is_named"),
            ("provider/clouds", "a_mistake_in_the_file_names_file_and_key"),
            ("mount/mistakes", "an_unknown_cloud_is_answered_with_the_nearest_one"),
        ],
    ),
    row(
        // A wrapper there; here the cause stands alone, and names the way to sign in by its parameter.
        "E-AUTH",
        InvalidRequest,
        "is required for useAzureTokenProxy",
        &[("provider/identities", "identity_binding_without_a_client_id_says_so")],
    ),
    row(
        "E-SP-NIL",
        InvalidRequest,
        "nodePublishSecretRef secret is not set",
        &[
            ("provider/failures", "without_the_keys_of_the_secret_nothing_is_sent"),
            ("src/identity/service_principal", "a_volume_without_a_secret_is_told_to_name_one"),
        ],
    ),
    row(
        "E-SP-ID, E-SP-SECRET",
        InvalidRequest,
        "could not find … in secrets: the Secret that nodePublishSecretRef names has no key …",
        &[
            ("src/identity/service_principal", "missing_keys_are_named_with_what_they_were_misspelt_as"),
            ("mount/mistakes", "a_secret_without_a_key_names_the_key"),
        ],
    ),
    row(
        "E-WI-NOTOK",
        InvalidRequest,
        "service account tokens not found, which clientID asks to sign in with",
        &[
            ("provider/identities", "without_its_token_workload_identity_says_what_to_add_and_is_no_service_principal"),
            ("mount/identities", "workload_identity_without_trust_or_time_or_token_says_what_is_missing"),
        ],
    ),
    row(
        "E-WI-JSON",
        Driver,
        "the service account tokens are not what kubelet sends: check …",
        &[("publish/tokens", "what_is_something_else_is_refused_without_a_word_of_it")],
    ),
    row(
        "E-WI-AUD",
        InvalidRequest,
        "token for audience … not found, only for …",
        &[("provider/identities", "without_its_token_workload_identity_says_what_to_add_and_is_no_service_principal")],
    ),
    row(
        "E-IB-ID",
        InvalidRequest,
        "clientID is required for useAzureTokenProxy",
        &[("provider/identities", "identity_binding_without_a_client_id_says_so")],
    ),
    row(
        "E-IB-TOK",
        InvalidRequest,
        "service account tokens are required for identity binding, and there are none",
        &[("provider/identities", "without_its_token_identity_binding_says_what_to_add")],
    ),
    row(
        "E-OBJ-EMPTY",
        InvalidRequest,
        "objects is not set",
        &[("src/parameters", "a_missing_parameter_names_what_it_was_misspelt_as")],
    ),
    row(
        "E-OBJ-YAML",
        InvalidRequest,
        "objects must be a mapping with the key …",
        &[
            ("src/objects", "lists_and_scalars_are_no_objects"),
            ("src/objects", "a_mapping_as_element_is_told_to_be_a_block_of_text"),
            ("mount/mistakes", "objects_that_are_no_yaml_are_located_by_element_and_position"),
        ],
    ),
    row(
        "E-OBJ-ITEM",
        InvalidRequest,
        "objects.array[… this is not a mapping: write one …",
        &[
            ("src/objects", "broken_yaml_is_located_in_its_element"),
            ("src/objects", "a_duplicate_field_is_located_in_its_element"),
            ("src/objects/fields", "collections_as_values_are_located"),
        ],
    ),
    row(
        "E-VAULT",
        InvalidRequest,
        "must have 3 to 24 characters … must be the name alone, letters, digits and dashes",
        &[("src/parameters", "a_vault_name_is_three_to_twenty_four_letters_digits_and_dashes")],
    ),
    row(
        "E-TYPE",
        InvalidRequest,
        "objectType … must be secret, key or cert, in lower case",
        &[("src/objects/object", "types_are_exact")],
    ),
];

/// Signing in: E-CLIENT and what Entra, the metadata service and the NMI say.
const SIGN_IN: [Row; 13] = [
    row(
        "E-CLIENT, tenant",
        InvalidRequest,
        "is not a tenant: write its id or one of its domains",
        &[("src/parameters", "a_tenant_has_only_characters_of_ids_and_domains")],
    ),
    row(
        "E-CLIENT, token proxy",
        Unauthenticated,
        "or no egress rule leads the request to the token proxy",
        &[
            ("mount/identities", "without_its_rule_identity_binding_reaches_entra_and_is_told_so"),
            ("mount/identities", "a_token_proxy_with_another_certificate_gets_no_token"),
        ],
    ),
    row(
        "a wrong or expired client secret",
        Unauthenticated,
        "the client secret is wrong … the client secret has expired",
        &[
            ("provider/failures", "a_wrong_client_secret_is_told_with_the_key_to_change"),
            ("provider/failures", "each_refusal_of_entra_has_its_advice"),
            ("mount/refusals", "an_expired_client_secret_ends_with_77"),
        ],
    ),
    row(
        "no such tenant",
        InvalidRequest,
        "there is no such tenant: check tenantID and cloudName",
        &[
            ("provider/failures", "each_refusal_of_entra_has_its_advice"),
            ("mount/refusals", "an_unknown_tenant_ends_with_65_and_is_named"),
        ],
    ),
    row(
        "a conditional access policy",
        PermissionDenied,
        "a conditional access policy forbids it",
        &[("provider/failures", "each_refusal_of_entra_has_its_advice")],
    ),
    row(
        "no trust in the service account",
        Unauthenticated,
        "give it a federated credential",
        &[("provider/identities", "each_refusal_of_a_federated_token_has_its_advice")],
    ),
    row(
        "an expired token of the service account",
        Unauthenticated,
        "the service account token for audience … expired … seconds ago",
        &[("provider/identities", "an_expired_token_is_not_sent_and_asks_for_another_one")],
    ),
    row(
        "no managed identity on the node",
        Unauthenticated,
        "identity isn't assigned to the node",
        &[("provider/identities", "refusals_of_the_metadata_service_say_what_to_do")],
    ),
    row(
        "a refusal of the NMI",
        Unauthenticated,
        "nmi response failed with status code: …, response body: …",
        &[("provider/identities", "refusals_of_the_nmi_say_what_to_do")],
    ),
    row(
        "sign-in is throttled",
        Throttled,
        "answers with status …",
        &[
            ("provider/failures", "an_unreachable_entra_is_told_by_its_host"),
            ("provider/failures", "whoever_is_throttled_learns_how_many_seconds_to_wait"),
        ],
    ),
    row(
        "sign-in has a problem of its own, or nobody is there",
        Unavailable,
        "answers with status … no answer in time",
        &[
            ("provider/failures", "an_unreachable_entra_is_told_by_its_host"),
            ("mount/refusals", "entra_with_a_problem_of_its_own_ends_with_69"),
        ],
    ),
    row(
        "sign-in redirects",
        Internal,
        ", a redirect, which is not followed",
        &[
            ("provider/failures", "a_redirect_of_entra_or_a_vault_is_told_and_nothing_more_is_sent"),
            ("mount/refusals", "a_redirect_of_entra_ends_with_70_and_the_client_secret_goes_nowhere_else"),
        ],
    ),
    row(
        "an answer without a token",
        Internal,
        "answer has no access_token … answer is not the JSON of a token",
        &[("src/identity/grant", "an_answer_without_a_token_is_not_understood")],
    ),
];

/// E-OBJ: what a vault says about an object.
const VAULTS: [Row; 14] = [
    row(
        "401 after a new token",
        Unauthenticated,
        "does not accept the token of …",
        &[("provider/tokens", "a_vault_that_keeps_rejecting_is_asked_twice_and_no_more")],
    ),
    row(
        "401 of a vault of another tenant",
        Unauthenticated,
        ": the vault belongs to another tenant, check tenantID",
        &[("src/vault/refusal", "a_vault_of_another_tenant_is_recognised")],
    ),
    row(
        "401 with a claims challenge",
        Unauthenticated,
        ": it asks for further claims, and a new token did not bring them",
        &[
            ("provider/tokens", "a_claims_challenge_costs_a_kept_token_and_is_told_when_a_new_one_meets_it_too"),
            ("mount/refusals", "a_claims_challenge_of_a_vault_ends_with_77_after_one_new_token"),
        ],
    ),
    row(
        "401 for another resource",
        Unauthenticated,
        "asks for a token for … which is not the resource … of its cloud; none is sent",
        &[("provider/tokens", "a_challenge_for_another_resource_is_not_followed_with_or_without_a_session")],
    ),
    row(
        "403 of a policy or role",
        PermissionDenied,
        "give … the role …",
        &[
            ("src/vault/refusal", "a_missing_permission_names_principal_role_and_vault"),
            ("mount/refusals", "a_vault_that_forbids_ends_with_77_and_says_which_permission_is_missing"),
        ],
    ),
    row(
        "403 of a firewall",
        PermissionDenied,
        "does not let the node in: allow its address, or use a private endpoint",
        &[("src/vault/refusal", "the_state_of_an_object_and_the_network_of_a_vault_are_told_apart")],
    ),
    row(
        "403 of a disabled, expired or early object",
        PermissionDenied,
        "is disabled: enable it … has expired: renew it … is not valid yet: wait",
        &[
            ("src/vault/refusal", "the_state_of_an_object_and_the_network_of_a_vault_are_told_apart"),
            ("mount/refusals", "a_disabled_secret_ends_with_77_and_says_so"),
        ],
    ),
    row(
        "404 SecretNotFound, KeyNotFound, CertificateNotFound",
        NotFound,
        "of this name: check objectName and objectType, or recover it if it was deleted",
        &[
            ("src/vault/refusal", "a_missing_version_is_named"),
            ("mount/refusals", "a_secret_that_is_not_there_ends_with_65_and_is_named"),
        ],
    ),
    row(
        "no enabled version",
        NotFound,
        "has no enabled version",
        &[("provider/history", "the_history_starts_at_the_version_that_the_class_names")],
    ),
    row(
        "400 BadParameter",
        InvalidRequest,
        "the vault cannot read the request: check objectVersion",
        &[("src/vault/refusal", "every_other_status_has_its_kind")],
    ),
    row(
        "429 Throttled",
        Throttled,
        "the vault asks to slow down",
        &[
            ("src/vault/refusal", "every_other_status_has_its_kind"),
            ("mount/refusals", "a_vault_that_asks_for_a_longer_wait_than_there_is_time_ends_with_69_at_once"),
        ],
    ),
    row(
        "5xx",
        Unavailable,
        "has a problem of its own",
        &[("mount/refusals", "a_vault_with_a_problem_of_its_own_ends_with_69")],
    ),
    row(
        "a link to another place, a list without end",
        Internal,
        "the vault's list goes on at … the vault's list leads back to a page … the vault's list is longer than",
        &[
            ("src/vault/list", "a_link_to_anywhere_else_is_refused"),
            ("src/vault/list", "loops_and_lists_without_end_are_refused"),
            ("mount/objects", "a_list_that_goes_on_elsewhere_or_for_ever_is_refused_and_gets_no_token"),
        ],
    ),
    row(
        "secret value is nil, key id is nil and the like",
        Internal,
        "the vault's answer has no …",
        &[
            ("src/vault/answer", "every_missing_field_is_named"),
            ("provider/failures", "an_answer_without_its_fields_names_object_and_field"),
        ],
    ),
];

/// What happens on the way to a host.
const NETWORK: [Row; 6] = [
    row(
        "no rule",
        PermissionDenied,
        "the egress rules of the grant do not allow the request",
        &[("mount/mistakes", "a_request_that_no_rule_of_the_grant_allows_is_not_sent")],
    ),
    row(
        "no such host",
        Unavailable,
        "the name does not resolve",
        &[("mount/network", "a_name_that_does_not_resolve_ends_with_69_and_is_named")],
    ),
    row(
        "no connection",
        Unavailable,
        "no connection: …",
        &[("mount/network", "a_proxy_that_takes_no_connections_ends_with_69_and_is_named_without_its_credentials")],
    ),
    row(
        "no trust",
        Unavailable,
        "no trusted TLS connection: …",
        &[("mount/network", "a_certificate_that_proves_nothing_ends_with_69_and_says_what_is_wrong_with_it")],
    ),
    row(
        "no answer",
        Unavailable,
        "no answer in time",
        &[("mount/network", "a_vault_that_does_not_answer_ends_with_69_and_is_named_when_the_time_is_up")],
    ),
    row(
        "too much for the grant",
        PermissionDenied,
        "the answer is larger than the grant allows: … a budget of the call is used up: …",
        &[("egress/budgets", "retries_are_requests_too"), ("hostile/asking", "asks_ten_thousand_times_in_a_row")],
    ),
];

/// What cannot become a file. All of them say which object it is.
const CONTENT: [Row; 9] = [
    row(
        "E-OBJ",
        PermissionDenied,
        "secret/a: kv1.vault.azure.net has no secret of this name",
        &[
            ("provider/failures", "all_objects_that_fail_are_told_at_once"),
            ("src/failure", "throttling_is_the_kind_only_when_nothing_permanent_failed"),
            ("mount/refusals", "one_object_that_fails_keeps_all_of_them_out_and_all_that_fail_are_named"),
        ],
    ),
    row(
        "unknown content type",
        InvalidRequest,
        "it has the unknown content type … the vault does not say of which content type it is",
        &[("src/content", "the_secret_of_a_certificate_follows_content_type_and_format")],
    ),
    row(
        "illegal base64 or hex data",
        InvalidRequest,
        "its value is not base64: check objectEncoding … its value is not hexadecimal digits in pairs",
        &[
            ("provider/failures", "an_object_that_cannot_become_a_file_is_named_without_its_value"),
            ("provider/pfx", "pem_of_a_pfx_cannot_be_decoded_once_more"),
        ],
    ),
    row(
        "decryption password incorrect",
        InvalidRequest,
        "its PFX is damaged or closed with a password",
        &[("provider/pfx", "a_file_with_a_password_is_told_so")],
    ),
    row(
        "algorithm is not supported, unknown private key type",
        InvalidRequest,
        "which is not supported … its private key is of the unknown type",
        &[("provider/pfx", "what_is_not_supported_is_named")],
    ),
    row(
        "iterations without end",
        InvalidRequest,
        "its PFX asks for too much work",
        &[
            ("provider/pfx", "iterations_without_end_are_refused_before_any_is_done"),
            ("provider/pfx", "all_files_of_a_class_share_one_budget"),
            ("mount/objects", "a_pfx_cannot_use_up_the_processor"),
        ],
    ),
    row(
        "no leaf found, constructing chain resulted in cycle",
        InvalidRequest,
        "no leaf found … constructing chain resulted in cycle",
        &[
            ("src/content/chain", "circles_have_no_leaf_or_no_end"),
            ("provider/pfx", "without_certificates_there_is_no_chain"),
        ],
    ),
    row(
        "key type currently not supported, curve is not supported",
        InvalidRequest,
        "it is a key of the type … which has no public PEM … it is on the curve …",
        &[("provider/keys", "keys_that_have_no_public_pem_are_named_by_type_or_curve")],
    ),
    row(
        "a point beside its curve",
        Internal,
        "the vault's key is not a point on its curve",
        &[("provider/keys", "a_point_beside_its_curve_is_refused")],
    ),
];

#[test]
fn every_failure_has_its_words_and_a_test_that_shows_it() {
    let all = || CLASSES.iter().chain(&SIGN_IN).chain(&VAULTS).chain(&NETWORK).chain(&CONTENT);
    for Row { row, words, tests, .. } in all() {
        assert_shown(row, tests);
        let nobody_says = unsaid(words);
        assert!(nobody_says.is_empty(), "{row}: {nobody_says:?}");
    }
    let mut kinds: Vec<Kind> = all().map(|row| row.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 8, "every kind is the answer to something: {kinds:?}");
}

#[test]
fn no_two_failures_have_the_same_words() {
    let mut words: Vec<&str> =
        CLASSES.iter().chain(&SIGN_IN).chain(&VAULTS).chain(&NETWORK).chain(&CONTENT).map(|row| row.words).collect();
    words.sort_unstable();
    assert!(words.windows(2).all(|pair| pair[0] != pair[1]), "{words:?}");
}
