//! `POST /v1/admin/import/skus`: a catalogue of any length, read as it comes.
//!
//! A bounded number of lines is in work at a time, so memory does not grow with the file. Each line is a SKU
//! definition of its own, under a key derived from the header's key and the line's number: a repeat of a broken-off
//! import answers the lines it had already taken from memory and goes on.

use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, BytesMut};
use doorbuster_engine::answer::{Answer, Refusal};
use doorbuster_engine::identity::Sku;
use doorbuster_engine::stock::Definition;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metrics::counter;

use crate::call::Call;
use crate::metrics::IMPORT_LINES_TOTAL;
use crate::problem::{Code, Problem};
use crate::reply::ok;
use crate::wire::requests::{ImportLine, OversellPolicy, OversellRequest, SkuRequest};
use crate::wire::responses::{ImportResponse, RejectedLine};
use crate::wire::{into_engine, json};
use doorbuster_actors::Verdict;

/// Most rejected lines that are told one by one; all are counted.
const REJECTED_TOLD_MAX: usize = 1_000;

/// How long one line is tried again while the engine has no room for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of a line, as metrics spell it.
pub(crate) const OUTCOMES: [&str; 3] = ["created", "updated", "rejected"];

/// How the lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Ndjson,
    Csv,
}

impl Format {
    fn of(call: &Call) -> Result<Self, Problem> {
        let kind = call.request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
        match kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Self::Ndjson),
            "text/csv" => Ok(Self::Csv),
            _other => Err(Problem::new(
                Code::UnsupportedMediaType,
                "an import reads application/x-ndjson or text/csv",
            )),
        }
    }
}

pub(crate) async fn skus(mut call: Call) -> Result<HttpResponse, Problem> {
    let format = Format::of(&call)?;
    let key = call.key()?.map(str::to_owned);
    let Some(mut payload) = call.stream() else { return Err(Problem::malformed("the body is empty")) };
    let mut lines = Lines::new(format, call.route.body_bytes_max);
    let mut columns = None;
    let mut tally = Tally::default();
    let mut in_work = FuturesUnordered::new();
    let mut ended = false;
    while !ended {
        tokio::select! {
            chunk = actix_rt::time::timeout(call.body_timeout(), payload.next()) => {
                match chunk {
                    Err(_) => return Err(Problem::body_too_slow()),
                    Ok(Some(Err(_))) => return Err(Problem::malformed("the request body broke off")),
                    Ok(Some(Ok(chunk))) => lines.push(&chunk),
                    Ok(None) => {
                        lines.end();
                        ended = true;
                    }
                }
            }
            Some(done) = in_work.next(), if !in_work.is_empty() => tally.note(done)?,
        }
        while let Some((number, line)) = lines.next() {
            let line = match line {
                Ok(line) => line,
                Err(problem) => {
                    tally.reject(number, &problem);
                    continue;
                }
            };
            let read = match (format, &columns) {
                (Format::Ndjson, _) => json::parse::<ImportLine>(&line),
                (Format::Csv, None) => {
                    columns = Some(Columns::read(&line)?);
                    continue;
                }
                (Format::Csv, Some(columns)) => columns.line(&line),
            };
            match read.and_then(checked) {
                Ok(item) => in_work.push(take(&call, key.as_deref(), number, line, item)),
                Err(problem) => tally.reject(number, &problem),
            }
            while in_work.len() >= call.door.options.import_in_flight {
                match in_work.next().await {
                    Some(done) => tally.note(done)?,
                    None => break,
                }
            }
        }
    }
    while let Some(done) = in_work.next().await {
        tally.note(done)?;
    }
    Ok(ok(&tally.finish()))
}

/// A SKU as read from a line.
struct Taken {
    sku: Sku,
    definition: Definition,
    opening: Option<i64>,
}

fn checked(line: ImportLine) -> Result<Taken, Problem> {
    let ImportLine { sku, name, price, on_hand, oversell, reservation_ttl_s, low_stock_at } = line;
    let sku = Sku::new(&sku).map_err(|error| Problem::field("/sku", "not_a_sku", error.to_string()))?;
    let request = SkuRequest { name, price, on_hand, oversell, reservation_ttl_s, low_stock_at };
    let (definition, opening) = into_engine::definition(request)?;
    Ok(Taken { sku, definition, opening })
}

