//! What a container is called: by its annotation, else as it was called before, else as Podman told its monitor, else by its
//! id.

use std::collections::BTreeMap;
use std::path::Path;

use super::Refusal;
use super::claim::Owner;
use crate::bundle;
use crate::podman::ANNOTATION_NAME;
use crate::policy::ContainerName;

/// Digits of an id that stand for a name, as Podman shows it.
const SHORT_ID: usize = 12;

/// The name that an annotation gives. One that cannot be a name is an error.
pub fn annotated(annotations: &BTreeMap<String, String>) -> Result<Option<ContainerName>, Refusal> {
    annotations
        .get(ANNOTATION_NAME)
        .map(|name| name.parse())
        .transpose()
        .map_err(|error| Refusal::new(format!("{ANNOTATION_NAME}: {error}")))
}

/// The name of the container, or of the pod, that is about to be shielded.
pub fn of(
    annotations: &BTreeMap<String, String>,
    owner: &Owner<'_>,
    state_dir: &Path,
) -> Result<ContainerName, Refusal> {
    if let Some(name) = annotated(annotations)? {
        return Ok(name);
    }
    // What the operator denied it stays denied, whether Podman has renamed it or not.
    if let Some(bundle) = bundle::owned_by(state_dir, owner.id)? {
        return Ok(bundle.name().clone());
    }
    if let Some(name) = owner.name.and_then(|name| name.parse().ok()) {
        return Ok(name);
    }
    let short: String = owner.id.chars().take(SHORT_ID).collect();
    short
        .parse()
        .map_err(|error| Refusal::new(format!("{error}; name it in the annotation {ANNOTATION_NAME}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_checked_before_it_becomes_a_path() {
        for bad in ["", "../x", "a/b", "..", "-x", "a\0b"] {
            let annotations = BTreeMap::from([(ANNOTATION_NAME.to_owned(), bad.to_owned())]);
            assert!(annotated(&annotations).is_err(), "{bad:?}");
        }
        assert_eq!(annotated(&BTreeMap::new()).unwrap(), None);
    }

    #[test]
    fn an_annotation_comes_before_podmans_name_and_that_before_the_id() {
        let state = tempfile::tempdir().unwrap();
        let named = |annotations: &[(&str, &str)], name| {
            let annotations = annotations
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            let owner = Owner {
                id: "0123456789abcdef",
                bundle: Path::new("/b"),
                name,
            };
            of(&annotations.collect(), &owner, state.path()).unwrap().to_string()
        };
        assert_eq!(named(&[(ANNOTATION_NAME, "given")], Some("podmans")), "given");
        assert_eq!(named(&[], Some("podmans")), "podmans");
        assert_eq!(named(&[], Some("../podmans")), "0123456789ab");
        assert_eq!(named(&[], None), "0123456789ab");
    }
}
