//! Small steps on files that every part needs: whole writes at an offset, durable renames, zeros.

use std::fs::{self, File};
use std::io::{self, IoSlice, Write};
use std::path::Path;

/// Writes all of `parts` from `offset` on, in as few system calls as the kernel allows.
pub(crate) fn write_all_at(file: &File, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    /// Linux takes at most 1,024 slices a call.
    const SLICES_MAX: usize = 1_024;
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let count = parts.len().min(SLICES_MAX);
        match rustix::io::pwritev(file, &parts[..count], offset) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes creations and renames in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Really writes zeros over `from..to`, so that blocks are allocated and later syncs move no metadata.
pub(crate) fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let mut offset = from;
    while offset < to {
        let left = usize::try_from(to - offset).unwrap_or(usize::MAX).min(ZEROS.len() * 16);
        let mut parts: Vec<IoSlice<'_>> = Vec::with_capacity(16);
        let mut planned = 0;
        while planned < left {
            let part = (left - planned).min(ZEROS.len());
            parts.push(IoSlice::new(&ZEROS[..part]));
            planned += part;
        }
        write_all_at(file, &mut parts, offset)?;
        offset += left as u64;
    }
    Ok(())
}

/// Writes a small file so that after a crash it is there whole or not at all.
pub(crate) fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let temporary = path.with_extension("new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(parent) => sync_directory(parent),
        None => Ok(()),
    }
}

/// Bytes a user may still write on the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let figures = rustix::fs::statvfs(path)?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Whether all bytes are zero; compares by blocks, since a segment's tail is megabytes of them.
pub(crate) fn all_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4_096] = [0; 4_096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}
