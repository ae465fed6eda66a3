//! Why a projection does not go on, each with its remedy.

use doorbuster_persistence::error::JournalError;

use crate::error::PostgresError;
use crate::migrations::MigrationError;

/// A projection that does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// Postgres is away, slow or refuses: try again, from where its tables say.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The schema is not what is needed.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record cannot be read.
    #[error("the journal's frame {frame} cannot be read: {what}; run `doorbuster verify`")]
    Unreadable {
        /// Which frame.
        frame: u64,
        /// What was seen.
        what: String,
    },
    /// The tables are another engine's.
    #[error(
        "the database holds the projection of engine {found}, this is engine {own}; name another database, or give this one \
         over with `doorbuster rebuild-projection --take-over`"
    )]
    OtherEngine {
        /// Whose it is.
        found: String,
        /// Who we are.
        own: String,
    },
    /// The tables know more than the journal.
    #[error(
        "the database is at frame {applied}, but the journal ends at frame {durable}: this data directory is an older copy. \
         Serve the newer one, or make the projection anew with `doorbuster rebuild-projection`"
    )]
    Ahead {
        /// What the tables reflect.
        applied: u64,
        /// The last durable frame.
        durable: u64,
    },
    /// The tables reflect a frame that reads differently in this journal.
    #[error(
        "frame {frame} of this journal is not the one that the database reflects: the data directory was copied and went its \
         own way. Make the projection anew with `doorbuster rebuild-projection`"
    )]
    OtherHistory {
        /// Which frame.
        frame: u64,
    },
    /// The tables were never made by a fold of this journal.
    #[error(
        "the projection does not fit the journal at position {position}: {what}. Somebody changed its rows; make it anew with \
         `doorbuster rebuild-projection`"
    )]
    Inconsistent {
        /// The event that does not fit.
        position: u64,
        /// What is missing.
        what: String,
    },
    /// Somebody else moved the offset meanwhile: another engine's twin, a rebuild, or whoever restored an older copy.
    #[error(
        "the tables are not where this session left them: an older copy was restored, from which it goes on, or another process \
         projects into this database, of which one has to be stopped"
    )]
    Contended,
    /// The database cannot hold every text.
    #[error("the database's encoding is {found}; make one with ENCODING 'UTF8'")]
    Encoding {
        /// Its encoding.
        found: String,
    },
}

impl ProjectionError {
    /// Whether nothing but a person will mend it, so that trying often helps nobody.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Postgres(PostgresError::Settings(_) | PostgresError::TooOld { .. })
            | Self::OtherEngine { .. }
            | Self::Ahead { .. }
            | Self::OtherHistory { .. }
            | Self::Inconsistent { .. }
            | Self::Unreadable { .. }
            | Self::Encoding { .. } => true,
            Self::Migration(error) => !matches!(error, MigrationError::Postgres(_) | MigrationError::Busy),
            Self::Postgres(_) | Self::Journal(_) | Self::Contended => false,
        }
    }
}
