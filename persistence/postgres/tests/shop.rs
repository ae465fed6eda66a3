//! A shop of one SKU whose journal is written and shipped, and ways to lose it and get it back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use doorbuster_engine::event::{EntityKey, Entry, Event, PARTITIONS};
use doorbuster_engine::identity::{Position, Recorded, Sku, Timestamp};
use doorbuster_engine::money::{Currency, Money};
use doorbuster_engine::stock::{Definition, Oversell, StockEvent};
use doorbuster_engine::world::World;
use doorbuster_persistence::checkpoint::{CheckpointStore, EntityRow, Imaging, Residence, RoundMark};
use doorbuster_persistence::codec;
use doorbuster_persistence::directory::{DataDirectory, EngineId};
use doorbuster_persistence::error::CheckpointError;
use doorbuster_persistence::file_journal::{JournalOptions, Preparation};
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_persistence::record::RecordHeader;
use doorbuster_persistence::recovery::recover;
use doorbuster_persistence::rescue::{CheckpointSource, TOKEN};
use doorbuster_persistence::tail::JournalTail;
use doorbuster_persistence::verify::verify;
use doorbuster_persistence::writer::{Batch, Durability, JournalHandle, JournalWriter, WriterOptions};
use doorbuster_postgres::rescue::error::RescueError;
use doorbuster_postgres::rescue::restoring::{
    RestoreOptions, RestoreReport, SecretsFrom, read_secrets, restore,
};
use doorbuster_postgres::rescue::sealing::RescueKey;
use doorbuster_postgres::rescue::shipper::{Shipper, ShipperOptions};
use doorbuster_postgres::settings::DatabaseSettings;

use crate::support::run;

/// Small enough that tests fill several.
pub(crate) const SEGMENTS: JournalOptions =
    JournalOptions { segment_bytes: 64 << 10, preparation: Preparation::Thread };

/// A journal that is being written, with one SKU in it.
pub(crate) struct Shop {
    pub(crate) directory: Arc<DataDirectory>,
    pub(crate) journal: JournalHandle,
    pub(crate) store: Arc<CheckpointStore>,
    /// The newest batch that was acknowledged.
    pub(crate) acknowledged: Arc<AtomicU64>,
    /// Batches, and records, so far.
    pub(crate) written: u64,
    world: World,
}

/// The shop's store, for copies.
struct Checkpoints(Arc<CheckpointStore>);

impl CheckpointSource for Checkpoints {
    fn begin(&self) -> Result<Option<Imaging>, CheckpointError> {
        self.0.begin_image()
    }

    fn page(&self, imaging: &mut Imaging, bytes: usize, page: &mut Vec<u8>) -> Result<(), CheckpointError> {
        self.0.image_page(imaging, bytes, page)
    }

    fn end(&self) {
        self.0.end_image();
    }
}

