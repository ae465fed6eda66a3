//! Times as order files write them, read into seconds since 1970.
//!
//! Understands ISO 8601 (`2010-12-01T08:26:00`, a space for the `T`, seconds and offset optional, a date alone) and
//! the spreadsheet's `12/1/2010 8:26` (month first, as the UCI file has it). A time without an offset is taken as
//! UTC: only the distances between times matter to a replay. Start at [`seconds`].

use jiff::civil;

/// Seconds since 1970 of `text`, or `None` where it is no time this page knows.
pub fn seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], text[at + 1..].trim()),
        None => (text, ""),
    };
    let date = if date.contains('/') { month_first(date)? } else { iso(date)? };
    let (clock, offset_s) = split_offset(rest)?;
    let time = if clock.is_empty() { civil::Time::midnight() } else { clock_time(clock)? };
    let at = date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(at.timestamp().as_second() - offset_s)
}

fn iso(date: &str) -> Option<civil::Date> {
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() != 4 {
        return None;
    }
    civil::Date::new(number(year)?, number(month)?, number(day)?).ok()
}

fn month_first(date: &str) -> Option<civil::Date> {
    let mut parts = date.split('/');
    let (month, day, year) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let year = match year.len() {
        4 => number::<i16>(year)?,
        // Some spreadsheets shorten the year; an order history has no other century.
        2 => 2000 + number::<i16>(year)?,
        _ => return None,
    };
    civil::Date::new(year, number(month)?, number(day)?).ok()
}

/// `8:26`, `08:26:00`, `08:26:00.125`, with `AM`/`PM` after it where the spreadsheet says so.
fn clock_time(clock: &str) -> Option<civil::Time> {
    let upper = clock.to_ascii_uppercase();
    let (clock, afternoon) = if let Some(rest) = upper.strip_suffix("PM") {
        (rest.trim_end(), Some(true))
    } else if let Some(rest) = upper.strip_suffix("AM") {
        (rest.trim_end(), Some(false))
    } else {
        (upper.as_str(), None)
    };
    let mut parts = clock.split(':');
    let (hour, minute) = (number::<i8>(parts.next()?)?, number::<i8>(parts.next()?)?);
    let second = match parts.next() {
        Some(second) => number::<i8>(second.split('.').next()?)?,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    let hour = match afternoon {
        None => hour,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(afternoon) => hour % 12 + if afternoon { 12 } else { 0 },
    };
    civil::Time::new(hour, minute, second, 0).ok()
}

/// Parts `08:26:00 -0500`, `08:26:00+01:00`, `08:26Z` into the clock and the offset's seconds.
fn split_offset(rest: &str) -> Option<(&str, i64)> {
    let rest = rest.strip_suffix("UTC").map_or(rest, str::trim_end);
    if let Some(clock) = rest.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = rest.find(['+', '-']) else { return Some((rest, 0)) };
    let digits: String = rest[at + 1..].chars().filter(|letter| *letter != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (number::<i64>(&digits)?, 0),
        4 => (number::<i64>(&digits[..2])?, number::<i64>(&digits[2..])?),
        _ => return None,
    };
    let size_s = hours * 3600 + minutes * 60;
    Some((rest[..at].trim_end(), if rest[at..].starts_with('-') { -size_s } else { size_s }))
}

/// Digits only: `parse` alone would let a sign through.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_minute_is_read_from_every_known_way_of_writing_it() {
        let minute = 1_291_191_960;
        for (text, expected) in [
            ("2010-12-01T08:26:00", Some(minute)),
            ("2010-12-01 08:26:00", Some(minute)),
            ("2010-12-01T08:26", Some(minute)),
            ("2010-12-01T08:26:00Z", Some(minute)),
            ("2010-12-01T08:26:00.500", Some(minute)),
            ("2010-12-01T09:26:00+01:00", Some(minute)),
            ("2010-12-01 03:26:00 -0500", Some(minute)),
            ("12/1/2010 8:26", Some(minute)),
            ("12/01/2010 08:26:00", Some(minute)),
            ("12/1/10 8:26", Some(minute)),
            ("12/1/2010 8:26 AM", Some(minute)),
            (" 12/1/2010 8:26 ", Some(minute)),
            ("12/1/2010 8:26 PM", Some(minute + 12 * 3600)),
            ("2010-12-01", Some(1_291_161_600)),
            ("12/31/2010 23:59", Some(1_293_839_940)),
            ("13/1/2010 8:26", None),
            ("2010-02-30T00:00:00", None),
            ("2010-12-01T24:00:00", None),
            ("12/1/2010 13:26 PM", None),
            ("-2010-12-01", None),
            ("40513.351", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }
}
