//! The data directory: one engine, one sentence a refusal.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use doorbuster_persistence::directory::DataDirectory;
use doorbuster_persistence::error::StartError;

#[test]
fn a_second_engine_is_refused_until_the_first_ends() {
    let root = tempfile::tempdir().unwrap();
    let first = DataDirectory::open(&root.path().join("data")).unwrap();
    let refused = DataDirectory::open(&root.path().join("data")).unwrap_err();
    assert!(matches!(refused, StartError::Locked { .. }));
    assert!(refused.to_string().contains("data") && refused.to_string().contains("--data"), "{refused}");
    assert_eq!(refused.exit_code(), 75);
    let engine = first.engine();
    drop(first);
    assert_eq!(DataDirectory::open(&root.path().join("data")).unwrap().engine(), engine);
}

#[test]
fn a_newer_older_or_damaged_format_refuses() {
    let root = tempfile::tempdir().unwrap();
    drop(DataDirectory::open(root.path()).unwrap());
    let file = root.path().join("FORMAT");
    let text = fs::read_to_string(&file).unwrap();
    for (written, code) in [
        (text.replace("format 2", "format 3"), 76),
        (text.replace("format 2", "format 1"), 76),
        (text.replace("format 2", "format x"), 65),
        (text.replace("engine", "motor"), 65),
    ] {
        fs::write(&file, written).unwrap();
        let refused = DataDirectory::open(root.path()).unwrap_err();
        assert_eq!(refused.exit_code(), code, "{refused}");
    }
    fs::write(&file, text).unwrap();
    assert!(DataDirectory::open(root.path()).is_ok());
}

#[test]
fn what_cannot_be_a_directory_is_refused_with_the_remedy() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "no directory").unwrap();
    let refused = DataDirectory::open(&file).unwrap_err();
    assert!(matches!(refused, StartError::NotWritable { .. }), "{refused}");
    assert_eq!(refused.exit_code(), 73);
    let refused = DataDirectory::open_offline(&root.path().join("nowhere")).unwrap_err();
    assert_eq!(refused.exit_code(), 66);
    assert!(!root.path().join("nowhere").exists());
}

#[test]
fn a_journal_without_its_format_file_is_not_taken_for_a_new_one() {
    let root = tempfile::tempdir().unwrap();
    drop(DataDirectory::open(root.path()).unwrap());
    fs::write(root.path().join("journal/00000000000000000001.segment"), "x").unwrap();
    fs::remove_file(root.path().join("FORMAT")).unwrap();
    assert!(matches!(DataDirectory::open(root.path()), Err(StartError::Damaged { .. })));
}

#[test]
fn secrets_are_made_once_for_this_user_only() {
    let root = tempfile::tempdir().unwrap();
    let directory = DataDirectory::open(root.path()).unwrap();
    let secret = directory.secret("requests").unwrap();
    assert_ne!(secret, [0; 32]);
    assert_eq!(directory.secret("requests").unwrap(), secret);
    assert_ne!(directory.secret("carts").unwrap(), secret);
    let file = root.path().join("secrets/requests");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(root.path().join("secrets")).unwrap().permissions().mode() & 0o777, 0o700);
    fs::write(&file, "short").unwrap();
    assert!(matches!(directory.secret("requests"), Err(StartError::Damaged { .. })));
}
