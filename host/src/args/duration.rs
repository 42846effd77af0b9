//! Durations as Go's flags read them: `2m`, `1h30m`, `1.5h`, `0`. For flags that the Secrets Store CSI Driver has, so
//! that a value which it accepts means the same here; everything else reads `units::Span`.

use std::str::FromStr;
use std::time::Duration;

/// A time that may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Duration);

/// The text is not a duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntervalError {
    /// Less than none. The reference takes it as "ask at each call".
    #[error("it is negative; write 0 to ask the provider whenever kubelet calls")]
    Negative,
    /// No number with a unit.
    #[error("not a duration; write numbers with units, such as 2m, 1h30m or 1.5h")]
    Form,
    /// Centuries.
    #[error("longer than any driver runs")]
    TooLong,
}

/// Longer than these is a mistake, and nothing overflows below them.
const LONGEST: Duration = Duration::from_hours(24 * 366 * 100);

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl FromStr for Interval {
    type Err = IntervalError;

    fn from_str(text: &str) -> Result<Self, IntervalError> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let mut sum = Duration::ZERO;
        if rest != "0" {
            if rest.is_empty() {
                return Err(IntervalError::Form);
            }
            while !rest.is_empty() {
                let (part, after) = read_part(rest)?;
                sum = sum.checked_add(part).filter(|sum| *sum <= LONGEST).ok_or(IntervalError::TooLong)?;
                rest = after;
            }
        }
        if negative && !sum.is_zero() { Err(IntervalError::Negative) } else { Ok(Self(sum)) }
    }
}

/// One number with its unit, and what stands behind them.
fn read_part(text: &str) -> Result<(Duration, &str), IntervalError> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let (name, after) = rest.split_at(rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len()));
    let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == name).ok_or(IntervalError::Form)?;
    if whole.is_empty() && fraction.is_empty() {
        return Err(IntervalError::Form);
    }
    let number: f64 = format!("0{whole}.{fraction}0").parse().map_err(|_| IntervalError::Form)?;
    let part = Duration::try_from_secs_f64(number * (*unit as f64) / 1e9).map_err(|_| IntervalError::TooLong)?;
    Ok((part, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let seconds = [
            ("0", 0.0),
            ("0s", 0.0),
            ("-0s", 0.0),
            ("2m", 120.0),
            ("+2m", 120.0),
            ("120s", 120.0),
            ("2m0s", 120.0),
            ("1h30m", 5_400.0),
            ("1.5h", 5_400.0),
            ("1.h", 3_600.0),
            (".5s", 0.5),
            ("1h1.5m2s", 3_692.0),
            ("250ms", 0.25),
            ("1500us", 0.001_5),
            ("1500µs", 0.001_5),
            ("10ns", 1e-8),
            ("8760h", 31_536_000.0),
        ];
        for (text, expected) in seconds {
            assert_eq!(text.parse(), Ok(Interval(Duration::from_secs_f64(expected))), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in
            ["", "-", "+", "2", "m", ".s", "2 m", "2m ", "2x", "2M", "1e3s", "--2m", "1h-5m", "0x1s", "٢m", "1..5s"]
        {
            assert_eq!(text.parse::<Interval>(), Err(IntervalError::Form), "{text}");
        }
    }

    #[test]
    fn negative_and_endless_durations_say_what_to_write() {
        assert_eq!("-1s".parse::<Interval>(), Err(IntervalError::Negative));
        assert!(IntervalError::Negative.to_string().contains("write 0"));
        let endless = format!("{}h", "9".repeat(400));
        for text in ["99999999999h", "900000h900000h", &endless] {
            assert_eq!(text.parse::<Interval>(), Err(IntervalError::TooLong), "{text}");
        }
    }
}
