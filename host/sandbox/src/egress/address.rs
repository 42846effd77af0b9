//! Which addresses may be dialled when the rule names only a host.
//!
//! Pure: an address goes in, a verdict comes out. `connector` asks for every address that a name resolved to, before it
//! dials one of them. An address that the rule itself names (the literal in its URL, or its `connect`) is not asked about.
//!
//! It must never look anything up, and never take an IPv6 form for something else than the IPv4 address inside it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::target::Scheme;

/// Why an address is refused: the kind of address, its range and, where an IPv4 address hides in an IPv6 one, how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    kind: Kind,
    range: String,
    inside: Option<&'static str>,
}

impl Reason {
    /// What kind of address it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.kind.describe(), self.range)?;
        if let Some(form) = self.inside {
            write!(f, " in {form} form")?;
        }
        Ok(())
    }
}

/// The kinds of addresses that are not dialled without being named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// "This host", 0.0.0.0/8 and `::`: connects to the local machine on Linux.
    Unspecified,
    /// The node itself.
    Loopback,
    /// The node's own link, where metadata services live.
    LinkLocal,
    /// Metadata and platform services outside the link-local ranges.
    Platform,
    /// Multicast, and the limited broadcast address.
    Multicast,
    /// Reserved for protocols or for the future; nothing answers there, or nothing that should be asked.
    Reserved,
    /// Documentation: a mistake in DNS or in a zone file, never a server.
    Documentation,
    /// NAT64 with a prefix of the network's own choice: the IPv4 address inside cannot be told.
    LocalNat64,
    /// Private networks: fine where TLS proves the name, refused for `http`.
    Private,
}

impl Kind {
    fn describe(self) -> &'static str {
        match self {
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Platform => "an address of the cloud platform",
            Self::Multicast => "a multicast or broadcast address",
            Self::Reserved => "a reserved address",
            Self::Documentation => "a documentation address",
            Self::LocalNat64 => "an address behind a local NAT64 prefix",
            Self::Private => "a private address, which plain http may not use",
        }
    }
}

/// Whether a rule with this scheme that names only a host may dial `address`.
///
/// Ranges are those of the IANA special-purpose address registries (RFC 6890 and its successors), and the platform
/// addresses of the large clouds. Private ranges pass for `https`: a private endpoint is dialled there, and TLS proves
/// the name. Benchmarking (198.18.0.0/15) and site-local (fec0::/10) addresses count as private, since networks use them
/// that way. 192.0.0.0/24 and documentation ranges are refused: no server belongs there, and 192.0.0.192 is a metadata
/// service.
///
/// # Errors
///
/// The reason, when it may not.
pub fn permits(scheme: Scheme, address: IpAddr) -> Result<(), Reason> {
    match address {
        IpAddr::V4(v4) => permits_v4(scheme, v4, None),
        IpAddr::V6(v6) => permits_v6(scheme, v6),
    }
}

/// Whether something listens at `address` that hands out the identity of the node it is asked from: the link-local
/// ranges and the platform addresses of the large clouds.
pub(crate) fn is_of_the_platform(address: IpAddr) -> bool {
    permits(Scheme::Http, address).is_err_and(|reason| matches!(reason.kind(), Kind::LinkLocal | Kind::Platform))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(start: [u16; 4], end: u16, length: u8) -> Ipv6Net {
    let [a, b, c, d] = start;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, end), length)
}

const V4: &[(Ipv4Net, Kind)] = &[
    (v4(0, 0, 0, 0, 8), Kind::Unspecified),
    (v4(127, 0, 0, 0, 8), Kind::Loopback),
    (v4(169, 254, 0, 0, 16), Kind::LinkLocal),
    (v4(168, 63, 129, 16, 32), Kind::Platform),
    (v4(192, 0, 0, 0, 24), Kind::Reserved),
    (v4(192, 88, 99, 0, 24), Kind::Reserved),
    (v4(192, 0, 2, 0, 24), Kind::Documentation),
    (v4(198, 51, 100, 0, 24), Kind::Documentation),
    (v4(203, 0, 113, 0, 24), Kind::Documentation),
    (v4(224, 0, 0, 0, 4), Kind::Multicast),
    (v4(255, 255, 255, 255, 32), Kind::Multicast),
    (v4(240, 0, 0, 0, 4), Kind::Reserved),
    (v4(10, 0, 0, 0, 8), Kind::Private),
    (v4(172, 16, 0, 0, 12), Kind::Private),
    (v4(192, 168, 0, 0, 16), Kind::Private),
    (v4(100, 64, 0, 0, 10), Kind::Private),
    (v4(198, 18, 0, 0, 15), Kind::Private),
];

