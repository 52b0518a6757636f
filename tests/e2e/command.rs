//! Commands with a deadline, and what came of them.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that is not about time. Nothing here comes near it, unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// What came of a command.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command, for messages.
    #[expect(dead_code, reason = "read by Debug alone")]
    pub what: String,
    /// Its exit status, or 128 and the number of the signal that ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Output {
    /// Fails the test unless the exit status is `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit status of {self:#?}");
        self
    }

    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Standard output without the line's end.
    pub fn text(&self) -> &str {
        self.out.trim_end()
    }

    /// The only line of standard error.
    #[track_caller]
    pub fn one_line(&self) -> &str {
        let lines: Vec<&str> = self.err.lines().collect();
        assert_eq!(lines.len(), 1, "one line on standard error of {self:#?}");
        lines[0]
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:#?}"))
    }
}

/// A command that runs beside the test. Killed when dropped.
pub struct Running {
    what: String,
    input: Option<ChildStdin>,
    child: Child,
    out: Stream,
    err: Stream,
}

struct Stream {
    name: &'static str,
    pieces: Receiver<Vec<u8>>,
    text: Vec<u8>,
}

impl Stream {
    fn of(name: &'static str, mut source: impl Read + Send + 'static) -> Self {
        let (sender, pieces) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            name,
            pieces,
            text: Vec::new(),
        }
    }

    /// Reads until somebody closed the other end, or `enough` of what was read.
    fn read(&mut self, until: Instant, enough: impl Fn(&str) -> bool) -> Result<(), String> {
        loop {
            if enough(&self.so_far()) {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.text.extend(piece),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    return Err(format!("its {} is still open: {:?}", self.name, self.so_far()));
                }
            }
        }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

impl Running {
    /// Starts a command; `input` is all that it gets on standard input.
    pub fn start(words: &[&str], input: &[u8]) -> Self {
        let mut running = Self::start_open(words);
        let mut stdin = running.input.take().unwrap();
        let input = input.to_vec();
        // Whoever does not read it is not wrong.
        thread::spawn(move || stdin.write_all(&input));
        running
    }

    /// Starts a command whose standard input stays open.
    pub fn start_open(words: &[&str]) -> Self {
        let mut what = words.join(" ");
        if let Some((end, _)) = what.char_indices().nth(400) {
            what.truncate(end);
            what.push_str(" ...");
        }
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        Self {
            what,
            input: child.stdin.take(),
            out: Stream::of("standard output", child.stdout.take().unwrap()),
            err: Stream::of("standard error", child.stderr.take().unwrap()),
            child,
        }
    }

    /// Writes to its standard input.
    pub fn send(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().unwrap();
        input.write_all(bytes).unwrap();
        input.flush().unwrap();
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until standard output has a line.
    #[track_caller]
    pub fn wait_for_line(&mut self, line: &str) {
        let until = Instant::now() + DEADLINE;
        let has = |text: &str| text.lines().any(|found| found.trim_end() == line);
        self.out.read(until, has).unwrap();
        assert!(
            has(&self.out.so_far()),
            "{}: {line:?} in {:?}",
            self.what,
            self.out.so_far()
        );
    }

    /// What it has said so far.
    pub fn so_far(mut self) -> String {
        let _ = self.out.read(Instant::now(), |_| false);
        self.out.so_far()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Output {
        let until = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                let _ = self.out.read(Instant::now(), |_| false);
                let _ = self.err.read(Instant::now(), |_| false);
                panic!(
                    "{}: not done after {DEADLINE:?}; {:?} {:?}",
                    self.what,
                    self.out.so_far(),
                    self.err.so_far()
                );
            }
            thread::sleep(Duration::from_millis(2));
        };
        // A process that it left behind may not keep its streams open either.
        for stream in [&mut self.out, &mut self.err] {
            if let Err(problem) = stream.read(until, |_| false) {
                panic!("{}: ended, and {problem}", self.what);
            }
        }
        Output {
            what: self.what.clone(),
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            out: self.out.so_far(),
            err: self.err.so_far(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command as root of the laboratory.
#[track_caller]
pub fn root(words: &[&str]) -> Output {
    Running::start(words, b"").end()
}

/// Waits until something is there.
#[track_caller]
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not after {DEADLINE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}
