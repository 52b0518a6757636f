//! Holds the committed bindings and the installed header together.

#[path = "../src/generate.rs"]
mod generate;

use std::path::PathBuf;

/// Items that both sides must agree on: every declaration the committed file has must come out of the installed
/// header in the same words, however they are laid out. A newer header may add to them.
fn declarations(text: &str) -> Vec<String> {
    let words: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    words
        .replace(",)", ")")
        .replace("unsafeextern\"C\"{", "")
        .split_inclusive([';', '}'])
        .map(str::to_owned)
        .collect()
}

fn generated() -> String {
    let include: Vec<PathBuf> = std::env::var_os("NFTABLES_SYS_INCLUDE_DIR")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    generate::bindings(&include)
        .expect("bindgen reads the installed header (needs libclang and libnftables-dev)")
        .to_string()
}

#[test]
fn committed_bindings_agree_with_the_installed_header() {
    let generated = generated();
    if std::env::var_os("UPDATE_BINDINGS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/bindings.rs"), &generated).unwrap();
    }
    let committed = include_str!("../src/bindings.rs");
    let fresh = declarations(&generated);
    let missing: Vec<_> = declarations(committed)
        .into_iter()
        .filter(|item| !fresh.contains(item))
        .collect();
    assert!(missing.is_empty(), "not in the installed header any more: {missing:#?}");
    assert!(committed.contains("pub fn nft_run_cmd_from_buffer("));
}

#[test]
fn a_context_can_be_made_and_freed() {
    // SAFETY: a context made by nft_ctx_new is freed once and not used afterwards.
    unsafe {
        let context = nftables_sys::nft_ctx_new(nftables_sys::NFT_CTX_DEFAULT);
        assert!(!context.is_null());
        nftables_sys::nft_ctx_free(context);
    }
}