/// The first match counts: the platform's addresses stand before the private range around them.
const V6: &[(Ipv6Net, Kind)] = &[
    (v6([0, 0, 0, 0], 0, 128), Kind::Unspecified),
    (v6([0, 0, 0, 0], 1, 128), Kind::Loopback),
    (v6([0xfe80, 0, 0, 0], 0, 10), Kind::LinkLocal),
    (v6([0xfd00, 0x0ec2, 0, 0], 0x254, 128), Kind::Platform),
    (v6([0xfd20, 0x00ce, 0, 0], 0x254, 128), Kind::Platform),
    (v6([0xff00, 0, 0, 0], 0, 8), Kind::Multicast),
    (v6([0x0100, 0, 0, 0], 0, 64), Kind::Reserved),
    (v6([0x2001, 0x0db8, 0, 0], 0, 32), Kind::Documentation),
    (v6([0x3fff, 0, 0, 0], 0, 20), Kind::Documentation),
    (v6([0x0064, 0xff9b, 1, 0], 0, 48), Kind::LocalNat64),
    (v6([0xfc00, 0, 0, 0], 0, 7), Kind::Private),
    (v6([0xfec0, 0, 0, 0], 0, 10), Kind::Private),
];

fn permits_v4(scheme: Scheme, address: Ipv4Addr, inside: Option<&'static str>) -> Result<(), Reason> {
    let found = V4.iter().find(|(range, _)| range.contains(&address));
    judge(scheme, found.map(|(range, kind)| (range.to_string(), *kind)), inside)
}

fn permits_v6(scheme: Scheme, address: Ipv6Addr) -> Result<(), Reason> {
    let found = V6.iter().find(|(range, _)| range.contains(&address));
    judge(scheme, found.map(|(range, kind)| (range.to_string(), *kind)), None)?;
    embedded(address).into_iter().flatten().try_for_each(|(v4, form)| permits_v4(scheme, v4, Some(form)))
}

fn judge(scheme: Scheme, found: Option<(String, Kind)>, inside: Option<&'static str>) -> Result<(), Reason> {
    match found {
        None => Ok(()),
        Some((_, Kind::Private)) if scheme == Scheme::Https => Ok(()),
        Some((range, kind)) => Err(Reason { kind, range, inside }),
    }
}

