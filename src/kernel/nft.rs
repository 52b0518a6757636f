//! libnftables: one context, documents in, listings out. The only caller of `nftables_sys`.

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;

use serde_json::Value;

use super::KernelError;

/// How much of the ruleset a listing holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything but the elements of sets. Cheap whatever the sets hold.
    Terse,
    /// Elements too. On libnftables 1.0.6 this costs about 1.6 s beside 100,000 elements.
    Full,
}

/// Room for libnftables' own words in an error message.
const MESSAGE_LIMIT: usize = 400;

/// A libnftables context. It belongs to the network namespace in which it was made: its netlink socket stays there.
///
/// libnftables 1.0.6 aborts when two contexts of one process list at once, so a process makes one at a time; the
/// type is neither `Send` nor `Sync`.
#[derive(Debug)]
pub struct Nft {
    context: NonNull<nftables_sys::nft_ctx>,
}

impl Nft {
    /// Makes a context in the current network namespace, with JSON in and out.
    pub fn new() -> Result<Self, KernelError> {
        // SAFETY: takes a flag word; returns a context that we own, or null.
        let context = unsafe { nftables_sys::nft_ctx_new(nftables_sys::NFT_CTX_DEFAULT) };
        let context = NonNull::new(context).ok_or_else(|| KernelError::Refused {
            message: "libnftables could not open its netlink socket".to_owned(),
        })?;
        let this = Self { context };
        this.flags(Detail::Full);
        // SAFETY: the context is alive; buffering keeps libnftables away from our standard output.
        let output = unsafe { nftables_sys::nft_ctx_buffer_output(this.context.as_ptr()) };
        // SAFETY: the same context; buffering keeps libnftables away from our standard error.
        let error = unsafe { nftables_sys::nft_ctx_buffer_error(this.context.as_ptr()) };
        if output != 0 || error != 0 {
            return Err(KernelError::Refused {
                message: "libnftables has no memory for its buffers".to_owned(),
            });
        }
        Ok(this)
    }

    /// Applies a document, all of it or nothing. `document` must be JSON made by serde: libnftables falls back to its
    /// native grammar for anything else.
    pub fn apply(&mut self, document: &str) -> Result<(), KernelError> {
        self.flags(Detail::Full);
        self.run(document).map(|_| ())
    }

    /// The table `family name` as the kernel has it, elements included, exactly as libnftables prints it.
    pub fn list_table(&mut self, family: &str, name: &str) -> Result<String, KernelError> {
        self.flags(Detail::Full);
        let command = serde_json::json!({
            "nftables": [{"list": {"table": {"family": family, "name": name}}}]
        });
        self.run(&command.to_string())
    }

    /// One set as the kernel has it, elements included, parsed.
    pub fn list_set(&mut self, family: &str, table: &str, name: &str) -> Result<Value, KernelError> {
        self.flags(Detail::Full);
        let command = serde_json::json!({
            "nftables": [{"list": {"set": {"family": family, "table": table, "name": name}}}]
        });
        parsed(&self.run(&command.to_string())?)
    }

    /// The whole ruleset of this namespace, parsed. On libnftables 1.0.6 a terse listing of the ruleset is cheap and
    /// one of a table is not (it dumps all elements to leave them out).
    pub fn list_ruleset(&mut self, detail: Detail) -> Result<Value, KernelError> {
        self.flags(detail);
        parsed(&self.run(r#"{"nftables":[{"list":{"ruleset":null}}]}"#)?)
    }

    fn flags(&self, detail: Detail) {
        // NUMERIC_PRIO: priorities as integers, so that 0 does not come back as "filter" in some versions.
        let mut flags = nftables_sys::NFT_CTX_OUTPUT_JSON | nftables_sys::NFT_CTX_OUTPUT_NUMERIC_PRIO;
        if detail == Detail::Terse {
            flags |= nftables_sys::NFT_CTX_OUTPUT_TERSE;
        }
        // SAFETY: the context is alive as long as `self`.
        unsafe { nftables_sys::nft_ctx_output_set_flags(self.context.as_ptr(), flags) };
    }

    fn run(&mut self, command: &str) -> Result<String, KernelError> {
        let command = CString::new(command).map_err(|_| KernelError::Refused {
            message: "the document holds a NUL byte".to_owned(),
        })?;
        // SAFETY: the context is alive and used by one thread; the string is NUL-terminated and outlives the call.
        let status = unsafe { nftables_sys::nft_run_cmd_from_buffer(self.context.as_ptr(), command.as_ptr()) };
        // Both buffers are taken each time: what one command leaves would stand before the next one's words.
        // SAFETY: the context is alive and its output is buffered.
        let output = unsafe { nftables_sys::nft_ctx_get_output_buffer(self.context.as_ptr()) };
        // SAFETY: the pointer is null or a C string that stands until the next call on this context; copied at once.
        let output = unsafe { copied(output) };
        // SAFETY: the context is alive and its errors are buffered.
        let error = unsafe { nftables_sys::nft_ctx_get_error_buffer(self.context.as_ptr()) };
        // SAFETY: as with the output.
        let error = unsafe { copied(error) };
        if status == 0 {
            return Ok(output);
        }
        Err(KernelError::Refused {
            message: one_line(&error),
        })
    }
}

impl Drop for Nft {
    fn drop(&mut self) {
        // SAFETY: made by nft_ctx_new, freed once, not used afterwards.
        unsafe { nftables_sys::nft_ctx_free(self.context.as_ptr()) };
    }
}

fn parsed(text: &str) -> Result<Value, KernelError> {
    serde_json::from_str(text).map_err(|error| KernelError::Answer {
        message: error.to_string(),
    })
}

/// Copies a C string.
///
/// # Safety
///
/// `text` is null or points to a NUL-terminated string that does not change during the call.
unsafe fn copied(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and NUL-terminated by the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// libnftables' messages span lines (the command, a line of carets); the first line says what is wrong.
fn one_line(text: &str) -> String {
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("it gave no reason");
    let line = line.strip_prefix("internal:0:0-0: ").unwrap_or(line);
    line.chars().take(MESSAGE_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_message_of_many_lines_becomes_its_first() {
        assert_eq!(
            one_line("\ninternal:0:0-0: Error: File exists\n\n^^^^\n"),
            "Error: File exists"
        );
        assert_eq!(one_line(""), "it gave no reason");
    }
}
