//! Collects the bundled profiles into one generated table, so that adding a
//! file to `profiles/` is all it takes to ship it.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let profiles = root.join("profiles");
    println!("cargo::rerun-if-changed=build.rs");
    // The directory for files that come and go, each file for its content.
    println!("cargo::rerun-if-changed=profiles");

    let mut found = Vec::new();
    for entry in fs::read_dir(&profiles)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let (Some(name), Some(full)) = (path.file_stem().and_then(|s| s.to_str()), path.to_str()) else {
            return Err(format!("{}: the path is not UTF-8", path.display()).into());
        };
        println!("cargo::rerun-if-changed=profiles/{name}.txt");
        found.push((name.to_owned(), full.to_owned()));
    }
    found.sort();

    let mut table = String::from(
        "/// Name and text of each bundled profile, sorted by name.\npub static BUNDLED: &[(&str, &str)] = &[\n",
    );
    for (name, path) in &found {
        writeln!(table, "    ({name:?}, include_str!({path:?})),")?;
    }
    table.push_str("];\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("bundled.rs"), table)?;
    Ok(())
}
