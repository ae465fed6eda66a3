//! A disk as the record tells it: what is surely on it at a moment, and what may be.
//!
//! Only a completed sync of a file is a barrier for its bytes, and only one of a directory for its names; it covers what
//! had ended before it began. Everything else may be there, in pieces of 512 bytes and in any order, or not: a power cut
//! draws. A rename within a directory is one step. One between two directories is two (the new name, the old one gone),
//! of which journalling file systems never keep the second alone unless the old directory was synced.
//! `sync_file_range` is no barrier. A sync that failed is worse than none: Linux calls the pages it could not write clean,
//! so that no later sync writes them either, while everybody reads them from memory; only a further write to such a page
//! takes it along. Start at [`Disk::apply`] and [`Disk::cut`].

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

use crate::chance::Chance;
use crate::record::{Bytes, Call, Change};

#[cfg(test)]
mod tests;

/// What a disk writes whole.
const SECTOR_BYTES: u64 = 512;

/// What the kernel writes at a time, and forgets after a failed sync.
const PAGE_BYTES: u64 = 4_096;

/// The error number of a sync that the disk failed; one of a killed process has another.
const EIO: i64 = 5;

/// A name's owner: inode numbers are used again, these are not.
type Node = usize;

/// The recorded directory itself; it was there before.
const ROOT: Node = 0;

#[derive(Clone, Debug)]
enum Thing {
    File(File),
    Directory(Directory),
}

/// A file: its durable bytes, and changes that no sync has covered.
#[derive(Clone, Debug, Default)]
struct File {
    /// Shared with images that it went into unchanged.
    durable: Arc<Vec<u8>>,
    loose: Vec<(u64, FileChange)>,
    /// Pages that a failed sync left as they were on the disk, by number: what is read of them from memory.
    adrift: BTreeMap<u64, Vec<u8>>,
}

#[derive(Clone, Debug)]
enum FileChange {
    Write(u64, Bytes),
    SetLength(u64),
    Grow(u64),
}

/// A directory: its durable names, and changes that no sync has covered.
#[derive(Clone, Debug, Default)]
struct Directory {
    durable: BTreeMap<String, Node>,
    loose: Vec<(u64, NameChange)>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(String, Node),
    Unlink(String),
    /// Within this directory.
    Rename(String, String, Node),
    /// The halves of a rename between two directories, tied by a number.
    Arrive(u64, String, Node),
    Leave(u64, String),
}

/// A directory tree as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// Directories, parents first.
    pub(crate) directories: Vec<PathBuf>,
    /// Files; the same bytes in memory under two names are one file.
    pub(crate) files: BTreeMap<PathBuf, Arc<Vec<u8>>>,
}

impl Image {
    /// Writes it to a directory. A file under two names becomes one file under two names: the engine asks whether they are.
    pub(crate) fn write(&self, place: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(place)?;
        for directory in &self.directories {
            std::fs::create_dir_all(place.join(directory))?;
        }
        let mut written: HashMap<*const Vec<u8>, &PathBuf> = HashMap::new();
        for (path, bytes) in &self.files {
            match written.insert(Arc::as_ptr(bytes), path) {
                Some(other) => std::fs::hard_link(place.join(other), place.join(path))?,
                None => std::fs::write(place.join(path), bytes.as_slice())?,
            }
        }
        Ok(())
    }
}

/// See the module's header.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    things: Vec<Thing>,
    /// Who bears an inode number now.
    inodes: HashMap<u64, Node>,
    /// Names as the running system sees them.
    live: BTreeMap<PathBuf, Node>,
    /// Numbers renames between directories.
    moves: u64,
}

/// How daring a cut is with what no sync has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Daring {
    /// All of it is lost.
    Nothing,
    /// All of it is there.
    Everything,
    /// Each change is there or not.
    Changes(u64),
    /// Each sector is there or not.
    Sectors(u64),
    /// Up to some change everything, behind it nothing.
    Prefix,
}

impl Daring {
    fn drawn(chance: &mut Chance) -> Self {
        match chance.below(10) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 | 3 => Self::Changes(10 + chance.below(81)),
            4 => Self::Prefix,
            _ => Self::Sectors(5 + chance.below(91)),
        }
    }

    /// Whether change `index` of `count`, where `kept` come first, is there.
    fn keeps(self, chance: &mut Chance, index: usize, kept: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Changes(percent) | Self::Sectors(percent) => chance.percent(percent),
            Self::Prefix => index < kept,
        }
    }
}

