//! Sizes and durations as people write them: `64MiB`, `2s`. Used by the configuration, the command line and the output.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A time that is longer than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// The text is not a size.
#[derive(Debug, thiserror::Error)]
#[error("not a size; write bytes, or a number with a unit such as 64MiB")]
pub struct SizeError;

/// The text is not a duration.
#[derive(Debug, thiserror::Error)]
#[error("not a duration; write a positive number with a unit, such as 30s, 500ms or 2m")]
pub struct SpanError;

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        text.parse::<ByteSize>().map(|size| Self(size.as_u64())).map_err(|_| SizeError)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let signed: SignedDuration = text.parse().map_err(|_| SpanError)?;
        let duration = Duration::try_from(signed).map_err(|_| SpanError)?;
        if duration.is_zero() { Err(SpanError) } else { Ok(Self(duration)) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", ByteSize::b(self.0).display().iec())
    }
}

/// Milliseconds with one digit below a second, seconds with two above.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() {
            seconds if seconds >= 1.0 => write!(f, "{seconds:.2} s"),
            seconds => write!(f, "{:.1} ms", seconds * 1_000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_decimal_and_binary_units() {
        for (text, bytes) in [("10", 10), ("64MiB", 64 << 20), ("64Mi", 64 << 20), ("1kB", 1_000), ("2 GiB", 2 << 30)] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        for text in ["", "MiB", "64X", "-1"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_are_longer_than_none() {
        for (text, millis) in [("2s", 2_000), ("500ms", 500), ("1m 30s", 90_000)] {
            assert_eq!(text.parse::<Span>().unwrap(), Span(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "2", "0s", "-2s", "2x"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn both_are_shown_as_people_write_them() {
        assert_eq!(Size(16).to_string(), "16 B");
        assert_eq!(Size(3 << 10).to_string(), "3.0 KiB");
        assert_eq!(Span(Duration::from_micros(12_340)).to_string(), "12.3 ms");
        assert_eq!(Span(Duration::from_millis(2_340)).to_string(), "2.34 s");
    }
}
