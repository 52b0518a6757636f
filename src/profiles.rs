//! The profiles there are: those compiled in and the user's own files.
//!
//! This is the edge to the file system; what a profile means is `policy`'s
//! affair. A user's file of the same name takes the bundled one's place whole.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::config::{Refusal, position, read_trusted};
use crate::policy::{self, MAX_PROFILE_BYTES, ProfileError, ProfileName, ProfileText, Source, description};

include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// Profiles from a user's directory and, below them, the bundled ones.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    /// The directory that holds the user's `NAME.txt`; it need not exist.
    pub user_dir: Option<PathBuf>,
}

/// One profile as `terok-shield profiles` shows it.
#[derive(Debug)]
pub struct Listing {
    /// Its name.
    pub name: ProfileName,
    /// The user's file, or nothing for a bundled profile.
    pub path: Option<PathBuf>,
    /// Whether the user's file stands in a bundled profile's place.
    pub overrides: bool,
    /// What its first comment says.
    pub description: Option<String>,
    /// How many targets it comes to, includes counted in; or why it can't be used.
    pub targets: Result<usize, ProfileError>,
}

impl Profiles {
    /// Every profile, sorted by name. A broken one is listed with its error.
    #[must_use]
    pub fn list(&self) -> Vec<Listing> {
        self.names()
            .into_iter()
            .map(|name| {
                let path = self.user_path(&name).filter(|path| path.exists());
                let text = self.read(&name).ok().flatten();
                Listing {
                    overrides: path.is_some() && bundled(&name).is_some(),
                    description: text.and_then(|t| description(&t.text).map(str::to_owned)),
                    targets: policy::load(std::slice::from_ref(&name), self).map(|entries| entries.len()),
                    path,
                    name,
                }
            })
            .collect()
    }

    fn user_path(&self, name: &ProfileName) -> Option<PathBuf> {
        let directory = self.user_dir.as_ref()?;
        Some(directory.join(format!("{name}.txt")))
    }

    fn read_user(&self, name: &ProfileName) -> Result<Option<ProfileText>, ProfileError> {
        let Some(path) = self.user_path(name) else {
            return Ok(None);
        };
        let file = path.display().to_string();
        let bytes = match read_trusted(&path, MAX_PROFILE_BYTES) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => bytes,
            Err(refusal) => {
                return Err(match refusal {
                    Refusal::NotRegular => ProfileError::NotRegular { file },
                    Refusal::TooLarge => ProfileError::TooLarge { file },
                    Refusal::Untrusted(reason) => ProfileError::Untrusted { file, reason },
                    Refusal::Directory { path, reason } => ProfileError::Untrusted { file: path, reason },
                    Refusal::Io(source) => ProfileError::Read { file, source },
                });
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(ProfileText {
                file,
                text: Cow::Owned(text),
            })),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let (line, column) = position(&String::from_utf8_lossy(error.as_bytes()), valid);
                Err(ProfileError::Line {
                    file,
                    line: u32::try_from(line).unwrap_or(u32::MAX),
                    column,
                    expected: "UTF-8 text".to_owned(),
                })
            }
        }
    }
}

fn bundled(name: &ProfileName) -> Option<&'static str> {
    BUNDLED
        .binary_search_by_key(&name.as_str(), |(name, _)| name)
        .ok()
        .map(|index| BUNDLED[index].1)
}

impl Source for Profiles {
    fn read(&self, name: &ProfileName) -> Result<Option<ProfileText>, ProfileError> {
        if let Some(text) = self.read_user(name)? {
            return Ok(Some(text));
        }
        Ok(bundled(name).map(|text| ProfileText {
            file: format!("bundled profile {name}"),
            text: Cow::Borrowed(text),
        }))
    }