impl Disk {
    /// An empty directory.
    pub(crate) fn new(root_inode: u64) -> Self {
        Self {
            things: vec![Thing::Directory(Directory::default())],
            inodes: HashMap::from([(root_inode, ROOT)]),
            live: BTreeMap::from([(PathBuf::new(), ROOT)]),
            moves: 0,
        }
    }

    /// Applies a call that was made. One that failed changes nothing, but that a failed sync sets pages adrift.
    pub(crate) fn apply(&mut self, call: &Call) -> anyhow::Result<()> {
        if call.done {
            let at = call.end.context("a call that is done has an end")?;
            self.change(call, at).with_context(|| format!("{:?}", call.change))?;
        } else if call.change == Change::Sync
            && call.error == Some(EIO)
            && let Some(node) = self.inodes.get(&call.inode)
            && let Thing::File(file) = &mut self.things[*node]
        {
            file.set_adrift();
        }
        Ok(())
    }

    /// Applies a call that is under way as a change that no sync has covered.
    fn change(&mut self, call: &Call, at: u64) -> anyhow::Result<()> {
        match &call.change {
            Change::Create { path } => {
                let node = self.add(Thing::File(File::default()), call.inode);
                self.link(path, node, at)?;
            }
            Change::MakeDirectory { path } => {
                let node = self.add(Thing::Directory(Directory::default()), call.inode);
                self.link(path, node, at)?;
            }
            Change::Empty => self.file(call.inode)?.loose.push((at, FileChange::SetLength(0))),
            Change::Write { offset, bytes } => {
                self.file(call.inode)?.loose.push((at, FileChange::Write(*offset, bytes.clone())));
            }
            Change::SetLength { length } => {
                self.file(call.inode)?.loose.push((at, FileChange::SetLength(*length)));
            }
            Change::Allocate { end } => self.file(call.inode)?.loose.push((at, FileChange::Grow(*end))),
            Change::SyncRange => {}
            Change::Sync => {
                let node = *self.inodes.get(&call.inode).context("a sync of an unknown file")?;
                match &mut self.things[node] {
                    Thing::File(file) => file.settle(call.start),
                    Thing::Directory(directory) => directory.settle(call.start),
                }
            }
            Change::Rename { from, to } => self.rename(from, to, at)?,
            Change::Unlink { path } => {
                self.live.remove(path).context("an unknown name is removed")?;
                let (parent, name) = self.parent(path)?;
                parent.loose.push((at, NameChange::Unlink(name)));
            }
        }
        Ok(())
    }

    fn add(&mut self, thing: Thing, inode: u64) -> Node {
        self.things.push(thing);
        self.inodes.insert(inode, self.things.len() - 1);
        self.things.len() - 1
    }

    fn file(&mut self, inode: u64) -> anyhow::Result<&mut File> {
        let node = *self.inodes.get(&inode).context("a change of an unknown file")?;
        match &mut self.things[node] {
            Thing::File(file) => Ok(file),
            Thing::Directory(_) => bail!("bytes are written to a directory"),
        }
    }

