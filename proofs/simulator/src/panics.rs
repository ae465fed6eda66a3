//! Panics of the world: heard, kept quiet, and reported as what they are, a failure, unless they were on purpose.

use std::cell::RefCell;
use std::sync::Once;

/// What a panic on purpose says.
const ON_PURPOSE: &str = "poisoned on purpose";

thread_local! {
    static HEARD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on this thread's panics are heard instead of printed.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let heard = HEARD.with_borrow_mut(|heard| match heard {
                Some(heard) => {
                    let text = info.to_string();
                    if !text.contains(ON_PURPOSE) {
                        heard.push(text);
                    }
                    true
                }
                None => false,
            });
            if !heard {
                before(info);
            }
        }));
    });
    HEARD.set(Some(Vec::new()));
}

/// Panics on purpose, in whoever's turn this is.
pub fn on_purpose() -> ! {
    panic!("{ON_PURPOSE}")
}

/// Takes the panics heard since the last call, those on purpose apart.
pub fn take() -> Vec<String> {
    HEARD.with_borrow_mut(|heard| heard.as_mut().map(std::mem::take).unwrap_or_default())
}

/// This thread's panics are printed again.
pub fn stop_listening() {
    HEARD.set(None);
}