    fn names(&self) -> BTreeSet<ProfileName> {
        let own = self
            .user_dir
            .iter()
            .filter_map(|directory| fs::read_dir(directory).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| file.strip_suffix(".txt")?.parse().ok());
        BUNDLED
            .iter()
            .filter_map(|(name, _)| name.parse().ok())
            .chain(own)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with_files(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Profiles) {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        for (name, content) in files {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
        let profiles = Profiles {
            user_dir: Some(directory.path().to_owned()),
        };
        (directory, profiles)
    }

    fn name(text: &str) -> ProfileName {
        text.parse().unwrap()
    }

    fn error(profiles: &Profiles, profile: &str) -> String {
        policy::load(&[name(profile)], profiles).unwrap_err().to_string()
    }

    #[test]
    fn every_bundled_profile_parses_and_says_what_it_is_for() {
        let listed = Profiles::default().list();
        let names: Vec<&str> = listed.iter().map(|listing| listing.name.as_str()).collect();
        assert_eq!(names, ["base", "dev-node", "dev-python", "dev-standard", "nvidia-hpc"]);
        for listing in listed {
            assert!(listing.description.is_some(), "{}", listing.name);
            assert!(listing.path.is_none() && !listing.overrides);
            assert!(listing.targets.unwrap() > 0, "{}", listing.name);
        }
    }

    #[test]
    fn bundled_profiles_hold_names_with_ports_and_something_to_look_up_ahead_of_time() {
        use policy::{Destination, Ports, Scope};
        for (profile, text) in BUNDLED {
            for line in policy::parse(profile, text).unwrap() {
                let policy::Statement::Target(target) = line.statement else {
                    continue;
                };
                let Destination::Name(pattern) = &target.destination else {
                    panic!("{profile}:{}: {target} is no name", line.number);
                };
                assert_ne!(pattern.scope, Scope::Below, "{profile}: {target}");
                assert_ne!(target.ports, Ports::All, "{profile}: {target}");
            }
        }
    }

    #[test]
    fn the_bundled_table_is_sorted_and_its_names_are_valid() {
        assert!(BUNDLED.windows(2).all(|w| w[0].0 < w[1].0));
        for (name, _) in BUNDLED {
            assert!(bundled(&name.parse().unwrap()).is_some());
        }
    }

    #[test]
    fn a_users_file_takes_a_bundled_profiles_place() {
        let (_directory, profiles) = with_files(&[
            ("base.txt", b"# mine\nexample.com:443\n"),
            ("work.txt", b"@base\n=intranet.example.com\n"),
            ("Not-A-Name.txt", b""),
            ("notes.md", b""),
        ]);
        let entries = policy::load(&[name("work")], &profiles).unwrap();
        let shown: Vec<String> = entries.iter().map(|e| e.target.to_string()).collect();
        assert_eq!(shown, ["example.com:443", "=intranet.example.com"]);
        let listed = profiles.list();
        assert_eq!(listed.len(), 6);
        let base = &listed[0];
        assert!(base.overrides && base.path.is_some());
        assert_eq!(base.description.as_deref(), Some("mine"));
        assert!(!listed[5].overrides && listed[5].path.is_some());
    }

    #[test]
    fn a_broken_file_is_an_error_with_its_place_and_does_not_fall_back_to_the_bundled_one() {
        let (directory, profiles) = with_files(&[("base.txt", b"\n example.com:0"), ("latin.txt", b"# ok\n# \xe4")]);
        let path = directory.path().join("base.txt").display().to_string();
        assert_eq!(
            error(&profiles, "base"),
            format!("{path}:2:14: expected a port from 1 to 65535")
        );
        assert!(error(&profiles, "latin").ends_with("latin.txt:2:3: expected UTF-8 text"));
        assert!(profiles.list()[0].targets.is_err());
    }

    #[test]
    fn a_file_that_is_no_regular_file_or_writable_by_others_is_refused() {
        let (directory, profiles) = with_files(&[("open.txt", b"example.com")]);
        let path = directory.path().join("open.txt");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        assert!(error(&profiles, "open").contains("open.txt: writable by others"));
        fs::create_dir(directory.path().join("base.txt")).unwrap();
        assert!(error(&profiles, "base").ends_with("must be a regular file; replace it"));
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let (_directory, profiles) = with_files(&[("large.txt", &vec![b'\n'; MAX_PROFILE_BYTES + 1])]);
        assert!(error(&profiles, "large").contains("larger than 16 MiB"));
    }

    #[test]
    fn a_directory_that_does_not_exist_leaves_the_bundled_profiles() {
        let profiles = Profiles {
            user_dir: Some("/nonexistent/profiles".into()),
        };
        assert_eq!(profiles.list().len(), BUNDLED.len());
        assert!(error(&profiles, "dev-pythn").contains("did you mean dev-python"));
    }
}
