//! Settings from a TOML file: the same names as the flags of `serve`, unknown ones refused.
//!
//! A flag beats the environment, the environment beats the file, the file beats the default. The file's settings are
//! put in front of the given flags, where those override them; a setting that the environment has too is left out.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::CommandFactory;
use toml::Value;

use super::Cli;

/// The command line with the settings of its configuration file, if it names one.
pub fn with_file(raw: Vec<OsString>) -> Result<Vec<OsString>, String> {
    with_file_in(raw, |name| std::env::var_os(name))
}

fn with_file_in(
    raw: Vec<OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<OsString>, String> {
    if raw.get(1).map(OsString::as_os_str) != Some(OsStr::new("serve")) {
        return Ok(raw);
    }
    let Some(path) = given(&raw, "--config").or_else(|| environment("DOORBUSTER_CONFIG")) else {
        return Ok(raw);
    };
    let path = PathBuf::from(path);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        format!("cannot read the configuration {}: {error}; name a readable TOML file", path.display())
    })?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|error| format!("{} is not TOML: {}; mend that line", path.display(), error.message()))?;
    let settings = flags(&table, &environment).map_err(|what| format!("{}: {what}", path.display()))?;
    let (head, rest) = raw.split_at(2);
    Ok(head.iter().cloned().chain(settings).chain(rest.iter().cloned()).collect())
}

/// The value given to a flag, in either spelling.
fn given(raw: &[OsString], flag: &str) -> Option<OsString> {
    let mut rest = raw.iter();
    while let Some(argument) = rest.next() {
        if argument == flag {
            return rest.next().cloned();
        }
        if let Some(value) = argument.to_str().and_then(|text| text.strip_prefix(flag)?.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

/// A file's settings as flags.
fn flags(
    table: &toml::Table,
    environment: &impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<OsString>, String> {
    let command = Cli::command();
    let Some(serve) = command.find_subcommand("serve") else { return Ok(Vec::new()) };
    let mut flags = Vec::new();
    for (key, value) in table {
        let long = key.replace('_', "-");
        let known =
            serve.get_arguments().find(|argument| argument.get_long() == Some(&long) && long != "config");
        let Some(argument) = known else {
            let names: Vec<_> = serve
                .get_arguments()
                .filter_map(clap::Arg::get_long)
                .filter(|long| *long != "config")
                .collect();
            return Err(format!("unknown setting `{key}`; known: {}", names.join(", ").replace('-', "_")));
        };
        if argument.get_env().and_then(OsStr::to_str).is_some_and(|name| environment(name).is_some()) {
            continue;
        }
        let takes_value = argument.get_action().takes_values();
        let values = match value {
            Value::Array(values) => values.as_slice(),
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
                std::slice::from_ref(value)
            }
            Value::Datetime(_) | Value::Table(_) => return Err(format!("`{key}` has no such type")),
        };
        for value in values {
            match (value, takes_value) {
                (Value::Boolean(true), false) => flags.push(format!("--{long}").into()),
                (Value::Boolean(false), false) => {}
                (Value::String(text), true) => flags.push(format!("--{long}={text}").into()),
                (Value::Integer(number), true) => flags.push(format!("--{long}={number}").into()),
                (Value::Float(number), true) => flags.push(format!("--{long}={number}").into()),
                (
                    Value::Boolean(_)
                    | Value::String(_)
                    | Value::Integer(_)
                    | Value::Float(_)
                    | Value::Datetime(_)
                    | Value::Array(_)
                    | Value::Table(_),
                    _,
                ) => return Err(format!("`{key}` has no such type")),
            }
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, set: &[&str]) -> Result<Vec<OsString>, String> {
        flags(&toml::from_str(text).unwrap(), &|name| set.contains(&name).then(|| "x".into()))
    }

    #[test]
    fn a_file_reads_as_flags_and_refuses_what_it_does_not_know() {
        let text = "listen = \"0.0.0.0:80\"\nworkers = 4\ndemo = true\nproduction = false\ncors_origin = [\"https://a\", \"https://b\"]";
        let mut flags: Vec<_> = read(text, &[]).unwrap();
        flags.sort();
        let expected = [
            "--cors-origin=https://a",
            "--cors-origin=https://b",
            "--demo",
            "--listen=0.0.0.0:80",
            "--workers=4",
        ];
        assert_eq!(flags, expected);
        assert_eq!(read("listen = \"0.0.0.0:80\"", &["DOORBUSTER_LISTEN"]).unwrap(), [] as [&str; 0]);
        for wrong in ["lisen = \"x\"", "demo = 3", "workers = true", "config = \"x\"", "[listen]\na = 1"] {
            assert!(read(wrong, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_come_after_the_files_settings_and_so_override_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("doorbuster.toml");
        std::fs::write(&file, "listen = \"0.0.0.0:80\"").unwrap();
        let config = format!("--config={}", file.display());
        let raw: Vec<OsString> = ["doorbuster", "serve", &config, "--listen", "127.0.0.1:1"]
            .iter()
            .map(|text| (*text).into())
            .collect();
        let all = with_file_in(raw, |_| None).unwrap();
        assert_eq!(all[2], "--listen=0.0.0.0:80");
        assert_eq!(all[5], "127.0.0.1:1");
        let missing = vec!["doorbuster".into(), "serve".into(), "--config=/nowhere".into()];
        assert!(with_file_in(missing, |_| None).unwrap_err().contains("/nowhere"));
        let other = vec!["doorbuster".into(), "verify".into(), "--config=/nowhere".into()];
        assert!(with_file_in(other, |_| None).is_ok(), "only serve has a file");
    }
}
