//! The program as the stories run it.

// A test says what it expects; anything else should stop it there.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Runs `checkouts` on an engine that is `script`; its exit code and words.
fn run_on(script: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let engine = directory.path().join("doorbuster");
    std::fs::write(&engine, script).unwrap();
    std::fs::set_permissions(&engine, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_doorbuster-payments-proof"))
        .args(["checkouts", "--checkouts", "1", "--kills", "0", "--quick", "--doorbuster"])
        .arg(&engine)
        // What is kept of a proof that ended early goes with this test.
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_engine_without_stripe_is_refused_with_the_remedy() {
    // As the engine says it; `http/src/cli/payments.rs` has the words.
    let (code, said) = run_on(
        "#!/bin/sh\necho 'a key for Stripe is configured, but this binary was built without Stripe' >&2\nexit 78\n",
    );
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--features stripe"), "{said}");
}

#[test]
fn an_engine_that_does_not_start_is_told_with_its_words() {
    let (code, said) = run_on("#!/bin/sh\necho 'no such colour' >&2\nexit 1\n");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no such colour") && !said.contains("--features"), "{said}");
}
