//! Dates of HTTP (RFC 9110 §5.6.7): written once a second, read in three forms. Pure.

/// The beginning of every answer of this second: its Date field, and the status line before it.
#[derive(Clone, Debug)]
pub struct Date {
    /// `HTTP/1.1 200 OK`, then the field.
    ok: [u8; OK.len() + LINE_LEN],
}

impl Date {
    /// Of a second of the wall clock, counted from 1970.
    #[must_use]
    pub fn new(unix: u64) -> Self {
        let mut ok = [0; OK.len() + LINE_LEN];
        let (status, line) = ok.split_at_mut(OK.len());
        status.copy_from_slice(OK);
        line[..NAME.len()].copy_from_slice(NAME);
        line[NAME.len()..NAME.len() + DATE_LEN].copy_from_slice(&format(unix));
        line[NAME.len() + DATE_LEN..].copy_from_slice(b"\r\n");
        Self { ok }
    }

    /// `HTTP/1.1 200 OK`, the Date field, each with its line end.
    pub(super) fn ok(&self) -> &[u8] {
        &self.ok
    }

    /// The Date field with its line end.
    pub(super) fn line(&self) -> &[u8] {
        &self.ok[OK.len()..]
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`. Seconds after the year 9999 are written as its last one.
#[must_use]
pub fn format(unix: u64) -> [u8; DATE_LEN] {
    let unix = unix.min(LAST_SECOND);
    let days = unix / DAY;
    let (year, month, day) = civil(days);
    let second = unix % DAY;
    let mut text = *b"Sun, 06 Nov 1994 08:49:37 GMT";
    // 1 January 1970 was a Thursday.
    text[..3].copy_from_slice(WEEKDAYS[index((days + 4) % 7)].as_bytes());
    two_digits(&mut text[5..7], day);
    text[8..11].copy_from_slice(MONTHS[index(month - 1)].as_bytes());
    two_digits(&mut text[12..14], year / 100);
    two_digits(&mut text[14..16], year % 100);
    two_digits(&mut text[17..19], second / 3600);
    two_digits(&mut text[20..22], second / 60 % 60);
    two_digits(&mut text[23..25], second % 60);
    text
}

/// Reads a date in the form of [`format()`], of RFC 850 or of asctime: a recipient must accept all
/// three (RFC 9110 §5.6.7). `now`, in the same unit, places the two-digit years of RFC 850. `None`
/// for anything else, and for dates before 1970.
#[must_use]
pub fn parse(text: &[u8], now: u64) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let (day, month, year, time) = if let Some((_, rest)) = text.split_once(", ") {
        let rest = rest.strip_suffix(" GMT")?;
        let (date, time) = rest.rsplit_once(' ')?;
        let separator = if date.contains('-') { '-' } else { ' ' };
        let mut parts = date.split(separator);
        let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
        (day, month, read_year(year, now)?, time)
    } else {
        // Sun Nov  6 08:49:37 1994
        let mut parts = text.split(' ').filter(|part| !part.is_empty()).skip(1);
        let (month, day) = (parts.next()?, parts.next()?);
        let time = parts.next()?;
        (day, month, read_year(parts.next()?, now)?, time)
    };
    let month = (1..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    let (hour, rest) = time.split_once(':')?;
    let (minute, second) = rest.split_once(':')?;
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    let day = number(day, 2)?;
    // 60: a leap second, taken for the second after it.
    if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_from_civil(year, month, day)? * DAY + hour * 3600 + minute * 60 + second)
}

/// Four digits, or two: then the year that is at most 50 years ahead (RFC 9110 §5.6.7).
fn read_year(text: &str, now: u64) -> Option<u64> {
    if text.len() == 4 {
        return number(text, 4);
    }
    let this_year = civil(now.min(LAST_SECOND) / DAY).0;
    let year = this_year / 100 * 100 + number(text, 2)?;
    Some(if year > this_year + 50 { year - 100 } else { year })
}

/// One to `digits` decimal digits and nothing else.
fn number(text: &str, digits: usize) -> Option<u64> {
    let fits = (1..=digits).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.bytes().fold(0, |value, byte| value * 10 + u64::from(byte - b'0')))
}

/// Year, month (from 1) and day (from 1) of a day since 1970. Years are counted from March, so that
/// the leap day is the last of its year.
#[must_use]
pub fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let era = days / DAYS_OF_ERA;
    let of_era = days % DAYS_OF_ERA;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

/// The reverse of [`civil`]; `None` before 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month > 2 { year } else { year.checked_sub(1)? };
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    let of_era = year % 400 * 365 + year % 400 / 4 - year % 400 / 100 + of_year;
    (year / 400 * DAYS_OF_ERA + of_era).checked_sub(DAYS_TO_1970)
}

fn two_digits(text: &mut [u8], value: u64) {
    let digit = |value: u64| u8::try_from(value % 10).map_or(b'?', |digit| b'0' + digit);
    text[0] = digit(value / 10);
    text[1] = digit(value);
}

/// Of a table of twelve at most.
fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
const NAME: &[u8] = b"Date: ";
/// Bytes of a date.
pub const DATE_LEN: usize = 29;
const LINE_LEN: usize = NAME.len() + DATE_LEN + 2;
const DAY: u64 = 86_400;
/// Days of 400 years.
const DAYS_OF_ERA: u64 = 146_097;
/// From 1 March of the year 0.
const DAYS_TO_1970: u64 = 719_468;
/// Of the year 9999: the form has four digits.
const LAST_SECOND: u64 = 253_402_300_799;
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000;

    #[track_caller]
    fn check(unix: u64, want: &str) {
        assert_eq!(str::from_utf8(&format(unix)).unwrap(), want);
        assert_eq!(parse(want.as_bytes(), NOW), Some(unix));
    }

    #[test]
    fn seconds_have_a_date() {
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT");
        check(4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(format(u64::MAX), format(LAST_SECOND));
    }

    #[test]
    fn the_obsolete_forms_are_read() {
        for text in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse(text.as_bytes(), NOW), Some(784_111_777), "{text}");
        }
        let later = parse(b"Monday, 06-Nov-73 00:00:00 GMT", NOW).unwrap();
        assert!(later > NOW, "2073 is at most 50 years ahead of 2023");
        assert!(parse(b"Monday, 06-Nov-74 00:00:00 GMT", NOW).unwrap() < NOW);
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "0",
            "yesterday",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 32 Nov 1994 08:49:37 GMT",
            "Sun, 06 Now 1994 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
        ] {
            assert_eq!(parse(text.as_bytes(), NOW), None, "{text}");
        }
        assert_eq!(parse(b"\xff, 06 Nov 1994 08:49:37 GMT", NOW), None);
    }

    proptest! {
        #[test]
        fn every_second_reads_back(unix in 0..=LAST_SECOND) {
            prop_assert_eq!(parse(&format(unix), NOW), Some(unix));
        }

        #[test]
        fn nothing_panics(text in ".{0,40}", now: u64) {
            let _ = parse(text.as_bytes(), now);
        }
    }
}
