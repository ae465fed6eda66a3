//! The admin key: given, or made at the first start and kept in the data directory.

use std::path::Path;

use super::Failure;
use super::serve::ServeArguments;

/// The admin key, and whether it was made just now.
pub fn find(arguments: &ServeArguments) -> Result<(String, bool), Failure> {
    if let Some(key) = &arguments.admin_key {
        return checked_key(key, "--admin-key").map(|key| (key, false));
    }
    if let Some(file) = &arguments.admin_key_file {
        let text = std::fs::read_to_string(file).map_err(|error| Failure {
            message: format!(
                "cannot read the admin key from {}: {error}; name a readable file",
                file.display()
            ),
            code: 78,
        })?;
        return checked_key(&text, "--admin-key-file").map(|key| (key, false));
    }
    kept_key(&arguments.data)
}

fn checked_key(text: &str, flag: &str) -> Result<String, Failure> {
    let key = text.trim();
    if key.len() < 8 || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!(
            "the admin key of {flag} is too short or not printable; use 8 characters or more, without spaces"
        );
        return Err(Failure { message, code: 78 });
    }
    Ok(key.to_owned())
}

/// The key kept in the data directory, made at first start.
fn kept_key(data: &Path) -> Result<(String, bool), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let path = data.join("admin_key");
    let refuse = |error: std::io::Error| Failure {
        message: format!(
            "cannot keep the admin key in {}: {error}; give one with --admin-key",
            path.display()
        ),
        code: 73,
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => return checked_key(&text, "the data directory").map(|key| (key, false)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(refuse(error)),
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| refuse(std::io::Error::other(error)))?;
    let key = format!("dbk_{:032x}", u128::from_le_bytes(random));
    // Written beside and renamed, so that a crash leaves no empty key.
    let unfinished = data.join("admin_key.new");
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished).map_err(refuse)?;
    file.write_all(format!("{key}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(refuse)?;
    std::fs::rename(&unfinished, &path).map_err(refuse)?;
    Ok((key, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_key_is_made_once_and_kept_private() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let (key, fresh) = kept_key(directory.path()).unwrap();
        assert!(fresh && key.len() > 30);
        assert_eq!(kept_key(directory.path()).unwrap(), (key, false));
        let mode = std::fs::metadata(directory.path().join("admin_key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_weak_admin_key_is_refused() {
        for weak in ["", "short", "has a space"] {
            assert!(checked_key(weak, "--admin-key").is_err(), "{weak}");
        }
        assert_eq!(checked_key(" long-enough\n", "x").unwrap(), "long-enough");
    }
}
