//! Where Postgres is and how it is spoken to, read from a URL. The password stays in here: no text shows it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::error::PostgresError;

/// How long a connection may take to be made.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long the server itself may work on one statement, in milliseconds. Long enough for the largest batch on a server
/// that is slow, short enough that a batch behind a foreign lock gives it back.
pub const STATEMENT_TIMEOUT_MS: u64 = 30_000;

/// How long any one answer is waited for: a paused server sends nothing, not even that its own time is over.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(40);

/// How far the server's certificate is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Encrypted, whoever it is: what `sslmode=prefer` and `require` mean to every Postgres client.
    Anybody,
    /// Signed by an authority of this PEM file, and for this host's name.
    SignedBy(PathBuf),
}

/// Where Postgres is. Cheap to clone; shows itself without its password.
#[derive(Clone)]
pub struct DatabaseSettings {
    pub(crate) config: Config,
    pub(crate) trust: Trust,
    pub(crate) statement_timeout_ms: u64,
    pub(crate) answer_patience: Duration,
}

impl DatabaseSettings {
    /// Reads `postgres://user:password@host:port/database?…` or libpq's `host=… user=…`.
    ///
    /// `application_name` is shown in `pg_stat_activity`. `sslmode` may be `disable`, `prefer` (the default), `require`
    /// (encrypted, the server not verified) or `verify-full`, which wants `sslrootcert=FILE`.
    pub fn parse(url: &str, application_name: &str) -> Result<Self, PostgresError> {
        let refuse = |what: &str| Err(PostgresError::Settings(what.to_owned()));
        let (text, tls) = TlsWords::take(url);
        // What the parser says may repeat parts of the text, and so a password.
        let Ok(mut config) = text.parse::<Config>() else {
            return refuse("it is not of the form postgres://user:password@host:port/database");
        };
        if config.get_hosts().is_empty() {
            return refuse("it names no host; use postgres://user:password@host:port/database");
        }
        let (mode, trust) = match (tls.mode.as_deref(), tls.root_certificates) {
            (None, None) => (SslMode::Prefer, Trust::Anybody),
            (Some("disable"), _) => (SslMode::Disable, Trust::Anybody),
            (Some("prefer" | "allow"), _) => (SslMode::Prefer, Trust::Anybody),
            (Some("require"), None) => (SslMode::Require, Trust::Anybody),
            // As libpq does: with a root certificate at hand nobody means not to look at it.
            (Some("require" | "verify-full") | None, Some(file)) => (SslMode::Require, Trust::SignedBy(file)),
            (Some("verify-full"), None) => {
                return refuse("sslmode=verify-full needs sslrootcert=FILE, the authorities in PEM form");
            }
            (Some(_), _) => {
                return refuse("sslmode is one of disable, prefer, require and verify-full");
            }
        };
        config
            .ssl_mode(mode)
            .application_name(application_name)
            .connect_timeout(CONNECT_PATIENCE)
            .tcp_user_timeout(Duration::from_secs(20))
            .keepalives_idle(Duration::from_secs(30));
        Ok(Self {
            config,
            trust,
            statement_timeout_ms: STATEMENT_TIMEOUT_MS,
            answer_patience: ANSWER_PATIENCE,
        })
    }

    /// The same place with other patience: the server's for one statement, and ours for one answer.
    pub fn with_patience(mut self, statement_timeout_ms: u64, answer_patience: Duration) -> Self {
        self.statement_timeout_ms = statement_timeout_ms.max(1);
        self.answer_patience = answer_patience;
        self
    }

    /// The same place under another name in `pg_stat_activity`.
    pub fn named(mut self, application_name: &str) -> Self {
        self.config.application_name(application_name);
        self
    }

    /// How long any one answer is waited for.
    pub fn answer_patience(&self) -> Duration {
        self.answer_patience
    }

    /// Host, port and database, for people: never the password.
    pub fn place(&self) -> String {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate().map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        });
        let hosts = hosts.collect::<Vec<_>>().join(",");
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or("postgres");
        format!("{hosts}/{database}")
    }
}

impl fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseSettings").field("place", &self.place()).finish_non_exhaustive()
    }
}

/// The words about TLS, which the client's own parser knows only in part.
#[derive(Default)]
struct TlsWords {
    mode: Option<String>,
    root_certificates: Option<PathBuf>,
}

impl TlsWords {
    fn take(url: &str) -> (String, Self) {
        let mut words = Self::default();
        let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
        let (head, tail, mark, glue) = match (is_url, url.split_once('?')) {
            (true, Some((head, tail))) => (head, tail, '&', "?"),
            (true, None) => (url, "", '&', "?"),
            (false, _) => ("", url, ' ', ""),
        };
        let rest: Vec<&str> = tail
            .split(mark)
            .filter(|word| match word.split_once('=') {
                Some(("sslmode", mode)) => {
                    words.mode = Some(mode.to_owned());
                    false
                }
                Some(("sslrootcert", file)) => {
                    words.root_certificates = Some(PathBuf::from(file.replace("%2F", "/")));
                    false
                }
                Some(_) | None => !word.is_empty(),
            })
            .collect();
        let rest = rest.join(&mark.to_string());
        let glue = if rest.is_empty() { "" } else { glue };
        (format!("{head}{glue}{rest}"), words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<DatabaseSettings, PostgresError> {
        DatabaseSettings::parse(url, "doorbuster")
    }

    #[test]
    fn a_url_is_read_and_its_password_never_shown() {
        let settings = read("postgres://shop:s3cret@db.example:6432/sales?sslmode=disable").unwrap();
        assert_eq!(settings.place(), "db.example:6432/sales");
        assert_eq!(settings.config.get_application_name(), Some("doorbuster"));
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert_eq!(read("host=/run/postgresql user=shop").unwrap().place(), "/run/postgresql:5432/shop");
        for bad in
            ["postgres://shop:s3cret@[db/x", "mysql://shop:s3cret@db/x", "postgres://x:s3cret@h:port/d", ""]
        {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("postgres://user:password@host") && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn sslmode_means_what_it_means_to_every_client() {
        let signed = || Trust::SignedBy("/etc/ca.pem".into());
        for (words, mode, trust) in [
            ("", SslMode::Prefer, Trust::Anybody),
            ("?sslmode=disable", SslMode::Disable, Trust::Anybody),
            ("?sslmode=prefer", SslMode::Prefer, Trust::Anybody),
            ("?connect_timeout=3&sslmode=require", SslMode::Require, Trust::Anybody),
            ("?sslmode=verify-full&sslrootcert=/etc/ca.pem", SslMode::Require, signed()),
            ("?sslrootcert=%2Fetc%2Fca.pem&sslmode=require", SslMode::Require, signed()),
        ] {
            let settings = read(&format!("postgres://shop@db/sales{words}")).unwrap();
            assert_eq!((settings.config.get_ssl_mode(), settings.trust), (mode, trust), "{words}");
        }
        let settings = read("host=db sslmode=require user=shop").unwrap();
        assert_eq!(
            (settings.config.get_ssl_mode(), settings.place().as_str()),
            (SslMode::Require, "db:5432/shop")
        );
        for bad in ["?sslmode=verify-full", "?sslmode=verify-ca&sslrootcert=x", "?sslmode=yes"] {
            assert!(read(&format!("postgres://db/sales{bad}")).is_err(), "{bad}");
        }
    }
}
