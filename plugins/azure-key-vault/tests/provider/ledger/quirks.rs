//! The oddities of the Azure provider, and what was decided about each.

use super::{Test, assert_shown};

/// What became of one.
enum Decision {
    /// It is as it was.
    Kept,
    /// It is otherwise, and better.
    Fixed,
    /// It is a mistake of the class, told before a vault is asked.
    Refused,
    /// It is no matter of the provider: the Helm chart decides it, and its own tests show it.
    Chart,
}

struct Quirk {
    number: u8,
    /// What the Azure provider does.
    there: &'static str,
    decision: Decision,
    /// What happens here.
    here: &'static str,
    tests: &'static [Test],
}

use Decision::{Chart, Fixed, Kept, Refused};

const QUIRKS: [Quirk; 23] = [
    Quirk {
        number: 1,
        there: "objectVersionHistory: N gives up to N + 1 files",
        decision: Fixed,
        here: "N files at most",
        tests: &[("provider/history", "exactly_as_many_versions_come_as_the_class_says")],
    },
    Quirk {
        number: 2,
        there: "a history from an unknown version has no files and no error",
        decision: Fixed,
        here: "not found, with the version",
        tests: &[("provider/history", "the_history_starts_at_the_version_that_the_class_names")],
    },
    Quirk {
        number: 3,
        there: "a bad filePermission is mode 0",
        decision: Refused,
        here: "a mistake of the class",
        tests: &[("src/objects/object", "permissions_are_octal_with_or_without_a_leading_zero")],
    },
    Quirk {
        number: 4,
        there: "objectFormat PFX in upper case is accepted for certificates and ignored",
        decision: Kept,
        here: "the same",
        tests: &[("src/objects/object", "formats_ignore_case_and_pfx_is_for_secrets")],
    },
    Quirk {
        number: 5,
        there: "objectVersion latest means something with a history only",
        decision: Fixed,
        here: "the current version everywhere",
        tests: &[
            ("src/objects/object", "latest_and_empty_mean_the_current_version"),
            ("provider/classes", "aliases_modes_and_encodings_shape_the_files"),
        ],
    },
    Quirk {
        number: 6,
        there: "clientID makes managed and pod identity fail without tokens",
        decision: Fixed,
        here: "it has no effect there, and a remark",
        tests: &[
            ("provider/identities", "each_combination_of_the_selection_table_is_its_way_to_sign_in"),
            ("provider/identities", "parameters_without_effect_are_remarked_and_stop_nothing"),
        ],
    },
    Quirk {
        number: 7,
        there: "clientID rules the service principal out",
        decision: Kept,
        here: "the same, and the message says how to choose otherwise",
        tests: &[
            ("provider/identities", "each_combination_of_the_selection_table_is_its_way_to_sign_in"),
            ("provider/identities", "without_its_token_workload_identity_says_what_to_add_and_is_no_service_principal"),
        ],
    },
    Quirk {
        number: 8,
        there: "cloudEnvFileName of one class becomes a variable that others read",
        decision: Fixed,
        here: "each class has the file that it names, and a class that names none is a mistake",
        tests: &[
            ("provider/clouds", "the_custom_cloud_needs_the_name_of_its_file"),
            ("mount/identities", "a_custom_cloud_whose_file_is_not_granted_or_lacks_a_key_says_so"),
        ],
    },
    Quirk {
        number: 9,
        there: "secrets in PEM form keep their order",
        decision: Kept,
        here: "the same",
        tests: &[("provider/pfx", "a_pem_bundle_stays_as_it_is_and_is_taken_apart_for_separate_files")],
    },
    Quirk {
        number: 10,
        there: "a PFX that stays one has two empty separate files",
        decision: Kept,
        here: "the same",
        tests: &[("provider/pfx", "separate_files_of_a_pfx_that_stays_one_are_empty")],
    },
    Quirk {
        number: 11,
        there: "a class without objects succeeds, and the driver then refuses the volume",
        decision: Refused,
        here: "a mistake of the class (ADR 14): no volume either",
        tests: &[("src/objects", "every_shape_without_objects_is_empty")],
    },
    Quirk {
        number: 12,
        there: "answers without contentType, kty, crv or an identifier, and a short authority of a challenge, end the process",
        decision: Fixed,
        here: "an error of the object that names the field; the authority is not used",
        tests: &[
            ("src/vault/answer", "every_missing_field_is_named"),
            ("src/content", "the_secret_of_a_certificate_follows_content_type_and_format"),
            ("provider/keys", "a_field_that_is_missing_or_broken_is_named"),
            ("src/vault/list", "an_entry_without_an_identifier_is_an_error"),
            ("src/vault/challenge", "what_cannot_be_read_is_unclear"),
        ],
    },
    Quirk {
        number: 13,
        there: "a custom user agent has no effect",
        decision: Fixed,
        here: "userAgentSuffix of the grant, which the host appends: no class and no provider has a say in it",
        tests: &[
            ("mount/identities", "whoever_is_asked_learns_the_version_of_the_provider_and_what_the_administrator_adds"),
            ("egress/request", "what_is_appended_to_the_user_agent_is_short_and_printable"),
        ],
    },
    Quirk {
        number: 14,
        there: "the chart cannot turn the order of chains off",
        decision: Chart,
        here: "constructPEMChain is a parameter, of a class or of the grant's `parameters`, which the chart renders",
        tests: &[("src/parameters", "what_becomes_of_certificates_is_a_pair_of_booleans")],
    },
    Quirk {
        number: 15,
        there: "profiles of the process are served beside the metrics",
        decision: Fixed,
        here: "there are none",
        tests: &[("node/operations", "nobody_gets_a_profile_of_the_process_from_the_ports_that_it_serves")],
    },
    Quirk {
        number: 16,
        there: "texts of errors are labels of metrics",
        decision: Fixed,
        here: "labels have values of a fixed set, or from the configuration",
        tests: &[
            ("metrics/tests", "neither_names_nor_numbers_of_others_make_new_series"),
            ("node/operations", "metrics_have_the_names_that_dashboards_know_and_show_no_name_of_a_secret"),
        ],
    },
    Quirk {
        number: 17,
        there: "client id and secret are used with the white space around them",
        decision: Kept,
        here: "the same, and a refusal says that it is there",
        tests: &[
            ("src/identity/service_principal", "keys_match_in_any_case_and_values_are_not_trimmed"),
            ("provider/failures", "a_client_secret_with_a_line_end_is_told_so"),
        ],
    },
    Quirk {
        number: 18,
        there: "-v has no effect on a log in JSON",
        decision: Fixed,
        here: "it has the same on both",
        tests: &[
            ("telemetry/tests", "the_level_changes_while_the_log_runs"),
            ("telemetry/tests", "commands_log_for_a_terminal_and_the_driver_for_a_collector"),
        ],
    },
    Quirk {
        number: 19,
        there: "`..` is refused anywhere in a path, in a name such as v1..2 too",
        decision: Kept,
        here: "the same",
        tests: &[("src/objects/path", "each_rule_has_its_own_problem")],
    },
    Quirk {
        number: 20,
        there: "volume attributes of the pod replace parameters",
        decision: Kept,
        here: "the same, unless the configuration denies it",
        tests: &[
            ("mount/mistakes", "a_volume_attribute_overrides_a_parameter_unless_the_configuration_denies_it"),
            ("node/publish", "attributes_of_the_pod_are_limited_by_the_configuration"),
        ],
    },
    Quirk {
        number: 21,
        there: "two objects may have one path, and the last wins",
        decision: Kept,
        here: "the same",
        tests: &[("provider/classes", "of_two_objects_with_one_path_the_last_wins")],
    },
    Quirk {
        number: 22,
        there: "PFX files with PBES2, SHA-2, another number of safes than two, or Ed25519 keys are refused",
        decision: Fixed,
        here: "they are read",
        tests: &[
            ("provider/pfx", "every_kind_of_key_is_written_as_openssl_writes_it"),
            ("provider/pfx", "every_pseudorandom_function_of_pbes2_is_read"),
            ("provider/pfx", "bags_in_bags_are_read_to_a_depth"),
            ("provider/pfx", "what_the_vectors_of_other_programs_hold_is_read"),
        ],
    },
    Quirk {
        number: 23,
        there: "a custom cloud is looked up at the public one",
        decision: Fixed,
        here: "nobody is asked but its own endpoints",
        tests: &[
            ("provider/clouds", "a_custom_cloud_is_asked_at_its_own_endpoints_and_nobody_else_is"),
            ("mount/identities", "a_custom_cloud_is_used_without_a_word_to_any_other"),
        ],
    },
];

#[test]
fn every_quirk_has_a_decision_and_a_test_that_shows_it() {
    assert!(QUIRKS.iter().map(|quirk| quirk.number).eq(1..=23));
    for Quirk { number, there, decision, here, tests } in &QUIRKS {
        assert_shown(&format!("Q{number}, {there}"), tests);
        // What is kept needs no other words than these.
        let is_kept = matches!(decision, Kept);
        assert_eq!(here.starts_with("the same"), is_kept, "Q{number}");
    }
}