    fn parent(&mut self, path: &Path) -> anyhow::Result<(&mut Directory, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).context("a name")?.to_owned();
        let parent = path.parent().context("a parent")?;
        let node = *self.live.get(parent).with_context(|| format!("{} is unknown", parent.display()))?;
        match &mut self.things[node] {
            Thing::Directory(directory) => Ok((directory, name)),
            Thing::File(_) => bail!("{} is a file", parent.display()),
        }
    }

    fn link(&mut self, path: &Path, node: Node, at: u64) -> anyhow::Result<()> {
        let (parent, name) = self.parent(path)?;
        parent.loose.push((at, NameChange::Link(name, node)));
        self.live.insert(path.to_path_buf(), node);
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path, at: u64) -> anyhow::Result<()> {
        let node = *self.live.get(from).context("an unknown name is moved")?;
        let (_, old) = self.parent(from)?;
        let (_, new) = self.parent(to)?;
        if from.parent() == to.parent() {
            self.parent(to)?.0.loose.push((at, NameChange::Rename(old, new, node)));
        } else {
            self.moves += 1;
            let tie = self.moves;
            self.parent(to)?.0.loose.push((at, NameChange::Arrive(tie, new, node)));
            self.parent(from)?.0.loose.push((at, NameChange::Leave(tie, old)));
        }
        // A directory takes everything below it along.
        let moved: Vec<PathBuf> = self.live.keys().filter(|path| path.starts_with(from)).cloned().collect();
        for path in moved {
            if let (Some(node), Ok(rest)) = (self.live.remove(&path), path.strip_prefix(from)) {
                let target = if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) };
                self.live.insert(target, node);
            }
        }
        Ok(())
    }

    /// The tree as the running system sees it: everything done, synced or not.
    pub(crate) fn live(&self) -> Image {
        self.built(&mut |_| Daring::Everything, &mut Chance::new(0))
    }

    /// The tree with nothing that no sync has covered.
    pub(crate) fn bare(&self) -> Image {
        self.built(&mut |_| Daring::Nothing, &mut Chance::new(0))
    }

    /// A tree that a power cut could leave now, while `under_way` had begun and not ended.
    pub(crate) fn cut(&self, under_way: &[&Call], chance: &mut Chance) -> anyhow::Result<Image> {
        let mut disk = self.clone();
        for call in under_way {
            // A sync that had not ended is no barrier; what a failed call did before it failed is not known either.
            if !matches!(call.change, Change::Sync | Change::SyncRange) && (call.done || call.end.is_none()) {
                disk.change(call, u64::MAX)?;
            }
        }
        // One temper for the whole disk in half the cuts, one for each file and directory in the others.
        let common = chance.percent(50).then(|| Daring::drawn(chance));
        Ok(disk.built(&mut |chance| common.unwrap_or_else(|| Daring::drawn(chance)), chance))
    }

    fn built(&self, daring: &mut dyn FnMut(&mut Chance) -> Daring, chance: &mut Chance) -> Image {
        let mut arrived = HashMap::new();
        let mut names: HashMap<Node, BTreeMap<String, Node>> = HashMap::new();
        // Arrivals are drawn first, since a name leaves only where it arrived.
        for second in [false, true] {
            for (node, thing) in self.things.iter().enumerate() {
                if let Thing::Directory(directory) = thing
                    && directory.has_leaving() == second
                {
                    let temper = daring(chance);
                    names.insert(node, directory.names(temper, chance, &mut arrived));
                }
            }
        }
        let mut image = Image::default();
        let mut waiting = vec![(PathBuf::new(), ROOT)];
        let mut made: HashMap<Node, Arc<Vec<u8>>> = HashMap::new();
        while let Some((path, node)) = waiting.pop() {
            match &self.things[node] {
                Thing::Directory(_) => {
                    if node != ROOT {
                        image.directories.push(path.clone());
                    }
                    for (name, child) in names.get(&node).into_iter().flatten() {
                        waiting.push((path.join(name), *child));
                    }
                }
                Thing::File(file) => {
                    // Under two names it is one file.
                    let bytes = made.entry(node).or_insert_with(|| {
                        let temper = daring(chance);
                        file.bytes(temper, chance)
                    });
                    image.files.insert(path, bytes.clone());
                }
            }
        }
        image
    }

    /// Decides of calls whose process died whether they were made, by the tree it left behind, and applies those.
    pub(crate) fn settle_killed(
        &mut self,
        calls: &mut [Call],
        killed_at: u64,
        left: &Image,
        inode_of: &dyn Fn(&Path) -> u64,
    ) -> anyhow::Result<()> {
        for call in calls.iter_mut().filter(|call| call.end.is_none()) {
            call.end = Some(killed_at);
            let found = self.bytes_left(call.inode, left);
            call.done = match &mut call.change {
                Change::Sync | Change::SyncRange => false,
                Change::Create { path } => left.files.contains_key(path),
                Change::MakeDirectory { path } => left.directories.contains(path),
                Change::Rename { to, .. } => left.files.contains_key(to) || left.directories.contains(to),
                Change::Unlink { path } => !left.files.contains_key(path),
                Change::Empty => found.is_some_and(<[u8]>::is_empty),
                Change::SetLength { length } => found.is_some_and(|bytes| bytes.len() as u64 == *length),
                Change::Allocate { end } => found.is_some_and(|bytes| bytes.len() as u64 >= *end),
                Change::Write { offset, bytes } => {
                    // A killed write may have come half way.
                    let made = found.map_or(0, |found| length_made(found, *offset, bytes));
                    bytes.cut(made);
                    made > 0
                }
            };
            if call.done
                && let Change::Create { path } | Change::MakeDirectory { path } = &call.change
            {
                call.inode = inode_of(path);
            }
            self.apply(call)?;
        }
        Ok(())
    }

    fn bytes_left<'a>(&self, inode: u64, left: &'a Image) -> Option<&'a [u8]> {
        let node = self.inodes.get(&inode)?;
        let path = self.live.iter().find(|(_, found)| *found == node)?.0;
        left.files.get(path).map(|bytes| bytes.as_slice())
    }

    /// Says where the tree that is really there differs from the record: a call that was not seen.
    pub(crate) fn check_against(&self, left: &Image) -> anyhow::Result<()> {
        let live = self.live();
        for (path, bytes) in &left.files {
            let Some(recorded) = live.files.get(path) else {
                bail!("{} is not in the record", path.display())
            };
            if recorded != bytes
                && let Some(at) = recorded.iter().zip(bytes.iter()).position(|(one, other)| one != other)
            {
                bail!("{} differs from the record at byte {at}", path.display());
            }
            let (seen, told) = (bytes.len(), recorded.len());
            ensure!(seen == told, "{} has {seen} bytes, by the record {told}", path.display());
        }
        let missing = live.files.keys().find(|path| !left.files.contains_key(*path));
        ensure!(missing.is_none(), "{missing:?} is in the record only");
        Ok(())
    }
}

