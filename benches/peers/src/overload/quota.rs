//! A share of the processors for one process, by a cgroup of its own.

use std::fs;
use std::path::{Path, PathBuf};

/// The period of a quota: short enough that its pauses do not show as stalls.
const PERIOD_US: u32 = 20_000;

/// A quota in force; lifted when dropped.
#[derive(Debug)]
pub(crate) struct Quota {
    group: Option<PathBuf>,
}

impl Quota {
    /// Puts a process, with all its threads, under `percent` of one core; 0 leaves it free.
    pub(crate) fn of(process: u32, percent: u32) -> anyhow::Result<Self> {
        if percent == 0 {
            return Ok(Self { group: None });
        }
        let name = format!("doorbuster-peers-{}", std::process::id());
        let quota_us = PERIOD_US * percent / 100;
        let second = Path::new("/sys/fs/cgroup");
        let done = if second.join("cgroup.controllers").exists() {
            Self::put(&second.join(name), process, &[("cpu.max", format!("{quota_us} {PERIOD_US}"))])
        } else {
            let quota =
                [("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota_us.to_string())];
            Self::put(&second.join("cpu").join(name), process, &quota)
        };
        done.map_err(|error| {
            anyhow::anyhow!(
                "no cgroup with the cpu controller can be made ({error}): run as root, or in a container that delegates \
                 cgroups, or with --quota 0"
            )
        })
    }

    fn put(group: &Path, process: u32, settings: &[(&str, String)]) -> std::io::Result<Self> {
        fs::create_dir(group)?;
        let quota = Self { group: Some(group.to_owned()) };
        for (name, value) in settings {
            fs::write(group.join(name), value)?;
        }
        fs::write(group.join("cgroup.procs"), process.to_string())?;
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let Some(group) = self.group.take() else { return };
        // A group goes once it is empty: back to the one above with whoever is left.
        let above = group.parent().map(|above| above.join("cgroup.procs"));
        let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        for member in members.lines() {
            let _ = above.as_ref().map(|above| fs::write(above, member));
        }
        let _ = fs::remove_dir(group);
    }
}
