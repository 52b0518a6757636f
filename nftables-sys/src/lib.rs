//! Bindings to libnftables (`nftables/libnftables.h`, 1.0.6 or newer). Nothing here is safe code; the safe door
//! stands in the main crate's `kernel` room.
//!
//! The committed `bindings.rs` was made by bindgen from libnftables 1.0.6's header and serves every newer
//! release: the library's ABI only grows. The feature `bindgen` makes them anew from the installed header.
#![no_std]
#![allow(unsafe_code, non_camel_case_types, non_upper_case_globals, non_snake_case)]
#![allow(clippy::all, missing_docs)]

mod libc_file {
    /// C's `FILE`: opaque, only ever handled by pointer.
    #[repr(C)]
    pub struct FILE {
        _private: [u8; 0],
    }
}

#[cfg(not(feature = "bindgen"))]
include!("bindings.rs");
#[cfg(feature = "bindgen")]
include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
