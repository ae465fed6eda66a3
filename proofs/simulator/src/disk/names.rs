//! Directory entries: which name leads where, now and after a power cut.
//!
//! An entry is durable once its directory is synced; syncing a file says nothing of its name. Before that a cut keeps or
//! loses each creation, rename and removal by itself. A rename within one directory is one change; one into
//! another directory may leave both names, never neither.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Happened;
use crate::random::Random;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Directory,
    File(u64),
    /// A key-value store: a directory whose inside is nobody's business.
    Store(u64),
}

type Entries = BTreeMap<PathBuf, Node>;

/// One change of one directory.
#[derive(Clone, Debug)]
enum Change {
    Link {
        to: PathBuf,
        node: Node,
    },
    /// With the new name in another directory that must be there first, if it was moved.
    Unlink {
        from: PathBuf,
        moved_to: Option<(PathBuf, Node)>,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        node: Node,
    },
}

impl Change {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Link { to, .. } | Self::Rename { to, .. } => to.parent(),
            Self::Unlink { from, .. } => from.parent(),
        }
    }

    /// Whether it would bring `path` back.
    fn names(&self, path: &Path) -> bool {
        match self {
            Self::Link { to, .. } | Self::Rename { to, .. } => to == path,
            Self::Unlink { .. } => false,
        }
    }

    fn apply(&self, entries: &mut Entries) {
        match self {
            Self::Link { to, node } => {
                entries.insert(to.clone(), *node);
            }
            Self::Unlink { from, moved_to } => {
                entries.remove(from);
                if let Some((to, node)) = moved_to {
                    entries.insert(to.clone(), *node);
                }
            }
            Self::Rename { from, to, node } => {
                entries.remove(from);
                entries.insert(to.clone(), *node);
            }
        }
    }
}

fn children(entries: &Entries, directory: &Path) -> Vec<PathBuf> {
    let from = entries.range(directory.to_path_buf()..);
    let below = from.take_while(|(path, _)| path.starts_with(directory));
    below.filter(|(path, _)| path.parent() == Some(directory)).map(|(path, _)| path.clone()).collect()
}

/// All names of the disk.
#[derive(Clone, Debug)]
pub(super) struct Names {
    seen: Entries,
    synced: Entries,
    unsynced: Vec<Change>,
}