/// Defines one SKU, waiting where the engine has no room: an import is no reason to reject lines for load.
async fn take(call: &Call, key: Option<&str>, number: u64, line: Bytes, item: Taken) -> (u64, Verdict) {
    let begun = Instant::now();
    let limit = Duration::from_millis(call.door.options.request_deadline_ms);
    // A space cannot come from a caller's own path, so derived keys never meet a header's key.
    let key = key.map(|key| format!("{key} line {number}"));
    loop {
        let ticket = call.engine().ticket(
            "admin import",
            key.as_deref(),
            "POST",
            "/v1/admin/import/skus",
            &line,
            Instant::now() + limit,
        );
        let verdict =
            call.engine().define_sku(ticket, item.sku.clone(), item.definition.clone(), item.opening).await;
        let wait_ms = match &verdict {
            Err(
                Refusal::Overloaded { retry_after_ms }
                | Refusal::StorageFull { retry_after_ms }
                | Refusal::Recovering { retry_after_ms }
                | Refusal::InProgress { retry_after_ms },
            ) => *retry_after_ms,
            // Defining a SKU again is harmless, so the unknown is settled by asking again.
            Err(Refusal::DeadlineExceeded) => 100,
            Ok(_)
            | Err(
                Refusal::NotFound(_)
                | Refusal::InsufficientStock(_)
                | Refusal::IllegalTransition { .. }
                | Refusal::ReservationExpired
                | Refusal::CartExpired
                | Refusal::PriceChanged { .. }
                | Refusal::VersionMismatch { .. }
                | Refusal::PaymentDeclined { .. }
                | Refusal::Validation(_)
                | Refusal::KeyReused
                | Refusal::PaymentUnavailable { .. }
                | Refusal::Draining,
            ) => return (number, verdict),
        };
        if begun.elapsed() >= PATIENCE {
            return (number, verdict);
        }
        actix_rt::time::sleep(Duration::from_millis(wait_ms.clamp(10, 5_000))).await;
    }
}

/// What became of the lines so far.
#[derive(Default)]
struct Tally {
    response: ImportResponse,
}

impl Tally {
    /// Notes a line's verdict; an engine that is shutting down ends the whole import.
    fn note(&mut self, (number, verdict): (u64, Verdict)) -> Result<(), Problem> {
        match verdict {
            Ok(reply) => {
                if matches!(reply.answer, Answer::SkuDefined { created: true, .. }) {
                    self.response.created += 1;
                } else {
                    self.response.updated += 1;
                }
                Ok(())
            }
            Err(refusal) => {
                let problem = Problem::from(refusal);
                if problem.code() == Code::Draining {
                    return Err(problem);
                }
                self.reject(number, &problem);
                Ok(())
            }
        }
    }

    fn reject(&mut self, line: u64, problem: &Problem) {
        self.response.rejected_total += 1;
        if self.response.rejected.len() < REJECTED_TOLD_MAX {
            let message = problem.detail().to_owned();
            self.response.rejected.push(RejectedLine { line, code: problem.code().wire(), message });
        }
    }

    fn finish(mut self) -> ImportResponse {
        self.response.rejected.sort_by_key(|rejected| rejected.line);
        let counts = [self.response.created, self.response.updated, self.response.rejected_total];
        for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
            counter!(IMPORT_LINES_TOTAL, "outcome" => outcome).increment(count);
        }
        self.response
    }
}

/// Cuts a stream of chunks into lines. In CSV a line break inside quotes does not end one.
struct Lines {
    format: Format,
    line_bytes_max: usize,
    buffer: BytesMut,
    /// Bytes of the buffer that were looked at already.
    scanned: usize,
    quoted: bool,
    /// The present line was too long: its rest is dropped.
    skipping: bool,
    ended: bool,
    /// Number of the line that begins at the buffer's start.
    line: u64,
    /// Line breaks within the present line, inside quotes.
    breaks: u64,
}

impl Lines {
    fn new(format: Format, line_bytes_max: usize) -> Self {
        Self {
            format,
            line_bytes_max,
            buffer: BytesMut::new(),
            scanned: 0,
            quoted: false,
            skipping: false,
            ended: false,
            line: 1,
            breaks: 0,
        }
    }

    fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    fn end(&mut self) {
        self.ended = true;
    }

    /// The next line that is not blank, with its number.
    fn next(&mut self) -> Option<(u64, Result<Bytes, Problem>)> {
        loop {
            let (number, line) = self.cut()?;
            let Ok(line) = line else { return Some((number, line)) };
            let mark: &[u8] = if number == 1 { b"\xef\xbb\xbf" } else { b"" };
            let text = line.strip_prefix(mark).unwrap_or(&line).trim_ascii();
            if !text.is_empty() {
                return Some((number, Ok(line.slice_ref(text))));
            }
        }
    }

