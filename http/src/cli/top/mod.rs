//! `doorbuster top`: the live console in a terminal.
//!
//! Asks `/v1/admin/live` once a second and draws what it tells; what it looks like is in [`board`]. Speaks HTTP and knows no room
//! behind it. Start at [`run`].

mod board;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::{cursor, event, execute, queue, style, terminal};
use serde_json::Value;

use super::Failure;
use crate::client::{self, Client, Options};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long an engine that does not answer is asked again before that is said. It is asked on, so it need not be long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Width and height of what is printed where there is no terminal to measure.
const PLAIN_COLUMNS: usize = 100;
const PLAIN_ROWS: usize = 60;

/// Watch a running engine at work, in this terminal.
///
/// Shows what /console shows: orders and revenue, latencies, refusals, how far SKUs are sold, the hottest actors, journal,
/// followers, payment providers, laws, news. `q` ends it. Where stdout is no terminal, it prints a line a second.
/// Exit code 0: ended by `q` or after --once; 2: wrong usage, wrong key or unreachable engine.
#[derive(Clone, Debug, clap::Args)]
pub struct TopArguments {
    /// Where the engine listens
    #[arg(long, env = "DOORBUSTER_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The engine's admin key
    #[arg(long, env = "DOORBUSTER_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<String>,
    /// Print one look and end
    #[arg(long)]
    pub once: bool,
}

/// Runs the command.
pub fn run(arguments: &TopArguments) -> Result<ExitCode, Failure> {
    if arguments.admin_key.is_none() {
        return Err(refused(
            "the admin key is needed: give --admin-key, or set DOORBUSTER_ADMIN_KEY to what the file admin_key of the data directory holds",
        ));
    }
    actix_rt::System::new().block_on(async {
        let client = Client::new(Options {
            url: arguments.url.clone(),
            admin_key: arguments.admin_key.clone(),
            patience: PATIENCE,
            timeout: Duration::from_secs(10),
        })
        .map_err(|failure| failed(&failure))?;
        // Before anything is drawn: a wrong key or address is said in a plain line.
        let first = look(&client).await.map_err(|failure| failed(&failure))?;
        if arguments.once {
            print(&board::board(&first, None, PLAIN_COLUMNS, PLAIN_ROWS).join("\n"))?;
        } else if std::io::stdout().is_terminal() {
            full_screen(&client, first).await?;
        } else {
            lines(&client, first).await?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn refused(message: &str) -> Failure {
    Failure { message: message.to_owned(), code: 2 }
}

fn failed(failure: &client::Failure) -> Failure {
    let message = match failure {
        client::Failure::Refused { status: 401, .. } => {
            "this is not the engine's admin key; it is in the file admin_key of the data directory, or what --admin-key gave `serve`".to_owned()
        }
        client::Failure::Unreachable { url, last, .. } => {
            format!("no answer from {url} (last: {last}); is the engine running there? Start it, or correct --url")
        }
        client::Failure::Refused { .. }
        | client::Failure::BadUrl { .. }
        | client::Failure::Unexpected { .. } => failure.to_string(),
    };
    Failure { message, code: 2 }
}

async fn look(client: &Client) -> Result<Value, client::Failure> {
    let answer = client.get("watch", "/v1/admin/live?once=true").as_admin().send().await?;
    if !answer.is_success() {
        return Err(answer.unexpected());
    }
    answer.expect()
}

/// A reader that has gone, such as `head`, wants no more and is no error.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(refused(&format!("cannot write to stdout: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A line a second, for logs and pipes, until somebody ends it.
async fn lines(client: &Client, first: Value) -> Result<(), Failure> {
    let mut due = Instant::now();
    let mut seen = Ok(first);
    loop {
        let line = match &seen {
            Ok(snapshot) => board::line(snapshot),
            Err(failure) => format!("no figures: {failure}"),
        };
        if writeln!(std::io::stdout().lock(), "{line}").is_err() {
            return Ok(());
        }
        due = (due + INTERVAL).max(Instant::now());
        actix_rt::time::sleep_until(due.into()).await;
        seen = look(client).await;
    }
}

/// The terminal as it was, whatever happens.
struct Screen;

impl Screen {
    fn take() -> std::io::Result<Self> {
        terminal::enable_raw_mode()?;
        let screen = Self;
        execute!(std::io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(std::io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

async fn full_screen(client: &Client, first: Value) -> Result<(), Failure> {
    let broken = |error: std::io::Error| {
        refused(&format!(
            "this terminal cannot be drawn on ({error}); use --once, or pipe the output somewhere"
        ))
    };
    let _screen = Screen::take().map_err(broken)?;
    let (mut shown, mut taken) = (first, Instant::now());
    let mut trouble: Option<String> = None;
    let mut due = Instant::now() + INTERVAL;
    loop {
        draw(&shown, trouble.as_deref().map(|trouble| (trouble, taken.elapsed()))).map_err(broken)?;
        // Nothing else runs in this thread, so it may wait for a key.
        if event::poll(due.saturating_duration_since(Instant::now())).map_err(broken)? {
            if is_farewell(&event::read().map_err(broken)?) {
                return Ok(());
            }
            continue;
        }
        match look(client).await {
            Ok(snapshot) => (shown, taken, trouble) = (snapshot, Instant::now(), None),
            Err(failure) => trouble = Some(failure.to_string()),
        }
        due = (due + INTERVAL).max(Instant::now() + INTERVAL / 4);
    }
}

fn is_farewell(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && (is_interrupt || matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc))
}

fn draw(snapshot: &Value, trouble: Option<(&str, Duration)>) -> std::io::Result<()> {
    let (columns, rows) = terminal::size()?;
    let (columns, rows) = (usize::from(columns.max(20)), usize::from(rows.max(4)));
    let mut out = std::io::stdout().lock();
    let board = board::board(snapshot, trouble, columns, rows);
    queue!(out, terminal::BeginSynchronizedUpdate)?;
    for (row, line) in board.iter().take(rows).enumerate() {
        queue!(out, cursor::MoveTo(0, u16::try_from(row).unwrap_or(u16::MAX)))?;
        let attribute = if row == 0 { style::Attribute::Reverse } else { style::Attribute::Reset };
        queue!(
            out,
            style::SetAttribute(attribute),
            style::Print(line),
            style::SetAttribute(style::Attribute::Reset)
        )?;
        queue!(out, terminal::Clear(terminal::ClearType::UntilNewLine))?;
    }
    queue!(out, terminal::Clear(terminal::ClearType::FromCursorDown), terminal::EndSynchronizedUpdate)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn q_escape_and_an_interrupt_end_it() {
        let key = |code, modifiers| Event::Key(KeyEvent::new(code, modifiers));
        for (event, ends) in [
            (key(KeyCode::Char('q'), KeyModifiers::NONE), true),
            (key(KeyCode::Esc, KeyModifiers::NONE), true),
            (key(KeyCode::Char('c'), KeyModifiers::CONTROL), true),
            (key(KeyCode::Char('c'), KeyModifiers::NONE), false),
            (key(KeyCode::Enter, KeyModifiers::NONE), false),
            (Event::Resize(80, 24), false),
        ] {
            assert_eq!(is_farewell(&event), ends, "{event:?}");
        }
    }

    #[test]
    fn who_gives_no_key_is_told_where_it_is() {
        let arguments = TopArguments { url: "http://127.0.0.1:9".to_owned(), admin_key: None, once: true };
        let failure = run(&arguments).unwrap_err();
        assert_eq!(failure.code, 2);
        assert!(failure.message.contains("DOORBUSTER_ADMIN_KEY"), "{}", failure.message);
    }
}
