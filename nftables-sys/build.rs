//! Finds libnftables and, with the feature `bindgen`, makes the bindings anew from the installed header.
//!
//! `NFTABLES_SYS_LIB_DIR` names a directory that holds `libnftables.so` and is used in place of pkg-config,
//! for cross builds and unpackaged libraries; `NFTABLES_SYS_INCLUDE_DIR` likewise for the header.

use std::env;
use std::path::PathBuf;

/// 1.0.6 is what Debian 12 ships and the oldest release that the main crate is tested with.
const MINIMUM: &str = "1.0.6";

fn main() {
    println!("cargo:rerun-if-env-changed=NFTABLES_SYS_LIB_DIR");
    println!("cargo:rerun-if-env-changed=NFTABLES_SYS_INCLUDE_DIR");
    let mut include: Vec<PathBuf> = env::var_os("NFTABLES_SYS_INCLUDE_DIR")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    if let Some(dir) = env::var_os("NFTABLES_SYS_LIB_DIR") {
        println!("cargo:rustc-link-search=native={}", PathBuf::from(dir).display());
        println!("cargo:rustc-link-lib=dylib=nftables");
    } else {
        match pkg_config::Config::new().atleast_version(MINIMUM).probe("libnftables") {
            Ok(library) => include.extend(library.include_paths),
            Err(error) => {
                eprintln!(
                    "libnftables {MINIMUM} or newer was not found ({error}); \
                     install libnftables-dev and pkg-config, or set NFTABLES_SYS_LIB_DIR"
                );
                std::process::exit(1);
            }
        }
    }
    generate(&include);
}

#[cfg(not(feature = "bindgen"))]
fn generate(_include: &[PathBuf]) {}

#[cfg(feature = "bindgen")]
fn generate(include: &[PathBuf]) {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-changed=src/generate.rs");
    generator::bindings(include)
        .expect("bindgen could not read nftables/libnftables.h")
        .write_to_file(out.join("bindings.rs"))
        .expect("OUT_DIR is writable");
}

#[cfg(feature = "bindgen")]
#[path = "src/generate.rs"]
mod generator;
