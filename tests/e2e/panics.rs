//! Failed assertions as the message of a failed test: once, with their place, and not on the terminal meanwhile.

use std::cell::RefCell;
use std::panic::{catch_unwind, set_hook, take_hook};

use libtest_mimic::Failed;

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on the tests' threads note where they panic instead of printing it.
pub fn keep_quiet() {
    let usual = take_hook();
    set_hook(Box::new(move |info| {
        let is_main = std::thread::current().name() == Some("main");
        if is_main {
            usual(info);
        } else {
            LAST.set(Some(info.to_string()));
        }
    }));
}

/// Runs a test, and tells where and why it failed.
pub fn told(test: fn()) -> Result<(), Failed> {
    catch_unwind(test).map_err(|_| LAST.take().unwrap_or_else(|| "panicked".to_owned()).into())
}