/// How many of the first bytes written at `offset` are there.
fn length_made(found: &[u8], offset: u64, bytes: &Bytes) -> u64 {
    let begin = usize::try_from(offset).unwrap_or(usize::MAX);
    let found = found.get(begin..).unwrap_or_default();
    let made = match bytes {
        Bytes::Some(bytes) => found.iter().zip(bytes.iter()).take_while(|(one, other)| one == other).count(),
        Bytes::Zeros(_) => found.iter().take_while(|byte| **byte == 0).count(),
    };
    bytes.length().min(made as u64)
}

impl File {
    /// Makes durable what had ended when a sync began.
    fn settle(&mut self, sync_start: u64) {
        let (covered, rest) =
            std::mem::take(&mut self.loose).into_iter().partition(|(end, _)| *end <= sync_start);
        self.loose = rest;
        let covered: Vec<(u64, FileChange)> = covered;
        let durable = Arc::make_mut(&mut self.durable);
        for (_, change) in covered {
            match &change {
                FileChange::Write(offset, written) => {
                    for page in pages(*offset, written.length()) {
                        if let Some(bytes) = self.adrift.remove(&page) {
                            put_all(durable, page * PAGE_BYTES, &bytes);
                        }
                    }
                }
                FileChange::SetLength(length) => self.adrift.retain(|page, _| page * PAGE_BYTES < *length),
                FileChange::Grow(_) => {}
            }
            change.whole(durable);
        }
    }

    /// A sync failed: what was not on the disk is, page by page, perhaps never going to be.
    fn set_adrift(&mut self) {
        let read = self.bytes(Daring::Everything, &mut Chance::new(0));
        for page in pages(0, read.len() as u64) {
            let (begin, end) = (place(page * PAGE_BYTES), place((page + 1) * PAGE_BYTES).min(read.len()));
            if self.durable.get(begin..end) != Some(&read[begin..end]) {
                self.adrift.insert(page, read[begin..end].to_vec());
            }
        }
        self.loose.clear();
    }

    fn bytes(&self, daring: Daring, chance: &mut Chance) -> Arc<Vec<u8>> {
        if self.loose.is_empty() && self.adrift.is_empty() {
            return Arc::clone(&self.durable);
        }
        let mut bytes = Vec::clone(&self.durable);
        // The length is metadata with a fate of its own: that after any of the changes, or before them all.
        let mut lengths = vec![bytes.len() as u64];
        let mut length = bytes.len() as u64;
        for (page, adrift) in &self.adrift {
            let offset = page * PAGE_BYTES;
            length = length.max(offset + adrift.len() as u64);
            match daring {
                Daring::Nothing => {}
                Daring::Everything | Daring::Prefix => put_all(&mut bytes, offset, adrift),
                Daring::Changes(percent) | Daring::Sectors(percent) => {
                    torn(&mut bytes, offset, &Bytes::Some(Arc::from(adrift.as_slice())), percent, chance);
                }
            }
        }
        if !self.adrift.is_empty() {
            lengths.push(length);
        }
        let first = lengths.len() - 1;
        let kept = chance.index(self.loose.len() + 1);
        for (_, change) in &self.loose {
            length = change.length_after(length);
            lengths.push(length);
        }
        for (index, (_, change)) in self.loose.iter().enumerate() {
            match (daring, change) {
                (Daring::Sectors(percent), FileChange::Write(offset, written)) => {
                    torn(&mut bytes, *offset, written, percent, chance);
                }
                _ if daring.keeps(chance, index, kept) => change.whole(&mut bytes),
                _ => {}
            }
        }
        let final_length = match daring {
            Daring::Nothing => lengths[0],
            Daring::Everything => lengths[lengths.len() - 1],
            Daring::Prefix => lengths[first + kept],
            Daring::Changes(_) | Daring::Sectors(_) => lengths[chance.index(lengths.len())],
        };
        bytes.resize(place(final_length), 0);
        Arc::new(bytes)
    }
}

