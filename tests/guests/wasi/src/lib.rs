//! A provider that imports WASI 0.2 and shows what it finds there. The parameter `mode` of the class chooses what it
//! does, see `modes.rs`.

// The macro's output holds the exports of the component, which are unsafe by nature, and no documentation.
#[allow(missing_docs, unsafe_code, unused_qualifications, reason = "generated")]
mod contract {
    wit_bindgen::generate!({ world: "coffer:guests/with-wasi", path: ["../../../wit", "wit"], generate_all });
    export!(Wasi with_types_in self);
    use super::Wasi;
}

#[macro_use]
#[path = "../modes.rs"]
mod modes;

use contract::coffer::provider::types::{
    Checked, Explanation, Failure, File, Mounted, ObjectVersion, Outcome, Request, Scope,
};
use contract::wasi::cli::{environment, exit, stderr, stdin, stdout};
use contract::wasi::clocks::{monotonic_clock, wall_clock};
use contract::wasi::filesystem::preopens;
use contract::wasi::random::{insecure, insecure_seed, random};
use contract::wasi::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use contract::wasi::sockets::{instance_network, ip_name_lookup, tcp_create_socket, udp_create_socket};

struct Wasi;

impl contract::Guest for Wasi {
    fn check(_: Vec<(String, String)>) -> Result<Checked, Failure> {
        Ok(Checked { scope: Scope::ServiceAccount, session_key: String::new(), remarks: Vec::new() })
    }

    fn mount(request: Request) -> Result<Outcome, Failure> {
        let mode = request.parameters.iter().find(|(key, _)| key == "mode").map_or("", |(_, mode)| mode);
        let found = facts(mode)?;
        let files = found
            .into_iter()
            .map(|(name, text)| File { path: name.to_owned(), mode: None, contents: text.into_bytes() })
            .collect();
        let objects = vec![ObjectVersion { id: "object".to_owned(), version: "1".to_owned() }];
        Ok(Outcome::Files(Mounted { files, objects, session: None }))
    }
}

/// What a mode found: names and texts.
type Facts = Vec<(&'static str, String)>;

/// Makes `facts`, which calls the function of each mode.
macro_rules! call_the_mode {
    ($($(#[doc = $about:literal])+ $mode:ident,)+) => {
        fn facts(mode: &str) -> Result<Facts, Failure> {
            match mode {
                $(stringify!($mode) => Ok($mode()),)+
                other => {
                    Err(Failure::InvalidRequest(Explanation { message: format!("there is no mode '{other}'") }))
                }
            }
        }
    };
}
for_each_wasi_mode!(call_the_mode);

fn tells_what_it_sees() -> Facts {
    let now = wall_clock::now();
    let (low, high) = insecure_seed::insecure_seed();
    let earlier = monotonic_clock::now();
    vec![
        ("wall-clock", format!("{}.{:09}", now.seconds, now.nanoseconds)),
        ("monotonic-clock", (monotonic_clock::now() >= earlier).to_string()),
        ("environment", format!("{:?}", environment::get_environment())),
        ("arguments", format!("{:?}", environment::get_arguments())),
        ("working-directory", format!("{:?}", environment::initial_cwd())),
        ("directories", preopens::get_directories().len().to_string()),
        ("input", format!("{:?}", stdin::get_stdin().blocking_read(1).map_err(|_| "closed"))),
        ("random", format!("{:02x?}", random::get_random_bytes(16))),
        ("insecure-random", format!("{:02x?}", insecure::get_insecure_random_bytes(16))),
        ("insecure-seed", format!("{low:x} {high:x}")),
    ]
}

fn writes_to_its_output() -> Facts {
    let written = [
        stdout::get_stdout().blocking_write_and_flush(b"a line on standard output\n"),
        stderr::get_stderr().blocking_write_and_flush(b"a line on standard error\n"),
    ];
    vec![("written", written.iter().filter(|w| w.is_ok()).count().to_string())]
}

fn floods_its_output() -> Facts {
    let output = stdout::get_stdout();
    let written = (0..100_000).filter(|n| output.blocking_write_and_flush(format!("line {n}\n").as_bytes()).is_ok());
    vec![("written", written.count().to_string())]
}

fn opens_sockets() -> Facts {
    let network = instance_network::instance_network();
    let loopback = |port| IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) });
    let tcp = || tcp_create_socket::create_tcp_socket(IpAddressFamily::Ipv4);
    let udp = udp_create_socket::create_udp_socket(IpAddressFamily::Ipv4);
    vec![
        ("connect", said(tcp().and_then(|socket| socket.start_connect(&network, loopback(80))))),
        ("listen", said(tcp().and_then(|socket| socket.start_bind(&network, loopback(0))))),
        ("datagram", said(udp.and_then(|socket| socket.start_bind(&network, loopback(0))))),
        ("lookup", said(ip_name_lookup::resolve_addresses(&network, "localhost").map(drop))),
        ("lookup-address", said(ip_name_lookup::resolve_addresses(&network, "127.0.0.1").map(drop))),
    ]
}

fn said(result: Result<(), contract::wasi::sockets::network::ErrorCode>) -> String {
    match result {
        Ok(()) => "allowed".to_owned(),
        Err(code) => code.name().to_owned(),
    }
}

fn exits() -> Facts {
    exit::exit(Ok(()));
    Vec::new()
}

fn sleeps() -> Facts {
    monotonic_clock::subscribe_duration(365 * 24 * 60 * 60 * 1_000_000_000).block();
    Vec::new()
}

fn wants_a_gibibyte_of_randomness() -> Facts {
    vec![("random", random::get_random_bytes(1 << 30).len().to_string())]
}

fn hoards_streams() -> Facts {
    let mut hoard = Vec::new();
    loop {
        hoard.push(stdout::get_stdout());
    }
}
