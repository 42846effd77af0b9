//! From the text of a rule to a [`Rule`], or to a [`RuleError`] that names the column.
//!
//! One pass, outside in: methods and URL, scheme, authority, path, query; each function takes a [`Span`], a piece of the
//! text that knows where it stands. Called by `Rule::from_str` alone.
//!
//! It must never guess: what is unusual is refused here, where an administrator sees it, and not at the first request.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{HostPattern, Piece, Place, Reference, Rule, RuleError};
use crate::egress::target::{Scheme, decode_segment};

/// The longest rule.
const LONGEST_RULE: usize = 2048;

/// How much of the text a mistake shows as "found".
const SHOWN: usize = 32;

/// A mistake before it knows the whole text: position in bytes, and what was expected there.
struct Mistake {
    at: usize,
    expected: String,
    found: Option<String>,
}

/// A part of the rule's text and its position there, in bytes. The text is ASCII, so bytes are characters.
#[derive(Clone, Copy)]
struct Span<'a> {
    text: &'a str,
    at: usize,
}

pub(super) fn parse(text: &str) -> Result<Rule, RuleError> {
    parse_all(text).map_err(|mistake| {
        let found = mistake.found.unwrap_or_else(|| describe(text.get(mistake.at..).unwrap_or_default()));
        // The only mistake in a text that is not ASCII stands at its first such character.
        RuleError { text: text.to_owned(), column: mistake.at + 1, expected: mistake.expected, found }
    })
}

fn parse_all(text: &str) -> Result<Rule, Mistake> {
    check_characters(text)?;
    let whole = Span { text, at: 0 };
    let (methods, url) =
        whole.cut(' ').ok_or_else(|| whole.end().mistake("a space and a URL (`GET https://host/path`)"))?;
    let methods = parse_methods(methods)?;
    let (scheme, rest) = parse_scheme(url)?;
    let (before_query, query) = match rest.cut('?') {
        Some((before, query)) => (before, Some(query)),
        None => (rest, None),
    };
    let (authority, path) = match before_query.cut('/') {
        Some((authority, path)) => (authority, Some(path)),
        None => (before_query, None),
    };
    let mut references = Vec::new();
    let (host, port) = parse_authority(authority, scheme, &mut references)?;
    let path = path.map_or_else(|| Ok(Vec::new()), |path| parse_path(path, &mut references))?;
    let query = query.map_or_else(|| Ok(Vec::new()), |query| parse_query(query, &mut references))?;
    Ok(Rule { text: text.into(), methods, scheme, host, port, path, query, references })
}

fn check_characters(text: &str) -> Result<(), Mistake> {
    if text.len() > LONGEST_RULE {
        return Err(Span { text: "", at: LONGEST_RULE }
            .mistake(format!("a rule of at most {LONGEST_RULE} bytes"))
            .with_found("more"));
    }
    let odd = text.char_indices().find(|(_, c)| !c.is_ascii_graphic() && *c != ' ');
    match odd {
        None => Ok(()),
        Some((at, _)) => Err(Span { text: "", at }
            .mistake("printable ASCII (internationalised hosts in their `xn--` form, the rest percent-encoded)")),
    }
}

fn parse_methods(list: Span<'_>) -> Result<Vec<String>, Mistake> {
    let mut methods: Vec<String> = Vec::new();
    for method in list.split(',') {
        if method.text.is_empty() || !method.text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
            return Err(method.mistake("a method in upper case (`GET`, or several: `GET,POST`)"));
        }
        if matches!(method.text, "CONNECT" | "TRACE") {
            return Err(method.mistake("a method other than CONNECT and TRACE"));
        }
        if methods.iter().any(|known| known == method.text) {
            return Err(method.mistake("every method once"));
        }
        methods.push(method.text.to_owned());
    }
    Ok(methods)
}

fn parse_scheme(url: Span<'_>) -> Result<(Scheme, Span<'_>), Mistake> {
    // A second space would belong to the URL otherwise.
    if let Some(at) = url.text.find(' ') {
        return Err(url.skip(at).mistake("one space, between methods and URL"));
    }
    if let Some(at) = url.text.find('#') {
        return Err(url.skip(at).mistake("no fragment (it never reaches a server)"));
    }
    let length = url.text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let scheme = match url.text.get(..length) {
        Some("https") => Scheme::Https,
        Some("http") => Scheme::Http,
        _ => return Err(url.mistake("`https://` or `http://`")),
    };
    let rest = url.skip(length);
    match rest.text.starts_with("://") {
        true => Ok((scheme, rest.skip(3))),
        false => Err(rest.mistake("`://`")),
    }
}

