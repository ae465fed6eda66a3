//! The way back: a data directory on an empty machine, out of the copy.
//!
//! What can be refused is refused before anything changes: the new directory, the schema, the secrets' key. Then the copy is
//! taken over, so that whoever wrote it is refused from that moment on, and only then read: what is read is all there
//! will ever be of the old machine (law 3). Start at [`restore`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorbuster_persistence::directory::EngineId;
use doorbuster_persistence::disk::MachineDisk;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::rescue::TOKEN;
use doorbuster_persistence::rescue::base::BaseHead;
use doorbuster_persistence::rescue::restore::{Restoration, RestoreError, Restored};

use super::error::RescueError;
use super::sealing::{Files, RescueKey};
use super::tables::{Owner, Tables};
use crate::migrations;
use crate::settings::DatabaseSettings;

/// Where the secrets come from.
#[derive(Clone, Debug)]
pub enum SecretsFrom {
    /// From the copy, opened with this key.
    Key(RescueKey),
    /// From a backup of the operator's: a directory with `server`, and perhaps `admin_key`.
    Directory(PathBuf),
    /// From nowhere: new ones are made by the first start.
    Nowhere,
    /// Nobody said; refused.
    Unsaid,
}

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Where the copy is.
    pub database: DatabaseSettings,
    /// The new data directory: absent or empty.
    pub data: PathBuf,
    /// Where its secrets come from.
    pub secrets: SecretsFrom,
    /// Only a drill: the copy stays with its owner, and the new directory cannot ship to it.
    pub is_drill: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// Whose data.
    pub engine: String,
    /// The epoch of the new directory's ownership; in a drill that of the owner.
    pub epoch: u64,
    /// Frame from which it was replayed onto a checkpoint; absent where the whole journal was there.
    pub from_checkpoint: Option<FrameNumber>,
    /// What was written.
    pub restored: Restored,
    /// When the last batch had come in, as Postgres says it; absent for an empty copy.
    pub shipped_at: Option<String>,
    /// Files of secrets written.
    pub secrets: usize,
}

/// Told now and then: frames so far, and of how many.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Restores the data directory.
pub async fn restore(options: &RestoreOptions, progress: Progress<'_>) -> Result<RestoreReport, RescueError> {
    let place = options.database.place();
    let mut connection = options.database.clone().named("doorbuster restore").connect().await?;
    migrations::check(&mut connection).await?;
    let mut tables = Tables::open(connection).await?;
    let Some(owner) = tables.owner().await? else { return Err(RescueError::NoCopy { place }) };
    let engine = engine_of(&owner)?;
    let secrets = secrets(options, &tables, engine).await?;
    let mut restoration = Restoration::begin(Arc::new(MachineDisk), &options.data, engine)?;
    for (name, bytes) in &secrets {
        restoration.put_file(name, bytes)?;
    }
    let owner = if options.is_drill { owner } else { take_over(&mut tables, &restoration).await? };
    let base = base(&tables, engine).await?;
    let mut from_checkpoint = None;
    if let Some((checkpoint, head)) = base {
        from_checkpoint = Some(head.mark.replay_from_frame);
        restoration.begin_from(head.clone())?;
        for number in 0..head.pages {
            let page = tables.page(checkpoint, number).await?;
            let missing =
                || RescueError::Damaged(format!("page {number} of checkpoint {checkpoint} is missing"));
            let page = page.ok_or_else(missing)?;
            restoration.put_page(&page)?;
        }
    }
    let mut last = FrameNumber(0);
    loop {
        let shipments = tables.batches_after(last).await?;
        if shipments.is_empty() {
            break;
        }
        for shipment in &shipments {
            restoration.take(shipment)?;
            last = shipment.first_frame;
            progress(shipment.last_frame.0, owner.last_frame.0);
        }
    }
    // The owner's row was written with the last batch: what it says is there must be there.
    if restoration.last_frame() < owner.last_frame {
        let due = restoration.last_frame().next();
        return Err(RestoreError::Gap { due, found: "none".to_owned() }.into());
    }
    let restored = restoration.finish()?;
    Ok(RestoreReport {
        engine: owner.engine,
        epoch: owner.epoch,
        from_checkpoint,
        restored,
        shipped_at: owner.shipped_at,
        secrets: secrets.len(),
    })
}

fn engine_of(owner: &Owner) -> Result<EngineId, RescueError> {
    let id = u128::from_str_radix(&owner.engine, 16).ok();
    let id = id.ok_or_else(|| RescueError::Damaged(format!("{} is no engine id", owner.engine)))?;
    Ok(EngineId(id.to_be_bytes()))
}

/// Makes the new directory the owner, before anything of the copy is read.
async fn take_over(tables: &mut Tables, restoration: &Restoration) -> Result<Owner, RescueError> {
    let mut token = [0; 32];
    getrandom::fill(&mut token)
        .map_err(|error| RescueError::Secrets(format!("this machine gives no random numbers: {error}")))?;
    restoration.put_file(&format!("secrets/{TOKEN}"), &token)?;
    tables.take_over(&blake3::hash(&token).to_hex()).await
}

/// The checkpoint to begin from, where the copy does not reach back to the first frame.
async fn base(tables: &Tables, engine: EngineId) -> Result<Option<(i64, BaseHead)>, RescueError> {
    if tables.extent().await?.is_none_or(|(first, _)| first == FrameNumber::FIRST) {
        return Ok(None);
    }
    let Some((checkpoint, head)) = tables.newest_checkpoint().await? else { return Ok(None) };
    match BaseHead::decode(engine, &head) {
        Ok(head) => Ok(Some((checkpoint, head))),
        Err(what) => Err(RescueError::Damaged(format!("checkpoint {checkpoint} cannot be used: {what}"))),
    }
}

async fn secrets(options: &RestoreOptions, tables: &Tables, engine: EngineId) -> Result<Files, RescueError> {
    let sealed = tables.secrets().await?;
    match (&options.secrets, sealed) {
        (SecretsFrom::Key(key), Some(sealed)) => key.open(engine, &sealed),
        (SecretsFrom::Key(_) | SecretsFrom::Unsaid, None) => Err(RescueError::NoSecrets),
        (SecretsFrom::Unsaid, Some(_)) => Err(RescueError::KeyNeeded),
        (SecretsFrom::Directory(directory), _) => read_secrets(directory),
        (SecretsFrom::Nowhere, _) => Ok(Files::new()),
    }
}

/// The secrets in a directory: files of 32 bytes as in `secrets/`, and `admin_key`. The token of another directory's ownership stays
/// behind.
pub fn read_secrets(directory: &Path) -> Result<Files, RescueError> {
    let refuse = |what: String| {
        RescueError::Secrets(format!("the secrets in {} cannot be used: {what}", directory.display()))
    };
    let mut files = Files::new();
    for entry in std::fs::read_dir(directory).map_err(|error| refuse(error.to_string()))? {
        let entry = entry.map_err(|error| refuse(error.to_string()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if name == "admin_key" { name.clone() } else { format!("secrets/{name}") };
        let bytes = std::fs::read(entry.path()).map_err(|error| refuse(format!("{name}: {error}")))?;
        if name != TOKEN && (name == "admin_key" || bytes.len() == 32) {
            files.push((path, bytes));
        }
    }
    if !files.iter().any(|(name, _)| name == "secrets/server") {
        return Err(refuse(
            "there is no file `server` of 32 bytes; name the directory `secrets` of a backup".to_owned(),
        ));
    }
    files.sort();
    Ok(files)
}
