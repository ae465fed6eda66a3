//! `doorbuster import skus FILE`: streams a catalogue to a running engine.
//!
//! The file goes out as it stands, piece by piece, whatever its length; the engine says which rows it refused and
//! why. The key is made of the file's content, so that an import that was cut off is resumed, not repeated.
//! Start at [`run`].

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::stream;

use super::replay::bar;
use super::replay::report::{grouped, numbers_table};
use crate::client::{Client, ImportReply, Options};

/// Exit code for rows that were rejected.
const EXIT_REJECTED: u8 = 1;

/// Exit code for a wrong call, an unreadable file or an engine that cannot be reached.
const EXIT_FAILED: u8 = 2;

/// Bytes sent at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Rejected rows shown to people; a machine gets all that the engine tells.
const REJECTED_SHOWN_MAX: usize = 50;

/// Import a catalogue into a running engine.
///
/// Exit code 0: every row was taken; 1: some were rejected; 2: wrong usage, unreadable file or unreachable engine.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArguments {
    /// What to import
    #[command(subcommand)]
    pub what: ImportWhat,
}

/// What can be imported.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum ImportWhat {
    /// SKUs: name, price, opening stock
    Skus(ImportSkusArguments),
}

/// Import SKUs from CSV or newline-delimited JSON.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 every row was taken; 1 some were rejected; 2 wrong usage, unreadable file or unreachable engine."
)]
pub struct ImportSkusArguments {
    /// The catalogue: `.csv` with a header row, or one JSON object a line (`.ndjson`, `.jsonl`)
    pub file: PathBuf,
    /// Where the engine listens
    #[arg(long, env = "DOORBUSTER_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The engine's admin key
    #[arg(long, env = "DOORBUSTER_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<String>,
    /// How long to try while the engine is away, in seconds
    #[arg(long, default_value_t = 60)]
    pub patience_s: u64,
    /// Longest the whole import may take, in seconds
    #[arg(long, default_value_t = 3600)]
    pub timeout_s: u64,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command; its errors are printed here, because they have an exit code of their own.
pub fn run(arguments: ImportArguments) -> anyhow::Result<ExitCode> {
    let ImportWhat::Skus(arguments) = arguments.what;
    Ok(match actix_rt::System::new().block_on(skus(&arguments)) {
        Ok(reply) if reply.rejected_total == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(EXIT_REJECTED),
        Err(failure) => {
            eprintln!("doorbuster import: {failure:#}");
            ExitCode::from(EXIT_FAILED)
        }
    })
}

async fn skus(arguments: &ImportSkusArguments) -> anyhow::Result<ImportReply> {
    let unreadable = || format!("cannot read {}", arguments.file.display());
    let content_type = content_type(&arguments.file).with_context(unreadable)?;
    let size = std::fs::metadata(&arguments.file).with_context(unreadable)?.len();
    let mut hasher = blake3::Hasher::new();
    super::replay::hash_file(&arguments.file, &mut hasher).with_context(unreadable)?;
    let key = format!("import:{}", hasher.finalize().to_hex());
    let client = Client::new(Options {
        url: arguments.url.clone(),
        admin_key: arguments.admin_key.clone(),
        patience: Duration::from_secs(arguments.patience_s),
        timeout: Duration::from_secs(arguments.timeout_s),
    })?;
    client.hello().await?;
    let bar = bar(size, "importing  {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}");
    let answer = client
        .post("import", "/v1/admin/import/skus")
        .key(key)
        .as_admin()
        .send_stream(content_type, || {
            let bar = bar.clone();
            bar.reset();
            pieces(arguments.file.clone(), move |sent| bar.inc(sent))
        })
        .await?;
    bar.finish_and_clear();
    let reply: ImportReply = answer.expect()?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reply)?);
    } else {
        println!("{}", told(&reply));
    }
    Ok(reply)
}

/// The file piece by piece; a file that cannot be opened is an error on the first piece.
fn pieces(path: PathBuf, sent: impl Fn(u64)) -> impl stream::Stream<Item = std::io::Result<Bytes>> {
    let mut opened = None;
    stream::iter(std::iter::from_fn(move || {
        let file = match &mut opened {
            Some(file) => file,
            None => match std::fs::File::open(&path) {
                Ok(file) => opened.insert(file),
                Err(fault) => return Some(Err(fault)),
            },
        };
        let mut piece = vec![0; PIECE_BYTES];
        match file.read(&mut piece) {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                sent(read as u64);
                Some(Ok(piece.into()))
            }
            Err(fault) => Some(Err(fault)),
        }
    }))
}

/// By the file's name; else by its first letter: a JSON object begins with a brace.
fn content_type(path: &Path) -> std::io::Result<&'static str> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if extension.eq_ignore_ascii_case("csv") {
        return Ok("text/csv");
    }
    if extension.eq_ignore_ascii_case("ndjson") || extension.eq_ignore_ascii_case("jsonl") {
        return Ok("application/x-ndjson");
    }
    let mut begin = Vec::new();
    std::fs::File::open(path)?.take(256).read_to_end(&mut begin)?;
    let first = begin.iter().find(|byte| !byte.is_ascii_whitespace());
    Ok(if first == Some(&b'{') { "application/x-ndjson" } else { "text/csv" })
}

fn told(reply: &ImportReply) -> String {
    let mut table = numbers_table(&["created", "updated", "rejected"], &[0, 1, 2]);
    table.add_row([grouped(reply.created), grouped(reply.updated), grouped(reply.rejected_total)]);
    let mut text = table.to_string();
    if !reply.rejected.is_empty() {
        let mut rows = numbers_table(&["line", "code", "message"], &[0]);
        for row in reply.rejected.iter().take(REJECTED_SHOWN_MAX) {
            rows.add_row([row.line.to_string(), row.code.clone(), row.message.clone()]);
        }
        text = format!("{text}\n{rows}");
        let hidden = reply.rejected_total.saturating_sub(REJECTED_SHOWN_MAX as u64);
        if hidden > 0 {
            text = format!("{text}\n… and {} more (--json tells the first thousand)", grouped(hidden));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures_util::StreamExt as _;

    use super::*;

    #[test]
    fn a_file_is_told_by_its_name_or_its_first_letter() {
        let directory = tempfile::tempdir().unwrap();
        for (name, content, expected) in [
            ("a.csv", "{", "text/csv"),
            ("a.NDJSON", "sku", "application/x-ndjson"),
            ("a.jsonl", "", "application/x-ndjson"),
            ("a", "\n {\"sku\":1}", "application/x-ndjson"),
            ("a.txt", "sku,name\n", "text/csv"),
            ("empty", "", "text/csv"),
        ] {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            assert_eq!(content_type(&path).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn a_file_goes_out_whole_in_pieces() {
        actix_rt::System::new().block_on(async {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            let content: Vec<u8> = (0..150_000_u32).map(|at| at.to_le_bytes()[0]).collect();
            file.write_all(&content).unwrap();
            let pieces: Vec<_> = pieces(file.path().to_owned(), |_| {}).collect().await;
            assert!(pieces.len() >= 3);
            let read: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
            assert_eq!(read, content);
        });
    }
}