fn parse_authority(
    authority: Span<'_>,
    scheme: Scheme,
    references: &mut Vec<Reference>,
) -> Result<(HostPattern, u16), Mistake> {
    if let Some(at) = authority.text.find('@') {
        return Err(authority.skip(at).mistake("no userinfo before the host"));
    }
    let (host, port) = match authority.text.strip_prefix('[') {
        Some(inside) => {
            let Some(length) = inside.find(']') else { return Err(authority.end().mistake("`]` after the address")) };
            let address = authority.skip(1).take(length);
            let address: Ipv6Addr = address.text.parse().map_err(|_| address.mistake("an IPv6 address"))?;
            let rest = authority.skip(length + 2);
            match rest.text {
                "" => (HostPattern::Address(IpAddr::V6(address)), None),
                _ if rest.text.starts_with(':') => (HostPattern::Address(IpAddr::V6(address)), Some(rest.skip(1))),
                _ => return Err(rest.mistake("`:` and a port, or `/`")),
            }
        }
        None => match authority.cut(':') {
            Some((host, port)) => (parse_host(host, references)?, Some(port)),
            None => (parse_host(authority, references)?, None),
        },
    };
    Ok((host, port.map_or(Ok(scheme.default_port()), parse_port)?))
}

fn parse_port(port: Span<'_>) -> Result<u16, Mistake> {
    let digits = !port.text.is_empty() && port.text.bytes().all(|b| b.is_ascii_digit());
    match port.text.parse() {
        Ok(number) if digits && number != 0 => Ok(number),
        _ => Err(port.mistake("a port, 1 to 65535")),
    }
}

fn parse_host(host: Span<'_>, references: &mut Vec<Reference>) -> Result<HostPattern, Mistake> {
    if host.text.is_empty() {
        return Err(host.mistake("a host"));
    }
    if let Ok(address) = host.text.parse::<Ipv4Addr>() {
        return Ok(HostPattern::Address(IpAddr::V4(address)));
    }
    let wildcard = host.text.starts_with("*.");
    let names = if wildcard { host.skip(2) } else { host };
    let mut labels = Vec::new();
    let mut last = names;
    for label in names.split('.') {
        labels.push(parse_label(label, references)?);
        last = label;
    }
    // URL parsers take a host whose last label is a number for an IPv4 address.
    if last.text.bytes().all(|b| b.is_ascii_digit()) || last.text.to_ascii_lowercase().starts_with("0x") {
        return Err(host.mistake("a name, or an IPv4 address of four decimal numbers"));
    }
    if host.text.len() > 253 {
        return Err(host.mistake("a host of at most 253 bytes"));
    }
    if wildcard && !labels.iter().any(|label| matches!(label, Piece::Literal(_))) {
        return Err(names.mistake("a name after `*.` that is not made of parameters alone"));
    }
    Ok(HostPattern::Name { wildcard, labels })
}

fn parse_label(label: Span<'_>, references: &mut Vec<Reference>) -> Result<Piece, Mistake> {
    if let Some(piece) = parse_reference(label, Place::Label, references)? {
        return Ok(piece);
    }
    if label.text.contains('*') {
        return Err(label.mistake("`*` only as the whole first label (`*.example.com`)"));
    }
    let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if let Some(at) = label.text.bytes().position(|b| !inside(b)) {
        return Err(label.skip(at).mistake("a letter, digit or hyphen of a host name"));
    }
    if !(1..=63).contains(&label.text.len()) || label.text.starts_with('-') || label.text.ends_with('-') {
        return Err(label.mistake("a label of 1 to 63 characters, hyphens only inside"));
    }
    Ok(Piece::Literal(label.text.to_ascii_lowercase()))
}

fn parse_path(path: Span<'_>, references: &mut Vec<Reference>) -> Result<Vec<Piece>, Mistake> {
    let mut pieces = Vec::new();
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment.text.is_empty() {
            match segments.peek() {
                Some(_) => return Err(segment.mistake("a path segment")),
                // A slash at the end means the same as none.
                None => break,
            }
        }
        if let Some(piece) = parse_reference(segment, Place::Segment, references)? {
            pieces.push(piece);
            continue;
        }
        if let Some(at) = segment.text.find('*') {
            return Err(segment.skip(at).mistake("no `*` in a path (a path allows everything below it)"));
        }
        if let Some(at) = segment.text.find('\\') {
            return Err(segment.skip(at).mistake("`/` between segments"));
        }
        let decoded = decode_segment(segment.text)
            .map_err(|what| segment.mistake("a plain path segment").with_found(format!("one that {what}")))?;
        pieces.push(Piece::Literal(decoded));
    }
    Ok(pieces)
}

