//! The certificates of a PFX in the order of their chain: leaf, intermediates, root.
//!
//! A parent is whose subject key identifier is the child's authority key identifier (RFC 5280 sections 4.2.1.1 and
//! 4.2.1.2), as in the reference: neither names nor signatures are looked at, which is for whoever trusts the chain.

use spki::ObjectIdentifier;
use spki::der::asn1::{AnyRef, OctetStringRef};
use spki::der::{self, Reader};

use super::asn1;

const SUBJECT_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const AUTHORITY_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// Why there is no order.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("one of its certificates is not well-formed")]
    Malformed,
    #[error("its PFX has no leaf certificate: no leaf found")]
    Leaf,
    #[error("its certificates name each other as issuer: constructing chain resulted in cycle")]
    Cycle,
}

/// Certificates in an order.
pub(super) struct Chain {
    pub(super) certificates: Vec<Vec<u8>>,
    /// Whether all of them are one chain; else the order is as before.
    pub(super) is_complete: bool,
}

/// Orders certificates, DER.
pub(super) fn order(mut certificates: Vec<Vec<u8>>) -> Result<Chain, Error> {
    let keys = certificates.iter().map(|der| Keys::read(der)).collect::<Result<Vec<_>, _>>();
    let parents = parents(&keys.map_err(|_| Error::Malformed)?);
    let positions = walk(&parents)?;
    let is_complete = positions.len() == certificates.len();
    if is_complete {
        let take = |position: usize| certificates.get_mut(position).map(std::mem::take).unwrap_or_default();
        certificates = positions.into_iter().map(take).collect();
    }
    Ok(Chain { certificates, is_complete })
}

/// For each certificate the position of the one above it.
fn parents(keys: &[Keys<'_>]) -> Vec<Option<usize>> {
    let parent = |(child, of): (usize, &Keys<'_>)| {
        keys.iter().enumerate().position(|(other, above)| {
            let some = of.authority.is_some() || above.subject.is_some();
            // Absent on one side and empty on the other is the same to the reference.
            other != child && some && of.authority.unwrap_or_default() == above.subject.unwrap_or_default()
        })
    };
    keys.iter().enumerate().map(parent).collect()
}

/// Positions from the first certificate that is above no other.
fn walk(parents: &[Option<usize>]) -> Result<Vec<usize>, Error> {
    let leaf = (0..parents.len()).find(|position| !parents.contains(&Some(*position))).ok_or(Error::Leaf)?;
    let mut positions = vec![leaf];
    let mut at = leaf;
    while let Some(above) = parents.get(at).copied().flatten() {
        if positions.len() >= parents.len() {
            return Err(Error::Cycle);
        }
        positions.push(above);
        at = above;
    }
    Ok(positions)
}

/// The two identifiers of a certificate.
#[derive(Default)]
struct Keys<'d> {
    subject: Option<&'d [u8]>,
    authority: Option<&'d [u8]>,
}

impl<'d> Keys<'d> {
    fn read(der: &'d [u8]) -> der::Result<Self> {
        asn1::sequence(der, |reader| {
            reader.sequence(|reader| {
                let extensions = extensions(reader)?;
                asn1::skip(reader)?;
                let mut keys = Self::default();
                for extension in extensions.map(asn1::elements).transpose()?.unwrap_or_default() {
                    keys.add(extension)?;
                }
                Ok(keys)
            })
        })
    }

    fn add(&mut self, extension: &'d [u8]) -> der::Result<()> {
        let (kind, value) = asn1::sequence(extension, |reader| {
            let kind: ObjectIdentifier = reader.decode()?;
            let _critical: Option<bool> = reader.decode()?;
            Ok((kind, reader.decode::<&'d OctetStringRef>()?.as_bytes()))
        })?;
        if kind == SUBJECT_KEY {
            self.subject = Some(asn1::whole(value, |r| Ok(r.decode::<&'d OctetStringRef>()?.as_bytes()))?);
        } else if kind == AUTHORITY_KEY {
            self.authority = asn1::sequence(value, |reader| asn1::field(reader, 0))?;
        }
        Ok(())
    }
}

/// The field `extensions` of a TBSCertificate (RFC 5280 section 4.1).
fn extensions<'d>(reader: &mut der::SliceReader<'d>) -> der::Result<Option<&'d [u8]>> {
    let _version = asn1::field(reader, 0)?;
    // Serial number, signature, issuer, validity, subject and its key.
    for _ in 0..6 {
        reader.decode::<AnyRef<'d>>()?;
    }
    let _unique_ids = (asn1::field(reader, 1)?, asn1::field(reader, 2)?);
    asn1::field(reader, 3)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../../tests/vectors/client/rsa.crt.der");

    fn keys(of: &[(&'static str, &'static str)]) -> Vec<Option<usize>> {
        let bytes = |text: &'static str| (text != "-").then_some(text.as_bytes());
        parents(&of.iter().map(|(s, a)| Keys { subject: bytes(s), authority: bytes(a) }).collect::<Vec<_>>())
    }

    #[test]
    fn a_parent_is_another_certificate_with_the_identifier_that_the_child_names() {
        assert_eq!(keys(&[("l", "i"), ("i", "r"), ("r", "r")]), [Some(1), Some(2), None]);
        assert_eq!(keys(&[("-", "i"), ("i", "-")]), [Some(1), None]);
        assert_eq!(keys(&[("-", "-"), ("-", "-")]), [None, None]);
        assert_eq!(keys(&[("a", "-"), ("", "x")]), [Some(1), None]);
    }

    #[test]
    fn circles_have_no_leaf_or_no_end() {
        assert_eq!(walk(&[Some(1), Some(0)]), Err(Error::Leaf));
        assert_eq!(walk(&[Some(1), Some(2), Some(1)]), Err(Error::Cycle));
        assert_eq!(walk(&[]), Err(Error::Leaf));
        assert_eq!(walk(&[None]), Ok(vec![0]));
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        assert_eq!(order(vec![vec![0x30, 0]]).err(), Some(Error::Malformed));
        assert_eq!(order(Vec::new()).err(), Some(Error::Leaf));
    }

    proptest! {
        #[test]
        fn an_order_goes_from_each_to_its_parent_and_ends(
            of in prop::collection::vec(prop::array::uniform2(prop::sample::select(vec!["-", "", "a", "b", "c", "d"])), 0..8),
        ) {
            let parents = keys(&of.iter().map(|[subject, authority]| (*subject, *authority)).collect::<Vec<_>>());
            if let Ok(positions) = walk(&parents) {
                for pair in positions.windows(2) {
                    prop_assert_eq!(parents[pair[0]], Some(pair[1]));
                }
                prop_assert_eq!(parents[*positions.last().unwrap()], None);
            }
        }

        #[test]
        fn no_certificate_is_too_strange(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut der = CERTIFICATE.to_vec();
            for (place, byte) in changes {
                let place = place.index(der.len());
                der[place] = byte;
            }
            for length in [der.len(), cut.index(der.len())] {
                let mut given = vec![der[..length].to_vec(), CERTIFICATE.to_vec()];
                if let Ok(chain) = order(given.clone()) {
                    let mut ordered = chain.certificates;
                    given.sort();
                    ordered.sort();
                    prop_assert_eq!(ordered, given);
                }
            }
        }
    }
}
