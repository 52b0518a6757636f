use libc_file::FILE;

pub const NFT_CTX_DEFAULT: u32 = 0;
#[repr(C)]
#[derive(Debug)]
pub struct nft_ctx {
    _unused: [u8; 0],
}
pub const NFT_DEBUG_SCANNER: nft_debug_level = 1;
pub const NFT_DEBUG_PARSER: nft_debug_level = 2;
pub const NFT_DEBUG_EVALUATION: nft_debug_level = 4;
pub const NFT_DEBUG_NETLINK: nft_debug_level = 8;
pub const NFT_DEBUG_MNL: nft_debug_level = 16;
pub const NFT_DEBUG_PROTO_CTX: nft_debug_level = 32;
pub const NFT_DEBUG_SEGTREE: nft_debug_level = 64;
pub type nft_debug_level = ::core::ffi::c_uint;
unsafe extern "C" {
    pub fn nft_ctx_new(flags: u32) -> *mut nft_ctx;
}
unsafe extern "C" {
    pub fn nft_ctx_free(ctx: *mut nft_ctx);
}
unsafe extern "C" {
    pub fn nft_ctx_get_dry_run(ctx: *mut nft_ctx) -> bool;
}
unsafe extern "C" {
    pub fn nft_ctx_set_dry_run(ctx: *mut nft_ctx, dry: bool);
}
pub const NFT_OPTIMIZE_ENABLED: nft_optimize_flags = 1;
pub type nft_optimize_flags = ::core::ffi::c_uint;
unsafe extern "C" {
    pub fn nft_ctx_get_optimize(ctx: *mut nft_ctx) -> u32;
}
unsafe extern "C" {
    pub fn nft_ctx_set_optimize(ctx: *mut nft_ctx, flags: u32);
}
pub const NFT_CTX_OUTPUT_REVERSEDNS: _bindgen_ty_1 = 1;
pub const NFT_CTX_OUTPUT_SERVICE: _bindgen_ty_1 = 2;
pub const NFT_CTX_OUTPUT_STATELESS: _bindgen_ty_1 = 4;
pub const NFT_CTX_OUTPUT_HANDLE: _bindgen_ty_1 = 8;
pub const NFT_CTX_OUTPUT_JSON: _bindgen_ty_1 = 16;
pub const NFT_CTX_OUTPUT_ECHO: _bindgen_ty_1 = 32;
pub const NFT_CTX_OUTPUT_GUID: _bindgen_ty_1 = 64;
pub const NFT_CTX_OUTPUT_NUMERIC_PROTO: _bindgen_ty_1 = 128;
pub const NFT_CTX_OUTPUT_NUMERIC_PRIO: _bindgen_ty_1 = 256;
pub const NFT_CTX_OUTPUT_NUMERIC_SYMBOL: _bindgen_ty_1 = 512;
pub const NFT_CTX_OUTPUT_NUMERIC_TIME: _bindgen_ty_1 = 1024;
pub const NFT_CTX_OUTPUT_NUMERIC_ALL: _bindgen_ty_1 = 1920;
pub const NFT_CTX_OUTPUT_TERSE: _bindgen_ty_1 = 2048;
pub type _bindgen_ty_1 = ::core::ffi::c_uint;
unsafe extern "C" {
    pub fn nft_ctx_output_get_flags(ctx: *mut nft_ctx) -> ::core::ffi::c_uint;
}
unsafe extern "C" {
    pub fn nft_ctx_output_set_flags(ctx: *mut nft_ctx, flags: ::core::ffi::c_uint);
}
unsafe extern "C" {
    pub fn nft_ctx_output_get_debug(ctx: *mut nft_ctx) -> ::core::ffi::c_uint;
}
unsafe extern "C" {
    pub fn nft_ctx_output_set_debug(ctx: *mut nft_ctx, mask: ::core::ffi::c_uint);
}
unsafe extern "C" {
    pub fn nft_ctx_set_output(ctx: *mut nft_ctx, fp: *mut FILE) -> *mut FILE;
}
unsafe extern "C" {
    pub fn nft_ctx_buffer_output(ctx: *mut nft_ctx) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn nft_ctx_unbuffer_output(ctx: *mut nft_ctx) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn nft_ctx_get_output_buffer(ctx: *mut nft_ctx) -> *const ::core::ffi::c_char;
}
unsafe extern "C" {
    pub fn nft_ctx_set_error(ctx: *mut nft_ctx, fp: *mut FILE) -> *mut FILE;
}
unsafe extern "C" {
    pub fn nft_ctx_buffer_error(ctx: *mut nft_ctx) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn nft_ctx_unbuffer_error(ctx: *mut nft_ctx) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn nft_ctx_get_error_buffer(ctx: *mut nft_ctx) -> *const ::core::ffi::c_char;
}
unsafe extern "C" {
    pub fn nft_ctx_add_include_path(
        ctx: *mut nft_ctx,
        path: *const ::core::ffi::c_char,
    ) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn nft_ctx_clear_include_paths(ctx: *mut nft_ctx);
}
unsafe extern "C" {
    pub fn nft_ctx_add_var(
        ctx: *mut nft_ctx,
        var: *const ::core::ffi::c_char,
    ) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn nft_ctx_clear_vars(ctx: *mut nft_ctx);
}
unsafe extern "C" {
    pub fn nft_run_cmd_from_buffer(
        nft: *mut nft_ctx,
        buf: *const ::core::ffi::c_char,
    ) -> ::core::ffi::c_int;
}
unsafe extern "C" {
    pub fn nft_run_cmd_from_filename(
        nft: *mut nft_ctx,
        filename: *const ::core::ffi::c_char,
    ) -> ::core::ffi::c_int;
}