fn parse_query(query: Span<'_>, references: &mut Vec<Reference>) -> Result<Vec<(String, Piece)>, Mistake> {
    let mut pairs: Vec<(String, Piece)> = Vec::new();
    for pair in query.split('&') {
        let (name, value) =
            pair.cut('=').ok_or_else(|| pair.mistake("`name=value` with the value that a request must have"))?;
        let decoded_name = decode_form(name)?;
        if decoded_name.is_empty() {
            return Err(name.mistake("the name of a query parameter"));
        }
        if pairs.iter().any(|(known, _)| known.eq_ignore_ascii_case(&decoded_name)) {
            return Err(name.mistake("every query parameter once"));
        }
        let piece = match parse_reference(value, Place::Segment, references)? {
            Some(piece) => piece,
            None => Piece::Literal(decode_form(value)?),
        };
        pairs.push((decoded_name, piece));
    }
    Ok(pairs)
}

fn decode_form(part: Span<'_>) -> Result<String, Mistake> {
    if let Some(at) = part.text.find(['{', '}', ';']) {
        return Err(part.skip(at).mistake("a literal, or one reference as the whole value (`name={parameter}`)"));
    }
    let spaces = part.text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaces).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| part.mistake("text that decodes to UTF-8"))
}

/// `{name}` or `{a|b}` as a whole; none when the span has no brace at all.
fn parse_reference(span: Span<'_>, place: Place, references: &mut Vec<Reference>) -> Result<Option<Piece>, Mistake> {
    let Some(first) = span.text.find(['{', '}']) else { return Ok(None) };
    let inside = span.skip(1);
    let Some(length) = inside.text.find('}').filter(|_| span.text.starts_with('{')) else {
        return Err(match span.text.starts_with('{') {
            true => span.end().mistake("`}` after the parameter"),
            false => span.skip(first).mistake("a reference (`{parameter}`) to stand alone, for the whole part"),
        });
    };
    let rest = inside.skip(length + 1);
    if !rest.text.is_empty() {
        return Err(rest.mistake("nothing after `}`: a reference stands for the whole part"));
    }
    let mut names = Vec::new();
    for name in inside.take(length).split('|') {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        match name.text.bytes().position(|b| !valid(b)) {
            Some(at) => return Err(name.skip(at).mistake("a parameter's name (letters, digits, `-`, `_`)")),
            None if name.text.is_empty() => return Err(name.mistake("a parameter's name")),
            None => names.push(name.text.to_owned()),
        }
    }
    references.push(Reference { names, place });
    Ok(Some(Piece::Reference(references.len() - 1)))
}

fn describe(rest: &str) -> String {
    match rest.chars().next() {
        None => "the end".to_owned(),
        Some(' ') => "a space".to_owned(),
        Some(c) if !c.is_ascii_graphic() => format!("{:?}", c.to_string()),
        Some(_) => {
            let shown: String = rest.chars().take_while(|c| c.is_ascii_graphic()).take(SHOWN).collect();
            let dots = if shown.len() == SHOWN { "…" } else { "" };
            format!("`{shown}{dots}`")
        }
    }
}

impl Mistake {
    fn with_found(mut self, found: impl Into<String>) -> Self {
        self.found = Some(found.into());
        self
    }
}

impl<'a> Span<'a> {
    fn mistake(self, expected: impl Into<String>) -> Mistake {
        Mistake { at: self.at, expected: expected.into(), found: None }
    }

    fn skip(self, bytes: usize) -> Self {
        Span { text: self.text.get(bytes..).unwrap_or_default(), at: self.at + bytes }
    }

    fn take(self, bytes: usize) -> Self {
        Span { text: self.text.get(..bytes).unwrap_or(self.text), at: self.at }
    }

    fn end(self) -> Self {
        self.skip(self.text.len())
    }

    fn cut(self, separator: char) -> Option<(Self, Self)> {
        let at = self.text.find(separator)?;
        Some((self.take(at), self.skip(at + 1)))
    }

    fn split(self, separator: char) -> impl Iterator<Item = Span<'a>> {
        let start = self.at;
        self.text.split(separator).scan(start, |at, text| {
            let span = Span { text, at: *at };
            *at += text.len() + 1;
            Some(span)
        })
    }
}
