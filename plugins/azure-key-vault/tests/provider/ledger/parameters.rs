//! What a class can say, and the tests that show what comes of it.

use super::{Test, assert_shown};
use crate::sources;

const PARAMETERS: [(&str, &[Test]); 14] = [
    (
        "keyvaultName",
        &[
            ("src/parameters", "a_vault_name_is_three_to_twenty_four_letters_digits_and_dashes"),
            ("src/parameters", "a_missing_parameter_names_what_it_was_misspelt_as"),
            ("src/parameters", "values_are_trimmed"),
        ],
    ),
    (
        "tenantID",
        &[
            ("src/parameters", "the_newer_spelling_of_the_tenant_wins_unless_it_is_empty"),
            ("src/parameters", "a_tenant_has_only_characters_of_ids_and_domains"),
        ],
    ),
    ("tenantId", &[("src/parameters", "the_newer_spelling_of_the_tenant_wins_unless_it_is_empty")]),
    (
        "cloudName",
        &[
            ("src/cloud", "every_name_and_alias_is_found_in_any_case"),
            ("src/cloud", "an_unknown_cloud_is_answered_with_the_nearest_name"),
            ("src/parameters", "an_empty_cloud_is_the_public_one"),
            ("mount/arc_page", "each_sovereign_cloud_works_with_its_own_rules_and_with_no_others"),
        ],
    ),
    (
        "cloudEnvFileName",
        &[
            ("provider/clouds", "the_custom_cloud_needs_the_name_of_its_file"),
            ("provider/clouds", "a_mistake_in_the_file_names_file_and_key"),
            ("provider/identities", "parameters_without_effect_are_remarked_and_stop_nothing"),
        ],
    ),
    (
        "usePodIdentity",
        &[
            ("src/parameters", "every_boolean_of_go_is_understood_and_nothing_else"),
            ("provider/identities", "pod_identity_asks_the_nmi_for_the_pod_as_it_has_always_been_asked"),
            ("mount/identities", "pod_identity_gives_a_pod_what_is_bound_to_it_and_to_no_other"),
        ],
    ),
    (
        "useVMManagedIdentity",
        &[
            ("src/parameters", "every_boolean_of_go_is_understood_and_nothing_else"),
            ("provider/identities", "the_identity_of_the_node_comes_from_its_metadata_service"),
        ],
    ),
    (
        "userAssignedIdentityID",
        &[
            (
                "provider/identities",
                "an_assigned_identity_is_named_by_its_client_id_and_the_resource_is_that_of_the_cloud",
            ),
            ("src/parameters", "an_identity_of_another_way_to_sign_in_is_remarked"),
            ("mount/identities", "an_identity_assigned_to_the_node_is_asked_for_by_its_client_id"),
        ],
    ),
    (
        "clientID",
        &[
            ("provider/identities", "workload_identity_exchanges_the_token_for_its_audience"),
            ("provider/identities", "identity_binding_without_a_client_id_says_so"),
            ("mount/identities", "workload_identity_exchanges_the_token_of_the_service_account"),
        ],
    ),
    (
        "useAzureTokenProxy",
        &[
            ("src/parameters", "every_boolean_of_go_is_understood_and_nothing_else"),
            ("provider/identities", "identity_binding_asks_at_the_url_of_entra_with_the_token_for_its_audience"),
            ("mount/identities", "identity_binding_goes_through_the_token_proxy_and_everything_else_does_not"),
        ],
    ),
    (
        "objects",
        &[
            ("src/objects", "an_indented_first_line_still_parses"),
            ("src/objects", "lists_and_scalars_are_no_objects"),
            ("src/objects", "every_shape_without_objects_is_empty"),
            ("src/objects", "a_null_element_is_dropped_and_the_others_keep_their_position"),
            ("src/yaml", "only_the_first_document_is_read"),
            ("src/yaml", "aliases_and_merge_keys_are_resolved"),
        ],
    ),
    (
        "constructPEMChain",
        &[
            ("src/parameters", "what_becomes_of_certificates_is_a_pair_of_booleans"),
            ("provider/pfx", "a_chain_is_put_in_order_whatever_the_order_of_the_file"),
            ("provider/pfx", "certificates_that_are_not_one_chain_stay_in_order_and_are_remarked"),
            ("provider/pfx", "a_leaf_without_an_identifier_of_its_own_is_a_leaf"),
        ],
    ),
    (
        "writeCertAndKeyInSeparateFiles",
        &[
            ("provider/pfx", "certificates_and_keys_have_files_of_their_own_where_the_class_says_so"),
            ("provider/history", "certificates_of_several_versions_have_files_for_each"),
            ("mount/objects", "a_certificate_in_pfx_form_becomes_pem_in_one_file_or_three"),
        ],
    ),
    (
        "failoverKeyvaultName",
        &[
            ("src/parameters", "the_vault_to_fall_back_to_is_another_one"),
            ("provider/failover", "in_an_outage_everything_comes_from_the_second_and_is_remarked"),
        ],
    ),
];

