//! What is really mounted, from the kernel's own list (proc(5), `/proc/PID/mountinfo`).
//!
//! The configuration names paths, and a path can come to mean something else between the runtime's look-up and ours; what is
//! mounted by then cannot. A bind mount shows up here as a file system and a directory in it, whatever it is called,
//! and so do mounts that lie below a mounted directory.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mounted {
    /// `major:minor` of the file system.
    pub(super) device: String,
    /// The directory of that file system that is shown.
    pub(super) root: PathBuf,
    /// Where it is shown.
    pub(super) point: PathBuf,
    /// Whether it can be written.
    pub(super) writable: bool,
}

/// A place as a file system and a path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) device: String,
    pub(super) path: PathBuf,
}

/// Spaces, tabs, newlines and backslashes stand as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let octal = (byte == b'\\')
            .then(|| field.get(index + 1..index + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(value) => {
                out.push(value);
                index += 4;
            }
            None => {
                out.push(byte);
                index += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// Reads a list; `None` if a line is not of the documented form.
pub(super) fn parse(text: &str) -> Option<Vec<Mounted>> {
    text.lines()
        .map(|line| {
            let mut fields = line.split(' ').skip(2);
            Some(Mounted {
                device: fields.next()?.to_owned(),
                root: unescape(fields.next()?),
                point: unescape(fields.next()?),
                writable: !fields.next()?.split(',').any(|option| option == "ro"),
            })
        })
        .collect()
}

/// Where a path is: `real` exists and has no links in it, `rest` would be made below it.
pub(super) fn locate(real: &Path, rest: &Path, mounts: &[Mounted]) -> Option<Place> {
    // Of the mounts above it the innermost counts, and of several at one point the last, which is on top.
    let mount = mounts
        .iter()
        .filter(|mount| real.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.as_os_str().len())?;
    let inside = real.strip_prefix(&mount.point).ok()?;
    Some(Place {
        device: mount.device.clone(),
        path: mount.root.join(inside).join(rest),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        22 21 0:30 / /tmp rw - tmpfs tmpfs rw\n\
        23 21 8:1 /home/a\\040b /mnt ro,nosuid - ext4 /dev/sda1 rw\n";

    #[test]
    fn the_kernels_list_is_read() {
        let mounts = parse(TEXT).unwrap();
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[2].root, Path::new("/home/a b"));
        assert!(mounts[0].writable && !mounts[2].writable);
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn a_place_is_found_in_the_innermost_mount_even_before_it_exists() {
        let mounts = parse(TEXT).unwrap();
        let place = locate(Path::new("/tmp"), Path::new("does-not-exist/yet"), &mounts).unwrap();
        assert_eq!(place.device, "0:30");
        assert_eq!(place.path, Path::new("/does-not-exist/yet"));
        assert_eq!(locate(Path::new("/"), Path::new(""), &mounts).unwrap().device, "8:1");
    }
}
