//! All the SQL of the rescue copy: one session's view of its tables.
//!
//! A batch and the owner's row change in one statement, so that a batch counts exactly once and only for its owner. What
//! becomes of a statement whose answer never came is told by the owner's row at the next attachment. Start at
//! [`Tables::attach`].

use doorbuster_persistence::directory::EngineId;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::rescue::base::{BaseHead, BasePage};
use doorbuster_persistence::rescue::shipment::Shipment;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement, ToStatement};

use super::error::RescueError;
use super::sealing::Sealed;
use crate::connection::Connection;
use crate::error::PostgresError;

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What the owner's row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whose journal it is.
    pub engine: String,
    /// Which ownership.
    pub epoch: u64,
    /// Digest of the owning directory's token, hexadecimal.
    pub token_digest: String,
    /// Last frame of the copy.
    pub last_frame: FrameNumber,
    /// Its checksum.
    pub last_checksum: u32,
    /// When the last batch came in, as text; absent before the first.
    pub shipped_at: Option<String>,
}

/// Who ships: an engine, and the token of its data directory.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// Whose journal.
    pub engine: EngineId,
    /// Digest of the directory's token, hexadecimal.
    pub token_digest: String,
}

impl Claimant {
    /// The claimant with this token.
    pub fn new(engine: EngineId, token: &[u8; 32]) -> Self {
        Self { engine, token_digest: blake3::hash(token).to_hex().to_string() }
    }
}

/// The rescue copy through one session. Gone with it.
#[derive(Debug)]
pub struct Tables {
    pub(crate) connection: Connection,
    append: Option<Statement>,
    /// Warnings of the server that were looked at.
    warnings: u64,
}

const APPEND: &str = "
    WITH owned AS (
        UPDATE doorbuster.rescue_owner SET last_frame = $2::int8, last_checksum = $4::int8, shipped_at = now()
        WHERE engine_id = $9::text AND token_digest = $10::text AND epoch = $11::int8
            AND last_frame = $1::int8 - 1 AND last_checksum = $3::int8
        RETURNING epoch
    )
    INSERT INTO doorbuster.rescue_batches
        (first_frame, last_frame, follows, epoch, previous_checksum, checksum, records, raw_bytes, form, hash, payload)
    SELECT $1::int8, $2::int8,
        (SELECT b.last_frame FROM doorbuster.rescue_batches b WHERE b.last_frame = $1::int8 - 1),
        epoch, $3::int8, $4::int8, $5::int8, $6::int8, $12::int2, $7::bytea, $8::bytea
    FROM owned";

const BATCHES: &str = "
    SELECT first_frame, last_frame, previous_checksum, checksum, records, raw_bytes, form, hash, payload
    FROM doorbuster.rescue_batches WHERE first_frame > $1 ORDER BY first_frame LIMIT 4";

impl Tables {
    /// The copy as this session sees it. A commit of the session waits for the disk at the least, and for a standby where
    /// the server is set up so.
    pub async fn open(connection: Connection) -> Result<Self, RescueError> {
        // `off` would answer before the disk has it; what is stronger than `on` stays as it is.
        let set = "SELECT set_config('synchronous_commit', 'on', false) \
                   WHERE current_setting('synchronous_commit') IN ('off', 'local')";
        connection.within("asking for durable commits", connection.client().execute(set, &[])).await?;
        Ok(Self { warnings: connection.warnings(), connection, append: None })
    }

    /// Fails if the server has warned since: a commit whose wait for its standby was cut short looks like any other but
    /// for this.
    pub fn check_warnings(&mut self) -> Result<(), RescueError> {
        let warnings = self.connection.warnings() - self.warnings;
        self.warnings += warnings;
        if warnings > 0 { Err(RescueError::InDoubt { warnings }) } else { Ok(()) }
    }

    async fn execute(
        &self,
        what: &'static str,
        statement: &(impl ToStatement + ?Sized),
        parameters: Parameters<'_>,
    ) -> Result<u64, PostgresError> {
        self.connection.within(what, self.connection.client().execute(statement, parameters)).await
    }