impl Names {
    /// The root alone.
    pub(super) fn new() -> Self {
        let root = Entries::from([(PathBuf::from("/"), Node::Directory)]);
        Self { seen: root.clone(), synced: root, unsynced: Vec::new() }
    }

    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        self.seen.get(path).copied()
    }

    /// Everything that can be reached by name now.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        self.seen.values().copied()
    }

    pub(super) fn get_synced(&self, path: &Path) -> Option<Node> {
        self.synced.get(path).copied()
    }

    /// Children of `directory`, in order.
    pub(super) fn list(&self, directory: &Path) -> Vec<PathBuf> {
        children(&self.seen, directory)
    }

    pub(super) fn list_synced(&self, directory: &Path) -> Vec<PathBuf> {
        children(&self.synced, directory)
    }

    /// Removes a name, durably.
    pub(super) fn take_away(&mut self, path: &Path) -> bool {
        self.synced.remove(path);
        self.unsynced.retain(|change| !change.names(path));
        self.seen.remove(path).is_some()
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn link(&mut self, to: &Path, node: Node) {
        self.change(Change::Link { to: to.to_path_buf(), node });
    }

    pub(super) fn unlink(&mut self, from: &Path) {
        self.change(Change::Unlink { from: from.to_path_buf(), moved_to: None });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, node: Node) {
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        if from.parent() == to.parent() {
            self.change(Change::Rename { from, to, node });
        } else {
            self.change(Change::Link { to: to.clone(), node });
            self.change(Change::Unlink { from, moved_to: Some((to, node)) });
        }
    }

    /// Makes the changes of one directory durable.
    pub(super) fn sync(&mut self, directory: &Path) {
        let changes = std::mem::take(&mut self.unsynced);
        for change in changes {
            if change.directory() == Some(directory) {
                change.apply(&mut self.synced);
            } else {
                self.unsynced.push(change);
            }
        }
    }

    /// The power fails.
    pub(super) fn cut(&mut self, random: &mut Random, surviving: u64, happened: &mut Happened) {
        for change in std::mem::take(&mut self.unsynced) {
            if random.percent(surviving) {
                change.apply(&mut self.synced);
                happened.names_kept += 1;
            } else {
                happened.names_lost += 1;
            }
        }
        // What lay in a directory whose own name is lost is lost with it. Parents come before children.
        let mut found = Entries::new();
        for (path, node) in std::mem::take(&mut self.synced) {
            let parent = path.parent().map(|parent| found.get(parent));
            if matches!(parent, None | Some(Some(Node::Directory))) {
                found.insert(path, node);
            }
        }
        self.seen.clone_from(&found);
        self.synced = found;
    }

    /// Files and stores that a name leads to, now or after a power cut.
    pub(super) fn reachable(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let unsynced = self.unsynced.iter().filter_map(|change| match change {
            Change::Link { node, .. } | Change::Rename { node, .. } => Some(*node),
            Change::Unlink { moved_to, .. } => moved_to.as_ref().map(|(_, node)| *node),
        });
        let (mut files, mut stores) = (BTreeSet::new(), BTreeSet::new());
        for node in self.seen.values().chain(self.synced.values()).copied().chain(unsynced) {
            match node {
                Node::Directory => {}
                Node::File(node) => {
                    files.insert(node);
                }
                Node::Store(node) => {
                    stores.insert(node);
                }
            }
        }
        (files, stores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::new();
        names.link(Path::new("/a"), Node::Directory);
        names.link(Path::new("/b"), Node::Directory);
        names.sync(Path::new("/"));
        names
    }

    #[test]
    fn a_name_is_durable_once_its_directory_is_synced_and_maybe_before() {
        let (mut kept, mut lost) = (0, 0);
        for seed in 0..100 {
            let mut names = names();
            names.link(Path::new("/a/synced"), Node::File(1));
            names.sync(Path::new("/a"));
            names.link(Path::new("/a/late"), Node::File(2));
            names.cut(&mut Random::new(seed), 50, &mut Happened::default());
            assert_eq!(names.get(Path::new("/a/synced")), Some(Node::File(1)));
            match names.get(Path::new("/a/late")) {
                Some(_) => kept += 1,
                None => lost += 1,
            }
        }
        assert!(kept > 20 && lost > 20, "{kept} {lost}");
    }

    #[test]
    fn a_move_leaves_the_old_name_the_new_one_or_both_never_neither() {
        let mut found = BTreeMap::new();
        for seed in 0..200 {
            let mut names = names();
            names.link(Path::new("/a/x"), Node::File(1));
            names.sync(Path::new("/a"));
            names.rename(Path::new("/a/x"), Path::new("/b/x"), Node::File(1));
            names.cut(&mut Random::new(seed), 50, &mut Happened::default());
            let left = (names.get(Path::new("/a/x")).is_some(), names.get(Path::new("/b/x")).is_some());
            *found.entry(left).or_insert(0) += 1;
        }
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(!found.contains_key(&(false, false)), "{found:?}");
    }

    #[test]
    fn a_rename_within_a_directory_happens_whole_or_not() {
        for seed in 0..100 {
            let mut names = names();
            names.link(Path::new("/a/new"), Node::File(1));
            names.link(Path::new("/a/old"), Node::File(2));
            names.sync(Path::new("/a"));
            names.rename(Path::new("/a/new"), Path::new("/a/old"), Node::File(1));
            names.cut(&mut Random::new(seed), 50, &mut Happened::default());
            match (names.get(Path::new("/a/new")), names.get(Path::new("/a/old"))) {
                (None, Some(Node::File(1))) | (Some(Node::File(1)), Some(Node::File(2))) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_lay_in_a_lost_directory_is_lost_with_it() {
        let mut names = Names::new();
        names.link(Path::new("/a"), Node::Directory);
        names.link(Path::new("/a/x"), Node::File(1));
        names.sync(Path::new("/a"));
        names.cut(&mut Random::new(1), 0, &mut Happened::default());
        assert_eq!(names.get(Path::new("/a/x")), None);
        assert_eq!(names.list(Path::new("/")), Vec::<PathBuf>::new());
    }
}
