//! Is what an image recovers to what was promised? By the engine's own `recover`, which is what `serve` runs, and its
//! `verify`; compared with the acknowledgements and with the journal folded from its first frame.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use doorbuster_engine::world::{Settled, Snapshot, World};
use doorbuster_persistence::checkpoint::{CheckpointStore, ColdKind, Residence};
use doorbuster_persistence::codec;
use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::file_journal::JournalOptions;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::reader::JournalReader;
use doorbuster_persistence::recovery::{CheckpointUse, Recovered, recover};
use doorbuster_persistence::verify::verify;
use serde::{Deserialize, Serialize};

use crate::history::{History, Placed};

/// Segments of the recordings, bytes.
const SEGMENT_BYTES: u64 = 1 << 20;

/// What one image came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// Acknowledged changes that are missing.
    pub(crate) lost: u64,
    /// What is wrong besides, and the first losses by name.
    pub(crate) wrong: Vec<String>,
    /// Whether a torn tail was cut.
    pub(crate) torn: bool,
    /// Where the recovery began: 0 no checkpoint, 1 a mark, 2 a store set aside.
    pub(crate) began: usize,
    /// Why the store was set aside.
    pub(crate) set_aside: Option<String>,
    /// Records replayed.
    pub(crate) replayed: u64,
}

impl Verdict {
    /// Whether every promise holds.
    pub(crate) fn is_sound(&self) -> bool {
        self.lost == 0 && self.wrong.is_empty()
    }
}

/// Recovers `data`, an image of a moment at which `arrived` had been acknowledged, and judges it.
pub(crate) fn judge(data: &Path, history: &History, arrived: &[Placed], secrets: &Secrets) -> Verdict {
    let judged = catch_unwind(AssertUnwindSafe(|| judged(data, history, arrived, secrets)));
    judged.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        let wrong = vec![format!("recovery panicked: {text}")];
        Verdict { lost: arrived.len() as u64, wrong, ..Verdict::default() }
    })
}

/// The small files that name things for ever, by path below the data directory.
pub(crate) type Secrets = BTreeMap<String, Vec<u8>>;

/// Reads them.
pub(crate) fn secrets(data: &Path) -> std::io::Result<Secrets> {
    let mut secrets = Secrets::new();
    for entry in std::fs::read_dir(data.join("secrets"))? {
        let entry = entry?;
        secrets
            .insert(format!("secrets/{}", entry.file_name().to_string_lossy()), std::fs::read(entry.path())?);
    }
    secrets.insert("FORMAT".to_owned(), std::fs::read(data.join("FORMAT"))?);
    Ok(secrets)
}

fn judged(data: &Path, history: &History, arrived: &[Placed], secrets: &Secrets) -> Verdict {
    let mut verdict = Verdict::default();
    // Before the recovery, which changes the image: what `verify` says of it as the cut left it.
    let problems = if data.join("FORMAT").exists() && data.join("LOCK").exists() {
        match verify(data, &mut |_| ()) {
            Ok(report) => report.problems,
            Err(error) => {
                verdict.wrong.push(format!("verify: {error}"));
                Vec::new()
            }
        }
    } else {
        Vec::new()
    };
    let recovered = DataDirectory::open(data).and_then(|directory| {
        let options = JournalOptions { segment_bytes: SEGMENT_BYTES, ..JournalOptions::default() };
        recover(&directory, options, &mut |_| ()).map(|recovered| (directory, recovered))
    });
    let (directory, recovered) = match recovered {
        Ok(recovered) => recovered,
        Err(error) => {
            verdict.lost = arrived.len() as u64;
            verdict.wrong.push(format!("recovery refuses: {error}"));
            return verdict;
        }
    };
    verdict.torn = recovered.report.cut.is_some();
    verdict.replayed = recovered.report.records_replayed;
    verdict.began = match &recovered.report.checkpoint {
        CheckpointUse::None => 0,
        CheckpointUse::Mark { .. } => 1,
        CheckpointUse::Rebuilt { .. } => 2,
    };
    if let CheckpointUse::Rebuilt { what, .. } = &recovered.report.checkpoint {
        verdict.set_aside = Some(what.clone());
    }
    for problem in problems {
        // An unsound checkpoint store is set aside at the start and costs time; that is its promise.
        let is_store = verdict.began == 2 && problem.law == 10;
        if !is_store {
            verdict.wrong.push(format!("verify: law {}: {}", problem.law, problem.what));
        }
    }
    let next_frame = recovered.next_frame.0;
    for placed in arrived.iter().filter(|placed| placed.frame.is_none_or(|frame| frame >= next_frame)) {
        verdict.lost += 1;
        if verdict.lost <= 3 {
            let what = &placed.acknowledgement;
            let frame = placed.frame.map_or_else(|| "no frame".to_owned(), |frame| format!("frame {frame}"));
            let line = format!(
                "law 3: {:?} {} was acknowledged and is lost: {frame} of a journal that ends before {next_frame}",
                what.promise, what.id
            );
            verdict.wrong.push(line);
        }
    }
    if !arrived.is_empty() {
        for (name, bytes) in secrets {
            if std::fs::read(data.join(name)).ok().as_ref() != Some(bytes) {
                verdict
                    .wrong
                    .push(format!("law 5: {name} is not what it was: no key names its request any more"));
            }
        }
    }
    match folded(&directory, history) {
        Ok(world) => compare(&world, &recovered, &mut verdict),
        Err(what) => verdict.wrong.push(what),
    }
    verdict
}