    async fn query(
        &self,
        what: &'static str,
        statement: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, PostgresError> {
        self.connection.within(what, self.connection.client().query(statement, parameters)).await
    }

    async fn query_opt(
        &self,
        what: &'static str,
        statement: &str,
        parameters: Parameters<'_>,
    ) -> Result<Option<Row>, PostgresError> {
        self.connection.within(what, self.connection.client().query_opt(statement, parameters)).await
    }

    async fn query_one(
        &self,
        what: &'static str,
        statement: &str,
        parameters: Parameters<'_>,
    ) -> Result<Row, PostgresError> {
        self.connection.within(what, self.connection.client().query_one(statement, parameters)).await
    }

    /// The owner's row; `None` where nothing was ever shipped here.
    pub async fn owner(&self) -> Result<Option<Owner>, RescueError> {
        let row = self.query_opt("asking whose rescue copy it is", "SELECT engine_id, epoch, token_digest, last_frame, last_checksum, shipped_at::text FROM doorbuster.rescue_owner",
            &[]).await?;
        Ok(row.map(|row| Owner {
            engine: row.get(0),
            epoch: unsigned(row.get(1)),
            token_digest: row.get(2),
            last_frame: FrameNumber(unsigned(row.get(3))),
            last_checksum: checksum(row.get(4)),
            shipped_at: row.get(5),
        }))
    }

    /// Attaches the claimant to the copy: makes it the first owner, or finds it the owner, or refuses. Where nothing was
    /// shipped yet, the copy will begin after frame `begin`, whose checksum is `begin_checksum`.
    ///
    /// Always writes: once it returns, all that was committed before is where its own commit is.
    pub async fn attach(
        &mut self,
        claimant: &Claimant,
        begin: FrameNumber,
        begin_checksum: u32,
    ) -> Result<Owner, RescueError> {
        let engine = claimant.engine.to_string();
        let (frame, chained) = (signed(begin.0), i64::from(begin_checksum));
        let written = self.execute("attaching to the rescue copy", "INSERT INTO doorbuster.rescue_owner (engine_id, epoch, token_digest, last_frame, last_checksum) \
             VALUES ($1, 1, $2, $3, $4) \
             ON CONFLICT (singleton) DO UPDATE SET attached_at = now() \
             WHERE rescue_owner.engine_id = $1 AND rescue_owner.token_digest = $2",
            &[&engine, &claimant.token_digest, &frame, &chained]).await?;
        self.check_warnings()?;
        let owner = self.owner().await?;
        match owner {
            Some(owner) if written == 1 => Ok(owner),
            Some(owner) => Err(refusal(&owner, claimant)),
            None => Err(RescueError::Fenced { epoch: 0 }),
        }
    }

    /// Adds a batch, for its owner and in its place; whether it is there now. `false`: the owner's row says otherwise, and
    /// [`Tables::attach`] says what.
    pub async fn append(
        &mut self,
        claimant: &Claimant,
        epoch: u64,
        shipment: &Shipment,
    ) -> Result<bool, RescueError> {
        const WHAT: &str = "shipping frames";
        let statement = match &self.append {
            Some(statement) => statement.clone(),
            None => {
                let prepared = self.connection.within(WHAT, self.connection.client().prepare(APPEND)).await?;
                self.append.insert(prepared).clone()
            }
        };
        let (first, last) = (signed(shipment.first_frame.0), signed(shipment.last_frame.0));
        let (before, after) = (i64::from(shipment.previous_checksum), i64::from(shipment.checksum));
        let (records, raw_bytes) = (signed(shipment.records), signed(shipment.raw_bytes));
        let hash = shipment.hash.as_slice();
        let engine = claimant.engine.to_string();
        let form = i16::try_from(shipment.version).unwrap_or(i16::MAX);
        let inserted = self
            .execute(
                WHAT,
                &statement,
                &[
                    &first,
                    &last,
                    &before,
                    &after,
                    &records,
                    &raw_bytes,
                    &hash,
                    &shipment.payload,
                    &engine,
                    &claimant.token_digest,
                    &signed(epoch),
                    &form,
                ],
            )
            .await?;
        self.check_warnings()?;
        Ok(inserted == 1)
    }

    /// The batches that begin after `frame`: the first few of them.
    pub async fn batches_after(&self, frame: FrameNumber) -> Result<Vec<Shipment>, RescueError> {
        let frame = signed(frame.0);
        let rows = self.query("reading the rescue copy", BATCHES, &[&frame]).await?;
        Ok(rows.iter().map(shipment).collect())
    }

    /// First frame at hand and bytes of all batches, compressed; `None` where there is no batch.
    pub async fn extent(&self) -> Result<Option<(FrameNumber, u64)>, RescueError> {
        let row = self
            .query_one(
                "measuring the rescue copy",
                "SELECT min(first_frame), sum(octet_length(payload))::int8 FROM doorbuster.rescue_batches",
                &[],
            )
            .await?;
        let first: Option<i64> = row.get(0);
        Ok(first
            .map(|first| (FrameNumber(unsigned(first)), unsigned(row.get::<_, Option<i64>>(1).unwrap_or(0)))))
    }

    /// Hands the copy over to whoever has `token_digest`, under the next epoch: from here on the owner before is refused.
    pub async fn take_over(&mut self, token_digest: &str) -> Result<Owner, RescueError> {
        self.execute("taking the rescue copy over", "UPDATE doorbuster.rescue_owner SET epoch = epoch + 1, token_digest = $1, taken_at = now(), attached_at = now()",
            &[&token_digest]).await?;
        self.check_warnings()?;
        let place = "its tables".to_owned();
        self.owner().await?.ok_or(RescueError::NoCopy { place })
    }

    /// Keeps sealed secrets, for the owner only.
    pub async fn put_secrets(&mut self, claimant: &Claimant, sealed: &Sealed) -> Result<(), RescueError> {
        let (salt, nonce) = (sealed.salt.as_slice(), sealed.nonce.as_slice());
        self.execute("keeping the sealed secrets", "INSERT INTO doorbuster.rescue_secrets (form, salt, iterations, nonce, sealed) \
             SELECT $1::int2, $2::bytea, $3::int4, $4::bytea, $5::bytea FROM doorbuster.rescue_owner WHERE token_digest = $6 FOR SHARE \
             ON CONFLICT (singleton) DO UPDATE SET form = excluded.form, salt = excluded.salt, \
             iterations = excluded.iterations, nonce = excluded.nonce, sealed = excluded.sealed, sealed_at = now()",
            &[&sealed.form, &salt, &sealed.iterations, &nonce, &sealed.sealed, &claimant.token_digest]).await?;
        self.check_warnings()
    }

    /// The sealed secrets, if any were shipped.
    pub async fn secrets(&self) -> Result<Option<Sealed>, RescueError> {
        let row = self
            .query_opt(
                "reading the sealed secrets",
                "SELECT form, salt, iterations, nonce, sealed FROM doorbuster.rescue_secrets",
                &[],
            )
            .await?;
        Ok(row.map(|row| Sealed {
            form: row.get(0),
            salt: array(row.get(1)),
            iterations: row.get(2),
            nonce: array(row.get(3)),
            sealed: row.get(4),
        }))
    }

    /// Begins a checkpoint, and forgets unfinished ones; `None` where the claimant owns the copy no more.
    pub async fn begin_checkpoint(
        &mut self,
        claimant: &Claimant,
        replay_from: FrameNumber,
    ) -> Result<Option<i64>, RescueError> {
        const WHAT: &str = "beginning a checkpoint";
        self.execute(WHAT, "DELETE FROM doorbuster.rescue_checkpoints WHERE finished_at IS NULL", &[])
            .await?;
        let from = signed(replay_from.0);
        Ok(self.query_opt(WHAT, "INSERT INTO doorbuster.rescue_checkpoints (replay_from) \
             SELECT $1::int8 FROM doorbuster.rescue_owner WHERE token_digest = $2 FOR SHARE RETURNING checkpoint_id",
            &[&from, &claimant.token_digest]).await?.map(|row| row.get(0)))
    }

    /// Adds a page to an unfinished checkpoint.
    pub async fn put_page(
        &mut self,
        checkpoint: i64,
        number: u64,
        page: &BasePage,
    ) -> Result<(), RescueError> {
        let (number, raw_bytes, hash) = (signed(number), signed(page.raw_bytes), page.hash.as_slice());
        self.execute("shipping a checkpoint", "INSERT INTO doorbuster.rescue_pages (checkpoint_id, page, raw_bytes, hash, payload) VALUES ($1, $2, $3, $4, $5)",
            &[&checkpoint, &number, &raw_bytes, &hash, &page.payload]).await?;
        Ok(())
    }

    /// Makes a checkpoint count, once the batches it needs are there, and forgets all but the last two; whether it does.
    pub async fn finish_checkpoint(
        &mut self,
        claimant: &Claimant,
        checkpoint: i64,
        head: &BaseHead,
        bytes: u64,
    ) -> Result<bool, RescueError> {
        const WHAT: &str = "finishing a checkpoint";
        let (durable, pages, bytes) = (signed(head.mark.durable_frame.0), signed(head.pages), signed(bytes));
        let encoded = head.encode(claimant.engine);
        let finished = self
            .execute(
                WHAT,
                "UPDATE doorbuster.rescue_checkpoints c \
             SET durable_frame = $2, head = $3, pages = $4, bytes = $5, finished_at = now() \
             FROM doorbuster.rescue_owner o \
             WHERE c.checkpoint_id = $1 AND o.token_digest = $6 AND o.last_frame >= $2 \
             AND $4 = (SELECT count(*) FROM doorbuster.rescue_pages p WHERE p.checkpoint_id = $1)",
                &[&checkpoint, &durable, &encoded, &pages, &bytes, &claimant.token_digest],
            )
            .await?
            == 1;
        self.check_warnings()?;
        if finished {
            self.execute(
                WHAT,
                "DELETE FROM doorbuster.rescue_checkpoints WHERE checkpoint_id NOT IN \
                 (SELECT checkpoint_id FROM doorbuster.rescue_checkpoints WHERE finished_at IS NOT NULL \
                  ORDER BY checkpoint_id DESC LIMIT 2)",
                &[],
            )
            .await?;
        }
        Ok(finished)
    }

    /// Removes some of the batches that lie wholly behind the older of two finished checkpoints; how many. Frames that
    /// a projection in the same database has yet to fold stay, unless it has stood still for a week.
    pub async fn prune(&mut self, claimant: &Claimant, batches_max: i64) -> Result<u64, RescueError> {
        Ok(self.execute("pruning the rescue copy", "DELETE FROM doorbuster.rescue_batches WHERE first_frame IN ( \
                SELECT b.first_frame FROM doorbuster.rescue_batches b, doorbuster.rescue_owner o \
                WHERE o.token_digest = $1 AND b.last_frame < ( \
                    SELECT min(c.replay_from) FROM doorbuster.rescue_checkpoints c WHERE c.finished_at IS NOT NULL \
                    HAVING count(*) >= 2) \
                AND b.last_frame <= coalesce((SELECT p.last_frame FROM doorbuster.projection_state p \
                    WHERE p.applied_at > now() - interval '7 days'), b.last_frame) \
                ORDER BY b.first_frame LIMIT $2)",
            &[&claimant.token_digest, &batches_max]).await?)
    }

    /// The newest finished checkpoint: its number, its head as bytes.
    pub async fn newest_checkpoint(&self) -> Result<Option<(i64, Vec<u8>)>, RescueError> {
        let row = self
            .query_opt(
                "looking for a checkpoint",
                "SELECT checkpoint_id, head FROM doorbuster.rescue_checkpoints WHERE finished_at IS NOT NULL \
             ORDER BY checkpoint_id DESC LIMIT 1",
                &[],
            )
            .await?;
        Ok(row.map(|row| (row.get(0), row.get(1))))
    }

    /// Bytes of the newest finished checkpoint, compressed, and the frame its replay begins at.
    pub async fn newest_checkpoint_extent(&self) -> Result<Option<(FrameNumber, u64)>, RescueError> {
        let row = self
            .query_opt(
                "looking for a checkpoint",
                "SELECT replay_from, bytes FROM doorbuster.rescue_checkpoints WHERE finished_at IS NOT NULL \
             ORDER BY checkpoint_id DESC LIMIT 1",
                &[],
            )
            .await?;
        Ok(row.map(|row| (FrameNumber(unsigned(row.get(0))), unsigned(row.get(1)))))
    }

    /// Bytes of the batches from frame `from` on, compressed.
    pub async fn bytes_from(&self, from: FrameNumber) -> Result<u64, RescueError> {
        let from = signed(from.0);
        Ok(unsigned(self.query_one("measuring the rescue copy", "SELECT coalesce(sum(octet_length(payload)), 0)::int8 FROM doorbuster.rescue_batches WHERE last_frame >= $1",
            &[&from]).await?.get(0)))
    }

    /// One page of a checkpoint; `None` where it is missing.
    pub async fn page(&self, checkpoint: i64, number: u64) -> Result<Option<BasePage>, RescueError> {
        let number = signed(number);
        let row = self.query_opt("reading a checkpoint", "SELECT raw_bytes, hash, payload FROM doorbuster.rescue_pages WHERE checkpoint_id = $1 AND page = $2",
            &[&checkpoint, &number]).await?;
        Ok(row.map(|row| BasePage {
            raw_bytes: unsigned(row.get(0)),
            hash: array(row.get(1)),
            payload: row.get(2),
        }))
    }
}

/// Why a claimant is not the owner.
fn refusal(owner: &Owner, claimant: &Claimant) -> RescueError {
    let own = claimant.engine.to_string();
    if owner.engine == own {
        RescueError::Fenced { epoch: owner.epoch }
    } else {
        RescueError::OtherEngine { found: owner.engine.clone(), own }
    }
}

fn shipment(row: &Row) -> Shipment {
    Shipment {
        // A form that no engine writes is refused when it is unpacked.
        version: u16::try_from(row.get::<_, i16>(6)).unwrap_or(u16::MAX),
        first_frame: FrameNumber(unsigned(row.get(0))),
        last_frame: FrameNumber(unsigned(row.get(1))),
        previous_checksum: checksum(row.get(2)),
        checksum: checksum(row.get(3)),
        records: unsigned(row.get(4)),
        raw_bytes: unsigned(row.get(5)),
        hash: array(row.get(7)),
        payload: row.get(8),
    }
}

/// Frames and bytes stay far below 2^63; what does not fit is refused by the tables' checks.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(-1)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn checksum(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// The tables check lengths; a row changed by hand reads as zeros, and fails by its hash.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap_or([0; N])
}
