//! Idempotency keys as Stripe documents them: the first answer is kept once execution began, failures included, for a day.

use std::collections::{HashMap, VecDeque};

use crate::failure::Failure;

/// How long a key is kept: "at least 24 hours".
const KEPT_MS: u64 = 24 * 60 * 60 * 1_000;

/// Longest key.
const KEY_BYTES_MAX: usize = 255;

/// An answer that was given.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// The request that was answered first.
    pub(crate) request: String,
}

#[derive(Debug)]
struct Entry {
    path: String,
    parameters: String,
    /// `None` while the first request runs.
    answer: Option<Kept>,
}

/// What a key says about a request.
#[derive(Debug)]
pub(crate) enum Claim {
    /// It is the first one.
    Run,
    /// It was answered.
    Replay(Kept),
}

/// Every key of the last day.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    entries: HashMap<String, Entry>,
    /// Keys by the time of their first use.
    ages: VecDeque<(u64, String)>,
}

impl Keys {
    /// Claims the key for a request, or says what became of the one that had it.
    pub(crate) fn claim(
        &mut self,
        key: &str,
        path: &str,
        parameters: &str,
        now_ms: u64,
    ) -> Result<Claim, Failure> {
        self.forget(now_ms);
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            let said = format!("Idempotency keys have 1 to {KEY_BYTES_MAX} characters.");
            return Err(Failure::new(400, "idempotency_error", said));
        }
        let Some(entry) = self.entries.get(key) else {
            let entry = Entry { path: path.to_owned(), parameters: parameters.to_owned(), answer: None };
            self.entries.insert(key.to_owned(), entry);
            self.ages.push_back((now_ms, key.to_owned()));
            return Ok(Claim::Run);
        };
        if entry.path != path {
            let said = format!(
                "Keys for idempotent requests can only be used for the same endpoint they were first used for \
                 ('{}' vs '{path}'). Try using a key other than '{key}' if you meant to execute a different request.",
                entry.path
            );
            return Err(Failure::new(400, "idempotency_error", said));
        }
        if entry.parameters != parameters {
            let said = format!(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. \
                 Try using a key other than '{key}' if you meant to execute a different request."
            );
            return Err(Failure::new(400, "idempotency_error", said));
        }
        match &entry.answer {
            Some(kept) => Ok(Claim::Replay(kept.clone())),
            None => {
                let said = format!(
                    "There is currently another in-progress request using this Idempotent Key (that probably means \
                     you submitted twice, and the other request is still going through): {key}."
                );
                let mut failure = Failure::new(409, "idempotency_error", said);
                failure.code = Some("idempotency_key_in_use".to_owned());
                Err(failure)
            }
        }
    }

    /// Keeps the answer, or frees the key where nothing was begun.
    pub(crate) fn finish(&mut self, key: &str, answer: Option<Kept>) {
        match answer {
            None => drop(self.entries.remove(key)),
            Some(answer) => {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.answer = Some(answer);
                }
            }
        }
    }

    /// Forgets keys older than a day, but none whose request still runs.
    fn forget(&mut self, now_ms: u64) {
        while let Some((since_ms, key)) = self.ages.front() {
            if since_ms.saturating_add(KEPT_MS) > now_ms {
                return;
            }
            if self.entries.get(key).is_some_and(|entry| entry.answer.is_none()) {
                return;
            }
            self.entries.remove(key);
            self.ages.pop_front();
        }
    }
}