/// The image's journal folded from its first frame, which must be a beginning of the true one.
fn folded(directory: &DataDirectory, history: &History) -> Result<World, String> {
    let mut world = World::default();
    let mut reader = JournalReader::open(directory.paths(), directory.engine(), FrameNumber::FIRST)
        .map_err(|error| format!("the journal after recovery: {error}"))?;
    loop {
        let frame = reader.next_frame().map_err(|error| format!("the journal after recovery: {error}"))?;
        let Some(frame) = frame else { return Ok(world) };
        if !history.has(frame.number, frame.body) {
            return Err(format!("law 9: frame {} is not the one that was written", frame.number));
        }
        for record in codec::records(frame.body) {
            let record = record.map_err(|error| format!("frame {}: {error}", frame.number))?;
            let entry = record.entry_ref().map_err(|error| format!("frame {}: {error}", frame.number))?;
            let applied = world.apply(entry.entity, &entry.event, record.recorded(), entry.request);
            applied.map_err(|violation| violation.to_string())?;
        }
    }
}

/// Law 10: what was recovered, in memory and in the store together, is the fold.
fn compare(world: &World, recovered: &Recovered, verdict: &mut Verdict) {
    let mut differences = Vec::new();
    for (entity, folded) in &world.entities {
        let found = match recovered.world.entities.get(entity) {
            Some(found) => Some(found.clone()),
            None => cold(&recovered.store, entity),
        };
        match found {
            Some(found) if found == *folded => {}
            Some(_) => differences.push(format!("law 10: {entity} differs from the journal folded")),
            None => differences.push(format!("law 3: {entity} is missing")),
        }
    }
    for (entity, found) in &recovered.world.entities {
        // The fold forgets a finished coordinator at once, the store at the next round.
        let finished = matches!(found, Snapshot::Reservation(found) if found.is_finished());
        if !finished && !world.entities.contains_key(entity) {
            differences.push(format!("law 10: {entity} is in no journal: {found:?}"));
        }
    }
    let (promised, _) = world.memory.by_key();
    let (replayed, _) = recovered.world.memory.by_key();
    for (key, settled) in &promised {
        let found = replayed.get(key).cloned().or_else(|| {
            let row = recovered.store.answer_get(ColdKind::Answer, key.0).ok()??;
            codec::decode_stored::<Settled>(&row.bytes).ok()
        });
        if found.as_ref() != Some(settled) {
            differences.push(format!("law 5: the answer under {key} is gone or another"));
        }
    }
    differences.truncate(5);
    verdict.wrong.extend(differences);
}

fn cold(store: &CheckpointStore, entity: &doorbuster_engine::event::EntityKey) -> Option<Snapshot> {
    let row = store.get(entity).ok()??;
    if row.residence == Residence::Gone {
        return None;
    }
    codec::decode_stored(&row.blob).ok()
}