/// The IPv4 addresses that an IPv6 address leads to: mapped and translated (RFC 4291, RFC 2765), compatible (RFC 4291),
/// 6to4 (RFC 3056), NAT64 (RFC 6052), Teredo's server and client (RFC 4380).
fn embedded(address: Ipv6Addr) -> [Option<(Ipv4Addr, &'static str)>; 2] {
    let join = |high: u16, low: u16| Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => [Some((join(high, low), "IPv4-mapped")), None],
        [0, 0, 0, 0, 0xffff, 0, high, low] => [Some((join(high, low), "IPv4-translated")), None],
        // `::` and `::1` have their own lines in the table, and come out of it before they arrive here.
        [0, 0, 0, 0, 0, 0, high, low] => [Some((join(high, low), "IPv4-compatible")), None],
        [0x2002, high, low, ..] => [Some((join(high, low), "6to4")), None],
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => [Some((join(high, low), "NAT64")), None],
        [0x2001, 0, high, low, .., client_high, client_low] => {
            [Some((join(high, low), "Teredo")), Some((join(!client_high, !client_low), "Teredo"))]
        }
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(scheme: Scheme, address: &str) -> Option<Kind> {
        permits(scheme, address.parse().unwrap()).err().map(|reason| reason.kind())
    }

    #[test]
    fn addresses_that_need_a_name_in_the_rule_are_refused_for_both_schemes() {
        let cases = [
            ("0.0.0.0", Kind::Unspecified),
            ("0.1.2.3", Kind::Unspecified),
            ("::", Kind::Unspecified),
            ("127.0.0.1", Kind::Loopback),
            ("127.255.255.254", Kind::Loopback),
            ("::1", Kind::Loopback),
            ("169.254.0.1", Kind::LinkLocal),
            ("169.254.169.254", Kind::LinkLocal),
            ("fe80::1", Kind::LinkLocal),
            ("febf::1", Kind::LinkLocal),
            ("168.63.129.16", Kind::Platform),
            ("fd00:ec2::254", Kind::Platform),
            ("fd20:ce::254", Kind::Platform),
            ("224.0.0.1", Kind::Multicast),
            ("239.255.255.255", Kind::Multicast),
            ("255.255.255.255", Kind::Multicast),
            ("ff02::1", Kind::Multicast),
            ("240.0.0.1", Kind::Reserved),
            ("255.255.255.254", Kind::Reserved),
            ("192.0.0.192", Kind::Reserved),
            ("192.88.99.1", Kind::Reserved),
            ("100::1", Kind::Reserved),
            ("192.0.2.1", Kind::Documentation),
            ("198.51.100.7", Kind::Documentation),
            ("203.0.113.255", Kind::Documentation),
            ("2001:db8::1", Kind::Documentation),
            ("3fff::1", Kind::Documentation),
            ("64:ff9b:1::a00:1", Kind::LocalNat64),
        ];
        for (address, expected) in cases {
            for scheme in [Scheme::Https, Scheme::Http] {
                assert_eq!(kind(scheme, address), Some(expected), "{scheme} {address}");
            }
        }
    }

    #[test]
    fn an_ipv4_address_inside_an_ipv6_address_is_judged_as_itself() {
        let cases = [
            ("::ffff:127.0.0.1", Kind::Loopback),
            ("::ffff:169.254.169.254", Kind::LinkLocal),
            ("::ffff:168.63.129.16", Kind::Platform),
            ("::ffff:0.0.0.0", Kind::Unspecified),
            ("::ffff:0:127.0.0.1", Kind::Loopback),
            ("::127.0.0.1", Kind::Loopback),
            ("::169.254.169.254", Kind::LinkLocal),
            ("::2", Kind::Unspecified),
            ("2002:7f00:1::", Kind::Loopback),
            ("2002:a9fe:a9fe::1", Kind::LinkLocal),
            ("2002:a83f:8110:1:2:3:4:5", Kind::Platform),
            ("64:ff9b::127.0.0.1", Kind::Loopback),
            ("64:ff9b::a9fe:a9fe", Kind::LinkLocal),
            ("64:ff9b::ffff:ffff", Kind::Multicast),
            // Teredo: server 127.0.0.1, and client 169.254.169.254 with its bits turned.
            ("2001:0:7f00:1::808:808", Kind::Loopback),
            ("2001:0:808:808::5601:5601", Kind::LinkLocal),
        ];
        for (address, expected) in cases {
            for scheme in [Scheme::Https, Scheme::Http] {
                assert_eq!(kind(scheme, address), Some(expected), "{scheme} {address}");
            }
        }
    }

    #[test]
    fn private_addresses_are_for_https_alone() {
        let cases = [
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "100.100.100.200",
            "198.18.0.1",
            "198.19.255.255",
            "fc00::1",
            "fd12:3456::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::",
            "64:ff9b::10.0.0.1",
        ];
        for address in cases {
            assert_eq!(kind(Scheme::Https, address), None, "https {address}");
            assert_eq!(kind(Scheme::Http, address), Some(Kind::Private), "http {address}");
        }
    }

    #[test]
    fn neighbours_of_the_ranges_are_public() {
        let cases = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2002:808:808::1",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
            "2001:0:808:808::f7f7:f7f7",
        ];
        for address in cases {
            assert_eq!(kind(Scheme::Http, address), None, "{address}");
            assert_eq!(kind(Scheme::Https, address), None, "{address}");
        }
    }

    #[test]
    fn a_reason_says_what_where_and_in_which_form() {
        let reason = permits(Scheme::Https, "::ffff:169.254.169.254".parse().unwrap()).unwrap_err();
        assert_eq!(reason.to_string(), "a link-local address (169.254.0.0/16) in IPv4-mapped form");
    }
}
