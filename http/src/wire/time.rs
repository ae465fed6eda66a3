//! Times on the wire: RFC 3339, UTC, always with milliseconds.

use doorbuster_engine::identity::Timestamp;

/// Milliseconds of one day.
const DAY_MS: u64 = 86_400_000;

/// Appends `at` as `2026-11-21T09:46:34.123Z`.
///
/// By hand, because the hot path writes one per reply and a general formatter costs as much as the rest of the body.
/// Days become a date by the method of Howard Hinnant's `civil_from_days`, for years 1970 to 9999; later times, which
/// no deadline reaches, are written as the last moment of 9999.
pub fn write(out: &mut Vec<u8>, at: Timestamp) {
    const LAST_MS: u64 = 253_402_300_799_999;
    let ms = at.0.min(LAST_MS);
    let (days, rest) = (ms / DAY_MS, ms % DAY_MS);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, rest / 3_600_000, 2);
    out.push(b':');
    digits(out, rest / 60_000 % 60, 2);
    out.push(b':');
    digits(out, rest / 1_000 % 60, 2);
    out.push(b'.');
    digits(out, rest % 1_000, 3);
    out.push(b'Z');
}

/// `at` as text.
pub fn text(at: Timestamp) -> String {
    let mut out = Vec::with_capacity(24);
    write(&mut out, at);
    String::from_utf8(out).unwrap_or_default()
}

/// Reads an RFC 3339 time; earlier than 1970 is refused.
pub fn parse(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

fn digits(out: &mut Vec<u8>, value: u64, width: u32) {
    let mut unit = 10_u64.pow(width - 1);
    while unit > 0 {
        // A digit fits a byte.
        #[allow(clippy::cast_possible_truncation)]
        out.push(b'0' + (value / unit % 10) as u8);
        unit /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_a_general_formatter_writes_them() {
        let mut ms = 0_u64;
        while ms < 253_402_300_799_999 {
            let expected = jiff::Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
            assert_eq!(text(Timestamp(ms)), format!("{expected:.3}"));
            assert_eq!(parse(&text(Timestamp(ms))), Some(Timestamp(ms)));
            // A prime stride of about 35 days visits every month, leap days and odd times of day.
            ms += 3_024_000_017;
        }
        assert_eq!(text(Timestamp(1_709_164_800_000)), "2024-02-29T00:00:00.000Z");
        assert_eq!(text(Timestamp(u64::MAX)), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn only_rfc_3339_times_are_read() {
        assert_eq!(parse("1970-01-01T00:00:01+00:00"), Some(Timestamp(1_000)));
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse("1969-12-31T23:59:59Z"), None);
    }
}
