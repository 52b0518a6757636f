//! The file behind the log: appended under a lock, rotated by size, read line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Event;

/// The log's name in a bundle.
const FILE: &str = "audit.jsonl";
/// The rotated one.
const OLD_FILE: &str = "audit.jsonl.1";
/// Size at which a log is rotated, in bytes. One older file is kept.
const ROTATE_AT: u64 = 8 * 1024 * 1024;
/// Longest line that is read, in bytes; what is longer was not written by us.
const LINE_LIMIT: usize = 64 * 1024;

/// Why the log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct AuditError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The log of one bundle.
#[derive(Debug, Clone)]
pub struct Log {
    directory: PathBuf,
}

impl Log {
    /// The log in `directory`, a bundle that was checked.
    #[must_use]
    pub fn in_bundle(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Adds an event. A power cut may take the last lines; a crash of ours does not.
    pub fn append(&self, event: &Event) -> Result<(), AuditError> {
        let path = self.directory.join(FILE);
        let failed = |operation| {
            let path = path.clone();
            move |source| AuditError {
                operation,
                path,
                source,
            }
        };
        let mut line = serde_json::to_vec(event)
            .map_err(io::Error::from)
            .map_err(failed("write"))?;
        line.push(b'\n');
        let file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(&path)
            .map_err(failed("open"))?;
        // Held until the line is in: a rotation by another process must not come between.
        file.lock().map_err(failed("lock"))?;
        let size = file.metadata().map_err(failed("examine"))?.len();
        // A line that a power cut tore must not swallow this one.
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1).map_err(failed("read"))?;
        }
        if last != [b'\n'] {
            line.insert(0, b'\n');
        }
        (&file).write_all(&line).map_err(failed("write"))?;
        if size >= ROTATE_AT {
            std::fs::rename(&path, self.directory.join(OLD_FILE)).map_err(failed("rotate"))?;
        }
        Ok(())
    }

    /// The last `count` events, oldest first.
    pub fn tail(&self, count: usize) -> Result<Vec<Event>, AuditError> {
        let mut events = read_file(&self.directory.join(OLD_FILE))?;
        events.extend(read_file(&self.directory.join(FILE))?);
        events.drain(..events.len().saturating_sub(count));
        Ok(events)
    }
}

/// Every event of a file. A missing file holds none; a line that is no event (a write that a power cut ended) is
/// passed over.
pub fn read_file(path: &Path) -> Result<Vec<Event>, AuditError> {
    let failed = |operation| {
        let path = path.to_owned();
        move |source| AuditError {
            operation,
            path,
            source,
        }
    };
    let file = match File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("open")(error)),
    };
    let mut events = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(failed("read"))?;
        if line.len() <= LINE_LIMIT
            && let Ok(event) = serde_json::from_slice(&line)
        {
            events.push(event);
        }
    }
    Ok(events)
}

/// The last `count` events of many logs, merged by time, oldest first.
pub fn read_all(logs: impl IntoIterator<Item = Log>, count: usize) -> Result<Vec<Event>, AuditError> {
    let mut events = Vec::new();
    for log in logs {
        events.extend(log.tail(count)?);
    }
    // RFC 3339 in UTC with a fixed number of digits sorts as text.
    events.sort_by(|a, b| a.ts.cmp(&b.ts));
    events.drain(..events.len().saturating_sub(count));
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Action;

    #[test]
    fn what_was_appended_is_read_back_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::in_bundle(directory.path());
        for n in 0..5 {
            log.append(&Event::new("web", Action::Note).detail(n.to_string()))
                .unwrap();
        }
        let details: Vec<_> = log.tail(3).unwrap().into_iter().map(|e| e.detail.unwrap()).collect();
        assert_eq!(details, ["2", "3", "4"]);
    }

    #[test]
    fn a_torn_line_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::in_bundle(directory.path());
        log.append(&Event::new("web", Action::Setup)).unwrap();
        let path = directory.path().join(FILE);
        std::fs::write(&path, [std::fs::read(&path).unwrap(), b"{\"ts\":".to_vec()].concat()).unwrap();
        assert_eq!(log.tail(10).unwrap().len(), 1);
        log.append(&Event::new("web", Action::Note)).unwrap();
        assert_eq!(log.tail(10).unwrap().len(), 2);
    }

    #[test]
    fn a_symlink_in_place_of_the_log_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", directory.path().join(FILE)).unwrap();
        assert!(
            Log::in_bundle(directory.path())
                .append(&Event::new("web", Action::Setup))
                .is_err()
        );
    }
}
