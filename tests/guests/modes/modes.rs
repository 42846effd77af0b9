//! The list of everything the guest can do, one mode each. Guest and tests share it: the guest makes a function call
//! of each mode, the tests make a `use` of a test function of each, so a mode without a test does not compile.

/// Calls the macro `$then` with all modes.
macro_rules! for_each_mode {
    ($then:ident) => {
        $then! {
            /// One file with the parameter `contents`, or with the answer to a GET of the parameter `url`.
            behaves,
            /// As `behaves`, but `check` says that the store authenticates pods.
            says_that_its_scope_is_pod,
            /// Nothing newer, whatever the volume holds.
            answers_unchanged,
            /// The failure that the parameter `failure` names, with the message in the parameter `message`.
            fails_as_told,
            /// Refuses its parameters in `check`.
            refuses_its_parameters,
            /// Returns the session that it got, followed by one byte.
            keeps_a_session,

            /// An endless loop in `mount`, after a GET of the parameter `url` if there is one.
            loops_for_ever,
            /// An endless loop in `check`.
            loops_for_ever_in_check,
            /// A little computing, a request, and so on: each slice is short, the sum is not.
            loops_between_requests,
            /// Calls itself until the stack ends.
            recurses_without_end,
            /// Takes memory until there is none, and touches it.
            hoards_memory,
            /// A hundred files of 1 MiB.
            returns_a_hundred_mebibytes,
            /// A hundred thousand files that all show the same 1 MiB of guest memory.
            returns_one_mebibyte_many_times,
            /// A hundred thousand object versions.
            returns_a_hundred_thousand_versions,
            /// A session of 1 MiB.
            returns_a_session_of_a_mebibyte,
            /// Sends one request, then traps.
            traps_half_way,
            /// A hundred thousand log lines.
            floods_the_log,
            /// A log line of 1 MiB.
            logs_a_mebibyte,
            /// A failure with a message of 1 MiB.
            fails_with_a_mebibyte,
            /// A failure whose message ends the line and paints the terminal.
            forges_a_log_line,

            /// Its token in a log line.
            logs_its_token,
            /// Its token in a failure's message.
            fails_with_its_token,
            /// Its token in the path of an allowed request.
            asks_a_path_with_its_token,
            /// Its token in the path of a file.
            names_a_file_after_its_token,
            /// Its token as the version of an object.
            names_a_version_after_its_token,

            /// A host that no rule names.
            asks_a_forbidden_host,
            /// Methods that no rule names.
            asks_with_a_forbidden_method,
            /// The vault in the parameter `other`, where the rule says `{keyvaultName}`.
            asks_another_vault,
            /// Paths that begin like the prefix of the rule, and are not below it.
            asks_beside_the_prefix,
            /// A host with a trailing dot.
            asks_a_host_with_a_trailing_dot,
            /// Addresses instead of names.
            asks_an_address,
            /// Loopback in decimal, octal, hexadecimal and shortened form, and mapped into IPv6.
            asks_loopback_in_disguise,
            /// The unspecified address.
            asks_the_unspecified_address,
            /// Loopback and metadata service behind the prefixes of NAT64 and 6to4.
            asks_through_nat64,
            /// A name that resolves to the metadata service.
            asks_the_metadata_service_by_name,
            /// A name that resolves to a public and to a forbidden address.
            asks_a_name_with_mixed_addresses,
            /// Goes where the `location` of the answer says.
            follows_a_redirect,
            /// A URL whose userinfo looks like the host.
            asks_with_userinfo,
            /// Another `Host`, in every way a header can say so.
            overrides_the_host,
            /// Headers that belong to the connection.
            sets_headers_of_the_connection,
            /// Line ends in names and values of headers, in the method and in the URL.
            injects_a_header,
            /// A request inside `check`.
            asks_inside_check,
            /// Ten thousand requests at once.
            asks_ten_thousand_times_at_once,
            /// Ten thousand requests, one after the other.
            asks_ten_thousand_times_in_a_row,

            /// The file path in the parameter `path`, which leads out of the volume.
            escapes_the_volume,
            /// An absolute file path.
            writes_to_an_absolute_path,
            /// A file path with a component of 256 bytes, or of 4,097 bytes in all with the parameter `whole`.
            writes_to_an_overlong_path,
            /// Two files with the same path.
            writes_a_file_twice,
            /// A file and another one below it.
            writes_below_a_file,
            /// The mode in the parameter `bits`, or 0o4755.
            sets_the_setuid_bit,
        }
    };
}