impl FileChange {
    fn whole(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => put(bytes, *offset, written, 0, written.length()),
            Self::SetLength(length) => bytes.resize(place(*length), 0),
            Self::Grow(end) => bytes.resize(bytes.len().max(place(*end)), 0),
        }
    }

    fn length_after(&self, length: u64) -> u64 {
        match self {
            Self::Write(offset, bytes) => length.max(offset + bytes.length()),
            Self::SetLength(length) => *length,
            Self::Grow(end) => length.max(*end),
        }
    }
}

/// An offset in memory.
fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// The pages that hold `length` bytes from `offset` on.
fn pages(offset: u64, length: u64) -> std::ops::Range<u64> {
    offset / PAGE_BYTES..(offset + length).div_ceil(PAGE_BYTES)
}

fn put_all(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let (begin, end) = (place(offset), place(offset) + written.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[begin..end].copy_from_slice(written);
}

/// Puts `from..to` of what was written at `offset`.
fn put(bytes: &mut Vec<u8>, offset: u64, written: &Bytes, from: u64, to: u64) {
    let (begin, end) = (place(offset + from), place(offset + to));
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    match written {
        Bytes::Some(written) => bytes[begin..end].copy_from_slice(&written[place(from)..place(to)]),
        Bytes::Zeros(_) => bytes[begin..end].fill(0),
    }
}

/// Puts some of a write's sectors.
fn torn(bytes: &mut Vec<u8>, offset: u64, written: &Bytes, percent: u64, chance: &mut Chance) {
    let end = offset + written.length();
    let mut at = offset;
    while at < end {
        let next = (at / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES).min(end);
        if chance.percent(percent) {
            put(bytes, offset, written, at - offset, next - offset);
        }
        at = next;
    }
}

impl Directory {
    fn has_leaving(&self) -> bool {
        self.loose.iter().any(|(_, change)| matches!(change, NameChange::Leave(..)))
    }

    fn settle(&mut self, sync_start: u64) {
        let (covered, rest) =
            std::mem::take(&mut self.loose).into_iter().partition(|(end, _)| *end <= sync_start);
        self.loose = rest;
        let covered: Vec<(u64, NameChange)> = covered;
        for (_, change) in covered {
            change.apply(&mut self.durable);
        }
    }

    /// `arrived` tells of each rename between directories whose new name is not durable yet whether it is there.
    fn names(
        &self,
        daring: Daring,
        chance: &mut Chance,
        arrived: &mut HashMap<u64, bool>,
    ) -> BTreeMap<String, Node> {
        let mut names = self.durable.clone();
        let kept = chance.index(self.loose.len() + 1);
        for (index, (_, change)) in self.loose.iter().enumerate() {
            let mut keeps = daring.keeps(chance, index, kept);
            match change {
                NameChange::Arrive(tie, ..) => {
                    arrived.insert(*tie, keeps);
                }
                NameChange::Leave(tie, _) => keeps &= arrived.get(tie).copied().unwrap_or(true),
                NameChange::Link(..) | NameChange::Unlink(_) | NameChange::Rename(..) => {}
            }
            if keeps {
                change.apply(&mut names);
            }
        }
        names
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            Self::Link(name, node) | Self::Arrive(_, name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Unlink(name) | Self::Leave(_, name) => {
                names.remove(name);
            }
            Self::Rename(from, to, node) => {
                if names.get(from) == Some(node) {
                    names.remove(from);
                }
                names.insert(to.clone(), *node);
            }
        }
    }
}
