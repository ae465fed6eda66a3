//! What a cut may leave, and what it may not.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;

/// A story on a disk: each call takes one tick.
struct Story {
    disk: Disk,
    now: u64,
}

impl Story {
    fn new() -> Self {
        Self { disk: Disk::new(1), now: 0 }
    }

    fn call(&mut self, inode: u64, change: Change) {
        self.now += 2;
        let end = Some(self.now + 1);
        let call =
            Call { start: self.now, end, process: 1, number: 0, inode, change, done: true, error: None };
        self.disk.apply(&call).unwrap();
    }

    fn fail_sync(&mut self, inode: u64) {
        self.now += 2;
        let (start, end) = (self.now, Some(self.now + 1));
        let error = Some(EIO);
        let call =
            Call { start, end, process: 1, number: 0, inode, change: Change::Sync, done: false, error };
        self.disk.apply(&call).unwrap();
    }

    fn write(&mut self, inode: u64, offset: u64, bytes: &[u8]) {
        self.call(inode, Change::Write { offset, bytes: Bytes::Some(Arc::from(bytes)) });
    }

    fn create(&mut self, inode: u64, path: &str) {
        self.call(inode, Change::Create { path: path.into() });
    }

    /// Everything that some of a thousand cuts left of a file: `None` where it was missing.
    fn left(&self, path: &str) -> BTreeSet<Option<Vec<u8>>> {
        let cuts = (0..1_000).map(|seed| self.disk.cut(&[], &mut Chance::new(seed)).unwrap());
        cuts.map(|image| image.files.get(Path::new(path)).map(|bytes| bytes.to_vec())).collect()
    }
}

#[test]
fn only_syncs_of_file_and_directory_make_a_file_certain() {
    let mut story = Story::new();
    story.create(2, "a");
    story.write(2, 0, b"one");
    assert!(story.left("a").len() >= 3, "missing, empty, whole");
    story.call(2, Change::SyncRange);
    assert!(story.left("a").len() >= 3, "sync_file_range is no barrier");
    story.call(2, Change::Sync);
    assert_eq!(story.left("a"), BTreeSet::from([None, Some(b"one".to_vec())]));
    story.call(1, Change::Sync);
    assert_eq!(story.left("a"), BTreeSet::from([Some(b"one".to_vec())]));
}

#[test]
fn an_unsynced_write_tears_at_sectors_and_in_any_order() {
    let mut story = Story::new();
    story.create(2, "a");
    story.write(2, 0, &[1; 1024]);
    story.call(2, Change::Sync);
    story.call(1, Change::Sync);
    story.write(2, 0, &[2; 1024]);
    let left = story.left("a");
    let sectors: BTreeSet<_> = left.iter().flatten().map(|bytes| (bytes[0], bytes[512])).collect();
    assert_eq!(sectors, BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]));
    assert!(left.iter().flatten().all(|bytes| bytes[..512].iter().all(|byte| *byte == bytes[0])));
}

#[test]
fn a_sync_covers_only_what_had_ended_before_it_began() {
    let mut story = Story::new();
    story.create(2, "a");
    story.call(2, Change::Sync);
    story.call(1, Change::Sync);
    let bytes = Bytes::Some(Arc::from(&b"late"[..]));
    let change = Change::Write { offset: 0, bytes };
    // Began before the sync, ended while it ran.
    let late =
        Call { start: 20, end: Some(40), process: 1, number: 0, inode: 2, change, done: true, error: None };
    let sync = Call { start: 30, end: Some(50), change: Change::Sync, ..late.clone() };
    story.disk.apply(&late).unwrap();
    story.disk.apply(&sync).unwrap();
    assert!(story.left("a").contains(&Some(Vec::new())));
}

#[test]
fn a_move_between_directories_leaves_one_name_at_least_unless_the_old_one_was_synced() {
    let mut story = Story::new();
    story.call(3, Change::MakeDirectory { path: "old".into() });
    story.call(4, Change::MakeDirectory { path: "new".into() });
    story.create(2, "old/a");
    for inode in [1, 2, 3] {
        story.call(inode, Change::Sync);
    }
    story.call(2, Change::Rename { from: "old/a".into(), to: "new/a".into() });
    let names = |story: &Story| -> BTreeSet<(bool, bool)> {
        let cuts = (0..1_000).map(|seed| story.disk.cut(&[], &mut Chance::new(seed)).unwrap());
        let has = |image: &Image, path: &str| image.files.contains_key(Path::new(path));
        cuts.map(|image| (has(&image, "old/a"), has(&image, "new/a"))).collect()
    };
    assert_eq!(names(&story), BTreeSet::from([(true, false), (true, true), (false, true)]));
    let mut both = (0..1_000).map(|seed| story.disk.cut(&[], &mut Chance::new(seed)).unwrap());
    let both = both.find(|image| image.files.len() == 2).unwrap();
    let place = tempfile::tempdir().unwrap();
    both.write(place.path()).unwrap();
    let inode = |path: &str| crate::engine::inode(&place.path().join(path));
    assert_eq!(inode("old/a"), inode("new/a"), "two names of one file");
    let mut wrong_order = Story { disk: story.disk.clone(), now: story.now };
    wrong_order.call(3, Change::Sync);
    assert!(names(&wrong_order).contains(&(false, false)));
    story.call(4, Change::Sync);
    story.call(3, Change::Sync);
    assert_eq!(names(&story), BTreeSet::from([(false, true)]));
}

#[test]
fn a_killed_write_is_read_off_what_it_left() {
    let mut story = Story::new();
    story.create(2, "a");
    story.write(2, 0, &[0; 8]);
    let bytes = Bytes::Some(Arc::from(&b"abcdef"[..]));
    let change = Change::Write { offset: 1, bytes };
    let mut calls =
        [Call { start: 90, end: None, process: 1, number: 0, inode: 2, change, done: false, error: None }];
    let mut left = story.disk.live();
    left.files.insert("a".into(), Arc::new(b"\0abc\0\0\0\0".to_vec()));
    assert!(story.disk.check_against(&left).is_err());
    story.disk.settle_killed(&mut calls, 99, &left, &|_| 0).unwrap();
    assert_eq!(calls[0].end, Some(99));
    story.disk.check_against(&left).unwrap();
}

#[test]
fn what_a_failed_sync_left_unwritten_no_later_sync_writes_unless_its_page_is_written_again() {
    let page = usize::try_from(PAGE_BYTES).unwrap();
    let mut story = Story::new();
    story.create(2, "a");
    story.write(2, 0, &vec![1; 2 * page]);
    story.call(2, Change::Sync);
    story.call(1, Change::Sync);
    story.write(2, 0, &vec![2; 2 * page]);
    story.fail_sync(2);
    story.call(2, Change::Sync);
    let left = |story: &Story| -> BTreeSet<(u8, u8)> {
        story.left("a").iter().flatten().map(|bytes| (bytes[0], bytes[page])).collect()
    };
    assert_eq!(left(&story), BTreeSet::from([(1, 1), (1, 2), (2, 1), (2, 2)]), "the retry wrote nothing");
    assert_eq!(story.disk.live().files[Path::new("a")][0], 2, "and the running system reads it");
    story.write(2, 1_000, &[3]);
    story.call(2, Change::Sync);
    assert_eq!(left(&story), BTreeSet::from([(2, 1), (2, 2)]), "the page that was written again came along");
    assert!(story.left("a").iter().flatten().all(|bytes| bytes[1_000] == 3));
}