const FIELDS: [(&str, &[Test]); 12] = [
    (
        "objectName",
        &[
            ("src/objects/object", "an_object_needs_a_name_and_a_type"),
            ("src/objects/object", "names_and_versions_that_leave_their_path_are_refused"),
            ("provider/classes", "all_objects_are_asked_for_in_one_batch_with_one_token"),
        ],
    ),
    (
        "objectType",
        &[
            ("src/objects/object", "types_are_exact"),
            ("provider/classes", "keys_and_certificates_become_pem_and_keep_their_ids"),
            ("mount/objects", "secrets_keys_and_certificates_come_with_one_token_and_all_at_the_same_time"),
        ],
    ),
    (
        "objectVersion",
        &[
            ("src/objects/object", "latest_and_empty_mean_the_current_version"),
            ("provider/classes", "of_two_versions_of_one_object_the_status_names_the_last"),
        ],
    ),
    (
        "objectAlias",
        &[
            ("src/objects/object", "the_alias_is_the_file_and_never_the_id"),
            ("src/objects/path", "each_rule_has_its_own_problem"),
            ("provider/classes", "aliases_modes_and_encodings_shape_the_files"),
        ],
    ),
    (
        "objectVersionHistory",
        &[
            ("src/objects/object", "one_version_is_what_every_number_below_two_means"),
            ("src/objects/fields", "a_number_is_read_as_go_yaml_reads_it"),
            ("provider/history", "the_newest_versions_are_numbered_files_in_a_folder"),
            ("src/vault/list", "entries_without_attributes_are_dropped_and_without_times_are_the_oldest"),
            ("src/vault/list", "versions_of_one_second_stay_in_order"),
        ],
    ),
    (
        "objectFormat",
        &[
            ("src/objects/object", "formats_ignore_case_and_pfx_is_for_secrets"),
            ("src/content", "the_secret_of_a_certificate_follows_content_type_and_format"),
            ("provider/classes", "a_pfx_is_mounted_as_it_is_where_the_class_says_so"),
        ],
    ),
    (
        "objectEncoding",
        &[
            ("src/objects/object", "encodings_ignore_case_and_are_for_secrets"),
            ("src/content", "base64_has_padding_may_have_line_ends_and_forgives_trailing_bits"),
            ("src/content", "hex_has_both_cases_and_whole_bytes"),
            ("provider/pfx", "pem_of_a_pfx_cannot_be_decoded_once_more"),
        ],
    ),
    (
        "filePermission",
        &[
            ("src/objects/object", "permissions_are_octal_with_or_without_a_leading_zero"),
            ("src/objects/fields", "values_that_look_like_other_types_stay_text"),
            ("node/publish", "modes_and_folders_are_those_of_the_class"),
        ],
    ),
    (
        "objectOptional",
        &[
            ("src/objects/object", "an_object_is_optional_only_where_the_class_says_so"),
            ("provider/history", "a_missing_object_that_is_optional_is_left_out_and_remarked"),
            ("node/publish", "a_class_whose_optional_objects_are_all_missing_is_a_volume_without_files"),
        ],
    ),
    (
        "jmesPath",
        &[
            ("src/objects/object", "parts_of_a_json_secret_are_expressions_with_a_file_each"),
            ("src/objects/object", "every_mistake_in_a_part_is_told"),
            ("provider/parts", "parts_stand_beside_the_whole_and_may_have_a_permission_of_their_own"),
        ],
    ),
    (
        "objectNamePattern",
        &[
            ("src/objects/object", "a_selection_stands_for_secrets_by_name_and_tags"),
            ("src/objects/object", "what_is_for_one_object_is_refused_beside_a_selection"),
            ("provider/history", "secrets_can_be_chosen_by_name_and_tags"),
        ],
    ),
    (
        "objectTags",
        &[
            ("src/objects/selection", "all_tags_have_to_be_there_with_their_values"),
            ("provider/history", "secrets_can_be_chosen_by_name_and_tags"),
        ],
    ),
];

#[test]
fn every_parameter_and_every_field_has_tests_that_show_it() {
    assert!(PARAMETERS.iter().map(|(name, _)| *name).eq(sources::parameters()));
    assert!(FIELDS.iter().map(|(name, _)| *name).eq(sources::fields()));
    for (name, tests) in PARAMETERS.iter().chain(&FIELDS) {
        assert_shown(name, tests);
    }
}
