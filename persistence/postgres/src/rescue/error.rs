//! Why shipping or restoring does not go on, each with its remedy.

use doorbuster_persistence::error::{CheckpointError, JournalError, StartError};
use doorbuster_persistence::rescue::restore::RestoreError;

use crate::error::PostgresError;
use crate::migrations::MigrationError;

/// See the module's header.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// Postgres is away, slow or refuses: try again, from where its tables say.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The schema is not what is needed.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The checkpoint store cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The new directory, or the copy's content, refused.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The copy is another engine's.
    #[error(
        "the database holds the rescue copy of engine {found}, this is engine {own}; give this engine a database of its own"
    )]
    OtherEngine {
        /// Whose it is.
        found: String,
        /// Who we are.
        own: String,
    },
    /// Somebody restored from the copy, and owns it now.
    #[error(
        "this data directory was replaced: another one was restored from its rescue copy and owns it since epoch {epoch}. Two \
         engines must not sell the same stock: serve the restored directory, and keep this one only to look at"
    )]
    Fenced {
        /// The epoch in force.
        epoch: u64,
    },
    /// The copy knows more than the journal.
    #[error(
        "the rescue copy is at frame {copied}, but the journal ends at frame {durable}: this data directory is an older one, or \
         lost its end. Serve the newer one, or make a new one with `doorbuster restore`"
    )]
    Ahead {
        /// Last frame of the copy.
        copied: u64,
        /// Last durable frame of the journal.
        durable: u64,
    },
    /// The copy has a frame that reads differently in this journal.
    #[error(
        "frame {frame} of this journal is not the one in the rescue copy: the data directory was copied and went its own way. \
         Serve the one that the copy belongs to, or give this one a database of its own"
    )]
    OtherHistory {
        /// Which frame.
        frame: u64,
    },
    /// Postgres said that it did not wait for its standby: the transaction may be on one machine only.
    #[error(
        "Postgres warned while it ended a transaction ({warnings} warnings): its standby may not have it. The transaction is \
         repeated in another session"
    )]
    InDoubt {
        /// How many.
        warnings: u64,
    },
    /// There is nothing to restore from.
    #[error(
        "the database {place} holds no rescue copy; was it written with `serve --rescue`, and is it this database?"
    )]
    NoCopy {
        /// Which database.
        place: String,
    },
    /// The secrets were never shipped.
    #[error(
        "the rescue copy holds no secrets: serve ran without --rescue-key-file. Give those of your own backup with --secrets-from \
         DIR, or say --without-secrets: then no retry finds its answer, and cart tokens and receipts given out are void"
    )]
    NoSecrets,
    /// Nobody said how to get at the secrets.
    #[error(
        "the secrets in the rescue copy are encrypted: give the key with --rescue-key-file FILE, those of your own backup with \
         --secrets-from DIR, or say --without-secrets"
    )]
    KeyNeeded,
    /// It is not the key, or what it sealed was changed.
    #[error(
        "the rescue key does not open the secrets in the copy: it is another key, or they were changed; nothing was written"
    )]
    WrongKey,
    /// What is in the copy cannot be used.
    #[error("the rescue copy is damaged: {0}; restore the database from a backup of its own")]
    Damaged(String),
    /// A key file, or a directory of secrets, is of no use.
    #[error("{0}")]
    Secrets(String),
}

impl RescueError {
    /// Whether trying again helps nobody: a person must look.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Postgres(PostgresError::Settings(_) | PostgresError::TooOld { .. })
            | Self::OtherEngine { .. }
            | Self::Fenced { .. }
            | Self::Ahead { .. }
            | Self::OtherHistory { .. }
            | Self::NoCopy { .. }
            | Self::NoSecrets
            | Self::KeyNeeded
            | Self::WrongKey
            | Self::Damaged(_)
            | Self::Secrets(_)
            | Self::Restore(_) => true,
            Self::Migration(error) => !matches!(error, MigrationError::Postgres(_) | MigrationError::Busy),
            Self::Postgres(_) | Self::Journal(_) | Self::Checkpoint(_) | Self::InDoubt { .. } => false,
        }
    }

    /// Whether another directory owns the copy.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Fenced { .. })
    }

    /// Every [`RescueError::kind`].
    pub const KINDS: [&'static str; 10] = [
        "connect",
        "deadline",
        "postgres",
        "schema",
        "journal",
        "checkpoint",
        "in_doubt",
        "fenced",
        "other_history",
        "secrets",
    ];

    /// One word of a closed list, for a metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(PostgresError::Deadline { .. }) => "deadline",
            Self::Postgres(PostgresError::Connect { .. }) => "connect",
            Self::Postgres(_) => "postgres",
            Self::Migration(_) => "schema",
            Self::Journal(_) => "journal",
            Self::Checkpoint(_) => "checkpoint",
            Self::Fenced { .. } => "fenced",
            Self::InDoubt { .. } => "in_doubt",
            Self::OtherEngine { .. }
            | Self::Ahead { .. }
            | Self::OtherHistory { .. }
            | Self::Damaged(_)
            | Self::Restore(_) => "other_history",
            Self::NoCopy { .. } | Self::NoSecrets | Self::KeyNeeded | Self::WrongKey | Self::Secrets(_) => {
                "secrets"
            }
        }
    }
}

impl From<StartError> for RescueError {
    fn from(error: StartError) -> Self {
        Self::Restore(error.into())
    }
}
