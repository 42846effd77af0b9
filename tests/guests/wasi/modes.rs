//! The list of everything the guest can do; see `modes.rs` of the other guest.

/// Calls the macro `$then` with all modes.
macro_rules! for_each_wasi_mode {
    ($then:ident) => {
        $then! {
            /// A file for each thing that WASI could tell.
            tells_what_it_sees,
            /// A line to standard output and one to standard error.
            writes_to_its_output,
            /// Standard output without end.
            floods_its_output,
            /// A connection, a listening socket, a datagram socket, a name lookup.
            opens_sockets,
            /// Ends the process, as it thinks.
            exits,
            /// Sleeps for a year.
            sleeps,
            /// A gibibyte of random bytes at once.
            wants_a_gibibyte_of_randomness,
            /// Streams without end.
            hoards_streams,
        }
    };
}