    /// The next line as it is, without its end.
    fn cut(&mut self) -> Option<(u64, Result<Bytes, Problem>)> {
        while self.scanned < self.buffer.len() {
            let byte = self.buffer[self.scanned];
            self.scanned += 1;
            if byte == b'"' && self.format == Format::Csv && !self.skipping {
                self.quoted = !self.quoted;
            }
            if byte != b'\n' {
                continue;
            }
            if self.quoted {
                self.breaks += 1;
                continue;
            }
            let number = self.line;
            self.line += 1 + self.breaks;
            self.breaks = 0;
            let line = self.buffer.split_to(self.scanned).freeze();
            self.scanned = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if line.len() > self.line_bytes_max + 1 {
                return Some((number, Err(self.too_long())));
            }
            return Some((number, Ok(line.slice(..line.len() - 1))));
        }
        if self.buffer.len() > self.line_bytes_max {
            self.buffer.clear();
            self.scanned = 0;
            self.quoted = false;
            return (!std::mem::replace(&mut self.skipping, true)).then(|| (self.line, Err(self.too_long())));
        }
        if self.ended && !self.buffer.is_empty() {
            let line = self.buffer.split().freeze();
            self.scanned = 0;
            return (!self.skipping).then_some((self.line, Ok(line)));
        }
        None
    }

    fn too_long(&self) -> Problem {
        Problem::new(Code::TooLarge, format!("a line has at most {} bytes", self.line_bytes_max))
    }
}

/// Where each field stands in a CSV line.
struct Columns {
    sku: usize,
    name: usize,
    amount: usize,
    currency: usize,
    on_hand: Option<usize>,
    low_stock_at: Option<usize>,
    oversell_policy: Option<usize>,
    oversell_limit: Option<usize>,
    reservation_ttl_s: Option<usize>,
}

/// Columns a CSV may have; the first four are needed.
const COLUMNS: [&str; 9] = [
    "sku",
    "name",
    "amount",
    "currency",
    "on_hand",
    "low_stock_at",
    "oversell_policy",
    "oversell_limit",
    "reservation_ttl_s",
];

fn record(line: &[u8]) -> Result<csv::StringRecord, Problem> {
    // Every CSV line here is one record; the small buffer keeps a million readers cheap.
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .buffer_capacity(256)
        .trim(csv::Trim::All)
        .from_reader(line);
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => Ok(record),
        Ok(false) => Err(Problem::malformed("the line is empty")),
        Err(_) => Err(Problem::malformed("the line is not CSV in UTF-8")),
    }
}

impl Columns {
    fn read(line: &[u8]) -> Result<Self, Problem> {
        let header = record(line)?;
        if let Some(strange) = header.iter().find(|name| !COLUMNS.contains(name)) {
            let message = format!("unknown column `{strange}`, expected: {}", COLUMNS.join(", "));
            return Err(Problem::field("/1", "unknown_field", message));
        }
        let find = |name: &str| header.iter().position(|known| known == name);
        let need = |name: &str| {
            find(name)
                .ok_or_else(|| Problem::field("/1", "required", format!("the header has no column `{name}`")))
        };
        Ok(Self {
            sku: need("sku")?,
            name: need("name")?,
            amount: need("amount")?,
            currency: need("currency")?,
            on_hand: find("on_hand"),
            low_stock_at: find("low_stock_at"),
            oversell_policy: find("oversell_policy"),
            oversell_limit: find("oversell_limit"),
            reservation_ttl_s: find("reservation_ttl_s"),
        })
    }

    fn line(&self, line: &[u8]) -> Result<ImportLine, Problem> {
        let record = record(line)?;
        let text = |place: usize| record.get(place).unwrap_or("");
        let price = into_engine::price(text(self.amount), text(self.currency)).ok_or_else(|| {
            Problem::field(
                "/price",
                "wrong_type",
                "amount is a whole number of minor units, currency an ISO 4217 code",
            )
        })?;
        let policy = match self.oversell_policy.map(text) {
            None | Some("") => None,
            Some("deny") => Some(OversellPolicy::Deny),
            Some("allow") => Some(OversellPolicy::Allow),
            Some(other) => {
                let message = format!("`{other}` is neither deny nor allow");
                return Err(Problem::field("/oversell/policy", "unknown_value", message));
            }
        };
        let limit: Option<i64> = number(self.oversell_limit.map(text), "/oversell/limit")?;
        let oversell = match (policy, limit) {
            (Some(policy), limit) => Some(OversellRequest { policy, limit }),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Problem::field(
                    "/oversell/policy",
                    "required",
                    "a limit goes with the policy `allow`",
                ));
            }
        };
        Ok(ImportLine {
            sku: text(self.sku).to_owned(),
            name: text(self.name).to_owned(),
            price,
            on_hand: number(self.on_hand.map(text), "/on_hand")?,
            oversell,
            reservation_ttl_s: number(self.reservation_ttl_s.map(text), "/reservation_ttl_s")?,
            low_stock_at: number(self.low_stock_at.map(text), "/low_stock_at")?,
        })
    }
}

