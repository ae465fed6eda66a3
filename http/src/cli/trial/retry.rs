//! Retries without end: every acknowledged request of a ledger is sent again and again, also while the engine is killed
//! and started, and must be answered with the same bytes each time (law 5).
//!
//! Start at [`run`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Value, json};

use super::book::Book;
use super::judge::unlike;
use crate::cli::replay::bar;
use crate::client::{Client, Failure};

/// What the retries came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Retries that were answered.
    pub answered: u64,
    /// Attempts that nobody answered, and which were sent again.
    pub unanswered: u64,
    /// Milliseconds it took.
    pub took_ms: u64,
    /// Answers that changed.
    pub violations: Vec<String>,
}

impl Retried {
    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "retries": self.answered, "unanswered": self.unanswered, "took_ms": self.took_ms,
            "retries_per_s": self.answered * 1000 / self.took_ms.max(1),
            "changed": self.violations.len(), "violations": self.violations,
        })
    }
}

/// Sends `times` retries of what `book` has, `concurrency` at once.
pub async fn run(client: &Client, book: Book, times: u64, concurrency: u32) -> Result<Retried, Failure> {
    let begun = Instant::now();
    let bar = bar(times, "retrying {bar:30} {human_pos} of {human_len}, {per_sec}");
    let (book, next, violations) =
        (Rc::new(book), Rc::new(Cell::new(0_u64)), Rc::<RefCell<Vec<String>>>::default());
    let failed: Rc<RefCell<Option<Failure>>> = Rc::default();
    let senders = (0..concurrency).map(|_| {
        let (client, book, next, bar) = (client.clone(), Rc::clone(&book), Rc::clone(&next), bar.clone());
        let (violations, failed) = (Rc::clone(&violations), Rc::clone(&failed));
        actix_rt::spawn(async move {
            while next.get() < times && failed.borrow().is_none() {
                let number = next.replace(next.get() + 1);
                let place = usize::try_from(number).unwrap_or(usize::MAX) % book.answered.len();
                let answered = &book.answered[place];
                let answer = match answered.request.call(&client, "retry") {
                    Ok(call) => call.send().await,
                    Err(failure) => Err(failure),
                };
                match answer {
                    Ok(answer) => violations.borrow_mut().extend(unlike(answered, &answer)),
                    Err(failure) => drop(failed.borrow_mut().get_or_insert(failure)),
                }
                bar.inc(1);
            }
        })
    });
    if book.answered.is_empty() {
        return Err(Failure::Unexpected {
            what: "the ledger".to_owned(),
            status: 0,
            excerpt: "it acknowledges nothing that could be sent again".to_owned(),
        });
    }
    futures_util::future::join_all(senders).await;
    bar.finish_and_clear();
    if let Some(failure) = failed.borrow_mut().take() {
        return Err(failure);
    }
    let violations = violations.borrow().clone();
    Ok(Retried {
        answered: times,
        unanswered: client.tally().faults(),
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        violations,
    })
}