impl Shop {
    pub(crate) fn open(root: &Path, durability: Durability) -> Self {
        let directory = DataDirectory::open(root).unwrap();
        directory.secret("server").unwrap();
        let recovered = recover(&directory, SEGMENTS, &mut |_| {}).unwrap();
        let acknowledged = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&acknowledged);
        let written = recovered.sequences[usize::from(entity().partition())];
        let journal = JournalWriter::spawn(
            Box::new(recovered.journal),
            WriterOptions { durability, ..WriterOptions::default() },
            Box::new(move |_, number| told.store(number, Ordering::SeqCst)),
            Box::new(|error| panic!("{error}")),
        )
        .unwrap();
        let (store, world) = (Arc::new(recovered.store), recovered.world);
        Self { directory: Arc::new(directory), journal, store, acknowledged, written, world }
    }

    /// Records one more event and hands it to the writer.
    pub(crate) fn submit(&mut self) {
        self.written += 1;
        let event = if self.written == 1 {
            let price = Money::new(100, Currency::GBP);
            let definition = Definition {
                name: "thing".into(),
                price,
                oversell: Oversell::Deny,
                reservation_ttl_ms: None,
                low_stock_at: None,
            };
            StockEvent::Defined { definition, opening: 100 }
        } else {
            StockEvent::Adjusted { delta: 1, reason: "count".into(), reference: None, location: None }
        };
        let entry = Entry { entity: entity(), request: None, event: Event::Stock(event) };
        let header = RecordHeader {
            partition: entry.entity.partition(),
            epoch: 1,
            sequence: self.written,
            position: self.written,
            at_ms: 1_000_000 + self.written,
        };
        let recorded = Recorded { position: Position(header.position), at: Timestamp(header.at_ms) };
        self.world.apply((&entry.entity).into(), &entry.event, recorded, None).unwrap();
        let mut bytes = self.journal.buffer();
        codec::append_record(&mut bytes, &header, &entry).unwrap();
        self.journal.submit(Batch { worker: 0, number: self.written, bytes, records: 1 }).unwrap();
    }

    /// Records so many events, each in a frame of its own.
    pub(crate) fn trade(&mut self, count: u64) {
        for _ in 0..count {
            let due = self.journal.durable_frame().next();
            self.submit();
            assert!(self.journal.wait_for_durable(due, Duration::from_secs(60)) >= due);
        }
    }

    /// A round of checkpointing, as of the durable end.
    pub(crate) fn checkpoint(&self) {
        let durable = self.journal.durable_frame();
        let (entity, snapshot) = self.world.entities.get_index(0).unwrap();
        let blob = codec::encode_stored(snapshot).unwrap();
        let residence = Residence::Resident;
        self.store
            .put([EntityRow { entity: entity.clone(), sequence: self.written, residence, blob }])
            .unwrap();
        let mut sequences = [0; PARTITIONS];
        sequences[usize::from(entity.partition())] = self.written;
        let mark = RoundMark {
            replay_from_frame: durable.next(),
            durable_frame: durable,
            sequences,
            position_max: self.written,
            at_ms: 1_000_000 + self.written,
        };
        self.store.finish_round(&mark).unwrap();
    }

    fn tail(&self) -> JournalTail {
        let paths = self.directory.paths().clone();
        JournalTail::open(paths, self.directory.engine(), FrameNumber::FIRST, self.journal.clone())
    }

    pub(crate) fn options(&self, url: &str) -> ShipperOptions {
        let settings = DatabaseSettings::parse(url, "doorbuster test").unwrap();
        let files = read_secrets(&self.directory.paths().root.join("secrets")).unwrap();
        ShipperOptions {
            secrets: Some((key(), files)),
            interval: Duration::from_millis(1),
            ..ShipperOptions::new(settings, self.directory.secret(TOKEN).unwrap())
        }
    }

    pub(crate) fn ship(&self, url: &str) -> (Shipper, Arc<AtomicBool>) {
        self.ship_with(self.options(url))
    }

    pub(crate) fn ship_with(&self, options: ShipperOptions) -> (Shipper, Arc<AtomicBool>) {
        let fenced = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&fenced);
        let on_fenced = Box::new(move |_: &RescueError| told.store(true, Ordering::SeqCst));
        (
            Shipper::spawn(self.tail(), Box::new(Checkpoints(Arc::clone(&self.store))), options, on_fenced)
                .unwrap(),
            fenced,
        )
    }

    /// Waits until everything durable is in the copy.
    pub(crate) fn wait_shipped(&self, shipper: &Shipper) {
        let durable = self.journal.durable_frame();
        wait(
            || shipper.status().figures().shipped >= durable,
            || format!("{:?}", shipper.status().figures()),
        );
    }

    pub(crate) fn engine(&self) -> EngineId {
        self.directory.engine()
    }
}

/// The one SKU.
pub(crate) fn entity() -> EntityKey {
    EntityKey::Sku(Sku::new("TEE").unwrap())
}

pub(crate) fn wait(mut done: impl FnMut() -> bool, told: impl Fn() -> String) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{}", told());
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn key() -> RescueKey {
    RescueKey::of(b"a key for tests, and long enough").unwrap()
}

pub(crate) fn restored(url: &str, data: PathBuf) -> Result<RestoreReport, RescueError> {
    restored_with(url, data, SecretsFrom::Key(key()), false)
}

pub(crate) fn restored_with(
    url: &str,
    data: PathBuf,
    secrets: SecretsFrom,
    is_drill: bool,
) -> Result<RestoreReport, RescueError> {
    let database = DatabaseSettings::parse(url, "doorbuster test").unwrap();
    run(async move { restore(&RestoreOptions { database, data, secrets, is_drill }, &mut |_, _| {}).await })
}

pub(crate) fn assert_sound(root: &Path, records: u64) {
    let report = verify(root, &mut |_| {}).unwrap();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert_eq!(report.records, records);
}

pub(crate) fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
