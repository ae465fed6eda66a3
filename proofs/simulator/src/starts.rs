//! Starts on copies of the disk: one that must be refused, because an old frame is damaged, and one that must not need what
//! was archived. The history goes on with the disk as it was. Law 9.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use doorbuster_actors::Engine;
use doorbuster_persistence::error::{JournalError, StartError};
use doorbuster_persistence::recovery::CheckpointUse;

use crate::broken::Broken;
use crate::disk::Machine;
use crate::host::SimulatedHost;
use crate::provider::{SharedCommon, lock};
use crate::random::Random;
use crate::sometimes;
use crate::world::{ROOT, options};

/// One crash in so many is followed by such a trial.
const ONE_IN: u64 = 8;

/// The frame from which a start of this disk replays, if it starts at all.
fn start(common: &SharedCommon, disk: &Machine, random: &mut Random) -> Result<CheckpointUse, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads or sockets can be made");
    let _inside = runtime.enter();
    let options = options(common, disk, random);
    let (host, _on_the_way) = SimulatedHost::new(SharedCommon::clone(common), random.fork(), false);
    Engine::start_stepped(options, Arc::new(host), &mut |_| {}).map(|(_, _, report)| report.checkpoint)
}

/// Damages an old durable frame now and then: the start must refuse and name the file.
pub fn with_damage(common: &SharedCommon, disk: &Machine, random: &mut Random) {
    if !random.one_in(ONE_IN) {
        return;
    }
    let first = match start(common, &disk.fork(), random) {
        Ok(CheckpointUse::Mark { replay_from }) => replay_from.0,
        Ok(CheckpointUse::None | CheckpointUse::Rebuilt { .. }) => 1,
        // The history itself will tell.
        Err(_) => return,
    };
    // The newest durable frame may pass for a torn one, so the damage is before it.
    let last = lock(common).walker.frames() as u64;
    if first + 1 >= last {
        return;
    }
    let number = random.between(first, last - 1);
    let (file, begin, length) = lock(common).walker.place_of(number);
    let damaged = disk.fork();
    let file = [file.clone(), archived(&file)].into_iter().find(|file| {
        damaged.flip(file, begin + random.below(length), u32::try_from(random.below(8)).unwrap_or(0))
    });
    let Some(file) = file else { return };
    let refused = start(common, &damaged, random);
    let right = matches!(&refused, Err(StartError::Journal(JournalError::Damaged { file: named, .. })) if *named == file);
    let mut common = lock(common);
    common.faults += 1;
    if right {
        sometimes!("an old frame was damaged and the start refused");
    } else {
        common.fail(Broken {
            law: 9,
            seen: format!(
                "frame {number} of {last} in {} is damaged, and a start says {refused:?}",
                file.display()
            ),
        });
    }
}

/// Takes the archive away now and then, as somebody who ships it does: a start from a mark must not need it.
pub fn without_archive(common: &SharedCommon, disk: &Machine, random: &mut Random) {
    if !random.one_in(ONE_IN) {
        return;
    }
    let archive = Path::new(ROOT).join("journal/archive");
    let shipped = disk.fork();
    let segments = shipped.list(&archive);
    if segments.is_empty() || !matches!(start(common, &disk.fork(), random), Ok(CheckpointUse::Mark { .. })) {
        return;
    }
    for segment in &segments {
        shipped.take_away(segment);
    }
    match start(common, &shipped, random) {
        Ok(_) => sometimes!("a start did without the archive"),
        Err(error) => {
            let seen = format!("after {} archived segments were taken away: {error}", segments.len());
            lock(common).fail(Broken { law: 9, seen });
        }
    }
}

fn archived(segment: &Path) -> PathBuf {
    let name = segment.file_name().unwrap_or_default();
    Path::new(ROOT).join("journal/archive").join(name)
}
