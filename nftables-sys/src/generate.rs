//! How the bindings are made: shared by the build script (feature `bindgen`) and the ABI test, so that what
//! the test compares is what a regeneration gives.

use std::path::PathBuf;

/// Reads `nftables/libnftables.h`. `FILE` is blocked: bindgen would spell out glibc's private layout of it, and
/// nothing here touches more than a pointer to one.
pub fn bindings(include: &[PathBuf]) -> Result<bindgen::Bindings, bindgen::BindgenError> {
    let mut builder = bindgen::Builder::default()
        .header_contents("wrapper.h", "#include <nftables/libnftables.h>\n")
        .allowlist_function("nft_.*")
        .allowlist_type("nft_.*")
        .allowlist_var("NFT_.*")
        .blocklist_type("FILE|_IO_.*|__off.*")
        .raw_line("use libc_file::FILE;")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .rust_target(bindgen::RustTarget::stable(85, 0).unwrap_or_default())
        .rust_edition(bindgen::RustEdition::Edition2024)
        .use_core()
        .layout_tests(true)
        .disable_header_comment();
    for directory in include {
        builder = builder.clang_arg(format!("-I{}", directory.display()));
    }
    builder.generate()
}
