//! pasta, as it was really started for a container's network: options by which a program there would reach the host.
//!
//! pasta can forward ports of the container's own loopback to the host's, which no table sees. Podman's flags and
//! `containers.conf` are screened before a launch by `run` and `prepare`; this looks at what came of all of them.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::Refusal;
use crate::kernel::NamespaceId;
use crate::podman::screen_pasta_options;

/// Refuses a network namespace whose pasta opens the host, if a pasta serves it by now.
pub(super) fn check(namespace: NamespaceId) -> Result<(), Refusal> {
    let entries = fs::read_dir("/proc").map_err(|error| Refusal::new(format!("cannot list processes: {error}")))?;
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line);
        let words: Vec<&str> = line.split_terminator('\0').collect();
        if let Some((path, options)) = command(&words)
            && fs::metadata(path).is_ok_and(|meta| meta.dev() == namespace.device && meta.ino() == namespace.inode)
        {
            judge(&options)?;
        }
    }
    Ok(())
}

fn judge(options: &[&str]) -> Result<(), Refusal> {
    screen_pasta_options(options).map_err(Refusal::new)?;
    // Podman takes `--map-gw` for itself, and leaves this out then.
    if options.contains(&"--no-map-gw") {
        Ok(())
    } else {
        Err(Refusal::new(
            "pasta shows the host's loopback at the gateway's address (--map-gw); leave it out",
        ))
    }
}

/// The namespace that a command line of pasta names, and its options beside that.
fn command<'a>(words: &[&'a str]) -> Option<(&'a str, Vec<&'a str>)> {
    let (program, rest) = words.split_first()?;
    // pasta replaces itself by a build for the processor, and keeps the name that it was called by.
    if !program.rsplit('/').next()?.starts_with("pasta") {
        return None;
    }
    let place = rest.iter().position(|word| *word == "--netns")?;
    let path = *rest.get(place + 1)?;
    let options = [&rest[..place], &rest[place + 2..]].concat();
    Some((path, options))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What podman 5.4.2 starts where nothing is configured.
    const USUAL: &str = "/usr/bin/pasta --config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none \
                         --no-map-gw --quiet --netns /run/user/1000/netns/netns-1 --map-guest-addr 169.254.1.2";

    fn judged(line: &str) -> Option<Result<(), Refusal>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        command(&words).map(|(path, options)| {
            assert_eq!(path, "/run/user/1000/netns/netns-1");
            judge(&options)
        })
    }

    #[test]
    fn what_podman_starts_by_itself_is_harmless() {
        judged(USUAL).unwrap().unwrap();
        judged(&USUAL.replace("/usr/bin/pasta", "pasta.avx2")).unwrap().unwrap();
    }

    #[test]
    fn one_option_that_opens_the_host_is_enough_wherever_it_stands() {
        for bad in [
            "-T 5432",
            "-T5432",
            "-U auto",
            "--tcp-ns=5432",
            "--tcp-n 5432",
            "--map-gw",
            "--map-host-loopback 10.0.0.1",
            "--no-such-option",
        ] {
            judged(&USUAL.replace("--config-net", &format!("--config-net {bad}")))
                .unwrap()
                .unwrap_err();
            judged(&format!("{USUAL} {bad}")).unwrap().unwrap_err();
        }
        judged(&USUAL.replace("--no-map-gw", "")).unwrap().unwrap_err();
    }

    #[test]
    fn other_programs_and_other_ways_to_start_pasta_are_none() {
        for other in ["", "/usr/bin/podman run", "pasta", "pasta --netns", "cat --netns /x"] {
            assert!(judged(other).is_none(), "{other}");
        }
    }
}
