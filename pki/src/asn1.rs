//! The few steps through ASN.1 that PFX files, private keys and certificates need.
//!
//! Everything is read in place from the bytes that the vault sent. What nobody asks for, bag attributes and names
//! among it, is stepped over unread, so that a file does not fail for a part without meaning here.

use spki::der::asn1::AnyRef;
use spki::der::{ErrorKind, Reader, Result, SliceReader, Tag, TagNumber};

/// Reads `der` with `read`, which has to take all of it.
///
/// # Errors
/// When the bytes are not so.
pub fn whole<'d, T>(der: &'d [u8], read: impl FnOnce(&mut SliceReader<'d>) -> Result<T>) -> Result<T> {
    let mut reader = SliceReader::new(der)?;
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Reads a SEQUENCE that is all of `der`; what `read` leaves is stepped over.
///
/// # Errors
/// When the bytes are not so.
pub fn sequence<'d, T>(der: &'d [u8], read: impl FnOnce(&mut SliceReader<'d>) -> Result<T>) -> Result<T> {
    whole(der, |reader| {
        reader.sequence(|reader| {
            let value = read(reader)?;
            skip(reader)?;
            Ok(value)
        })
    })
}

/// The elements of a SEQUENCE OF that is all of `der`, each with its header.
///
/// # Errors
/// When the bytes are not so.
pub fn elements(der: &[u8]) -> Result<Vec<&[u8]>> {
    whole(der, |reader| {
        reader.sequence(|reader| {
            let mut elements = Vec::new();
            while !reader.is_finished() {
                elements.push(reader.tlv_bytes()?);
            }
            Ok(elements)
        })
    })
}

/// The content of the field `[number]`, if that comes next.
///
/// # Errors
/// When the bytes are not so.
pub fn field<'d>(reader: &mut SliceReader<'d>, number: u32) -> Result<Option<&'d [u8]>> {
    match reader.peek_byte() {
        Some(_) if is_field(Tag::peek(reader)?, number) => Ok(Some(reader.decode::<AnyRef<'d>>()?.value())),
        _ => Ok(None),
    }
}

/// The content of the field `[number]`.
///
/// # Errors
/// When the bytes are not so.
pub fn required<'d>(reader: &mut SliceReader<'d>, number: u32) -> Result<&'d [u8]> {
    field(reader, number)?.ok_or_else(|| ErrorKind::Failed.into())
}

/// Steps over the rest.
///
/// # Errors
/// When the bytes are not so.
pub fn skip(reader: &mut SliceReader<'_>) -> Result<()> {
    reader.read_slice(reader.remaining_len()).map(drop)
}

fn is_field(tag: Tag, number: u32) -> bool {
    matches!(tag, Tag::ContextSpecific { number: found, .. } if found == TagNumber(number))
}
