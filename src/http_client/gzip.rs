//! Decodes gzip data (RFC 1952) up to a size limit. The decoded bytes may contain a token, so every
//! buffer that contains them is zeroized.

use std::io::{self, Read};

use flate2::bufread::GzDecoder;
use flate2::{Crc, Decompress, FlushDecompress, Status};
use zeroize::Zeroizing;

/// The first bytes of each member: two fixed bytes and the compression method (RFC 1952 §2.3.1).
const START: [u8; 3] = [0x1f, 0x8b, 8];

/// The length in bytes of a member's trailer: a checksum and the length of the decoded data.
const TRAILER: usize = 8;

/// Why the data could not be decoded to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GzipError {
    /// The decoded data is longer than the limit.
    TooLong,
    /// The data ends too early.
    CutOff,
    /// The data isn't gzip data, or a checksum is wrong.
    Damaged,
}

/// Data that was decoded to the end or up to an error.
pub(crate) struct Decoded {
    /// The decoded bytes, at most as many as the limit.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) error: Option<GzipError>,
}

/// Decodes all members of the data (RFC 1952 §2.2).
pub(crate) fn decode(data: &[u8], limit: usize) -> Decoded {
    // The buffer never grows, because a buffer that grows frees memory without zeroizing it. It has
    // room for one byte more than the limit. If this byte is used, the data is too long.
    let mut bytes = Zeroizing::new(vec![0; limit + 1]);
    let mut length = 0;
    let mut rest = data;
    let error = loop {
        let member = decode_member(rest, &mut bytes[length..]);
        length += member.length;
        match member.rest {
            _ if length > limit => break Some(GzipError::TooLong),
            // As gzip itself does, ignores zeros after the last member.
            Ok(rest) if rest.iter().all(|byte| *byte == 0) => break None,
            Ok(next) => rest = next,
            Err(error) => break Some(error),
        }
    };
    bytes.truncate(length.min(limit));
    Decoded { bytes, error }
}

/// A member that was decoded to its end or up to an error.
struct DecodedMember<'a> {
    /// The length of the decoded data.
    length: usize,
    /// The data after this member.
    rest: Result<&'a [u8], GzipError>,
}

/// Decodes the first member of the data into `bytes` (RFC 1952 §2.3).
fn decode_member<'a>(data: &'a [u8], bytes: &mut [u8]) -> DecodedMember<'a> {
    let data = match skip_header(data) {
        Ok(data) => data,
        Err(error) => {
            let rest = Err(error);
            return DecodedMember { length: 0, rest };
        }
    };
    // `GzDecoder` would decode into an inner buffer that it doesn't zeroize. `Finish` decodes
    // directly into `bytes`.
    let mut inflate = Decompress::new(false);
    let status = inflate.decompress(data, bytes, FlushDecompress::Finish);
    let length = position(inflate.total_out(), bytes);
    let rest = match status {
        Ok(Status::StreamEnd) => {
            let trailer = data.get(position(inflate.total_in(), data)..);
            check(trailer.unwrap_or_default(), &bytes[..length])
        }
        Ok(_) if length == bytes.len() => Err(GzipError::TooLong),
        Ok(_) => Err(GzipError::CutOff),
        Err(_) => Err(GzipError::Damaged),
    };
    DecodedMember { length, rest }
}

/// Returns the data after the member's header.
fn skip_header(data: &[u8]) -> Result<&[u8], GzipError> {
    let mut decoder = GzDecoder::new(data);
    if decoder.header().is_some() {
        return Ok(decoder.into_inner());
    }
    let is_start = data.iter().zip(START).all(|(byte, start)| *byte == start);
    match decoder.read(&mut [0]) {
        Err(error) if is_start && error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(GzipError::CutOff)
        }
        _ => Err(GzipError::Damaged),
    }
}

/// Compares the decoded data with its trailer. Returns the data after the trailer.
fn check<'a>(trailer: &'a [u8], decoded: &[u8]) -> Result<&'a [u8], GzipError> {
    let (trailer, rest) = trailer.split_at_checked(TRAILER).ok_or(GzipError::CutOff)?;
    let mut crc = Crc::new();
    crc.update(decoded);
    let expected = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()];
    if trailer == expected.as_flattened() {
        Ok(rest)
    } else {
        Err(GzipError::Damaged)
    }
}

/// Returns a decoder's position in a buffer as an index.
fn position(total: u64, buffer: &[u8]) -> usize {
    usize::try_from(total).map_or(buffer.len(), |total| total.min(buffer.len()))
}