fn number<T: std::str::FromStr>(text: Option<&str>, pointer: &str) -> Result<Option<T>, Problem> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            Problem::field(pointer, "wrong_type", format!("`{text}` is not a whole number in range"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `text`, fed in chunks of `step` bytes.
    fn cut(format: Format, line_bytes_max: usize, text: &str, step: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = Lines::new(format, line_bytes_max);
        let mut out = Vec::new();
        let mut drain = |lines: &mut Lines| {
            while let Some((number, line)) = lines.next() {
                out.push((number, line.ok().map(|line| String::from_utf8(line.to_vec()).unwrap())));
            }
        };
        for chunk in text.as_bytes().chunks(step) {
            lines.push(chunk);
            drain(&mut lines);
        }
        lines.end();
        drain(&mut lines);
        out
    }

    #[test]
    fn lines_are_the_same_however_the_stream_is_chunked() {
        let long = "x".repeat(40);
        let cases = [
            (
                Format::Ndjson,
                "a\nb\r\n\n  \nc".to_owned(),
                vec![(1, Some("a")), (2, Some("b")), (5, Some("c"))],
            ),
            (Format::Ndjson, "\u{feff}a\n".to_owned(), vec![(1, Some("a"))]),
            (Format::Ndjson, format!("a\n{long}\nb\n"), vec![(1, Some("a")), (2, None), (3, Some("b"))]),
            (Format::Ndjson, format!("a\n{long}"), vec![(1, Some("a")), (2, None)]),
            (Format::Csv, "\"a\nb\",c\nd\n".to_owned(), vec![(1, Some("\"a\nb\",c")), (3, Some("d"))]),
            (Format::Csv, "\"a\"\"b\"\nd".to_owned(), vec![(1, Some("\"a\"\"b\"")), (2, Some("d"))]),
            (Format::Ndjson, String::new(), vec![]),
        ];
        for (format, text, expected) in cases {
            let expected: Vec<_> =
                expected.into_iter().map(|(n, line)| (n, line.map(str::to_owned))).collect();
            for step in [1, 2, 3, 7, 1_000] {
                assert_eq!(cut(format, 20, &text, step), expected, "{text:?} in steps of {step}");
            }
        }
    }

    #[test]
    fn a_csv_line_reads_as_the_json_line_of_the_same_content() {
        let columns = Columns::read(
            b"sku,name,amount,currency,on_hand,low_stock_at,oversell_policy,oversell_limit,reservation_ttl_s",
        )
        .unwrap();
        let read = checked(columns.line(b"TEE-M,\"Tee, medium\",1999,GBP,5,2,allow,3,60").unwrap()).unwrap();
        let line = br#"{"sku":"TEE-M","name":"Tee, medium","price":{"amount":1999,"currency":"GBP"},"on_hand":5,"low_stock_at":2,"oversell":{"policy":"allow","limit":3},"reservation_ttl_s":60}"#;
        let expected = checked(json::parse(line).unwrap()).unwrap();
        assert_eq!(
            (read.sku, read.definition, read.opening),
            (expected.sku, expected.definition, expected.opening)
        );
        for bad in [
            "A,N,x,GBP,,,,,",
            "A,N,1,GBX,,,,,",
            "A,N,1,GBP,x,,,,",
            "A,N,1,GBP,,,maybe,,",
            ",N,1,GBP,,,,,",
            "A,N,-1,GBP,,,,,",
        ] {
            assert!(columns.line(bad.as_bytes()).and_then(checked).is_err(), "{bad}");
        }
        assert!(Columns::read(b"sku,name,amount").is_err(), "a needed column is missing");
        assert!(Columns::read(b"sku,name,amount,currency,colour").is_err(), "an unknown column");
    }
}
