//! The reference of every setting, docs/configuration.md: written from the command line's own description, and held to it.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, CommandFactory};
use doorbuster_http::cli::Cli;

const HEAD: &str = "\
# Configuration

Every command with its flags, as `doorbuster COMMAND --help` shows them. Written from the program's own description by
`DOORBUSTER_UPDATE_GOLDEN=1 cargo test -p doorbuster-http --test main configuration`; a test holds the page to it.

A flag beats the environment, the environment beats the file, the file beats the default. The file is TOML and for `serve` alone
(`--config FILE`): its settings are the flags' names with underscores, and an unknown one is refused. A secret belongs into the environment or
into a file that only the engine may read, not into a flag, which every user of the machine can see. More on them: payments
([payments.md](payments.md)), limits ([rate-limits.md](rate-limits.md)), Postgres ([postgres.md](postgres.md)), Redis ([events.md](events.md)),
the rescue copy ([rescue.md](rescue.md)).
";

/// `DOORBUSTER_UPDATE_GOLDEN=1 cargo test` writes it anew.
#[test]
fn the_configuration_reference_is_what_the_program_takes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let text = reference();
    if std::env::var_os("DOORBUSTER_UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == text,
        "a setting changed: DOORBUSTER_UPDATE_GOLDEN=1 writes docs/configuration.md; review what it says"
    );
}

fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut command = Cli::command();
    command.build();
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        tell(&mut page, "doorbuster", command);
    }
    page
}

fn tell(page: &mut String, before: &str, command: &Command) {
    let name = format!("{before} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string);
    write!(page, "\n## `{name}`\n\n{}\n", about.unwrap_or_default().trim()).unwrap();
    let arguments: Vec<&Arg> = command.get_arguments().filter(|argument| !is_common(argument)).collect();
    if !arguments.is_empty() {
        page.push_str("\n| flag | environment | default | |\n|---|---|---|---|\n");
    }
    for argument in arguments {
        let environment = argument.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
        let defaults: Vec<String> = argument
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let is_switch = !argument.get_action().takes_values();
        let default = if is_switch { String::new() } else { defaults.join(" ") };
        let mut what = argument.get_help().map(ToString::to_string).unwrap_or_default();
        if !is_switch {
            let values: Vec<String> = argument
                .get_possible_values()
                .iter()
                .map(|value| match value.get_help() {
                    Some(help) => format!("`{}`: {help}", value.get_name()),
                    None => format!("`{}`", value.get_name()),
                })
                .collect();
            if !values.is_empty() {
                write!(what, ". {}", values.join("; ")).unwrap();
            }
        }
        let row = [flag(argument), environment.unwrap_or_default(), default, what];
        let cells = row.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        writeln!(page, "| {} |", cells.join(" | ")).unwrap();
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        tell(page, &name, below);
    }
}

/// What every command has.
fn is_common(argument: &Arg) -> bool {
    matches!(
        argument.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    )
}

fn flag(argument: &Arg) -> String {
    let values: Vec<String> =
        argument.get_value_names().unwrap_or_default().iter().map(|name| format!("<{name}>")).collect();
    let values = if argument.get_action().takes_values() { values.join(" ") } else { String::new() };
    match argument.get_long() {
        Some(long) if values.is_empty() => format!("`--{long}`"),
        Some(long) => format!("`--{long} {values}`"),
        None => format!("`{values}`"),
    }
}
