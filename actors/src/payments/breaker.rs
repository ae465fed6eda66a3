//! Whether a provider is worth asking: after some failures in a row it is left alone for a while, then tried with one call.
//!
//! Pure: time is handed in. The states are those of the pattern everywhere: closed (ask), open (leave alone), half open (one
//! call finds out).

use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row after which a provider is left alone. One or two are a bad connection; five in a row, over all
/// shoppers, are an outage.
const FAILURES_MAX: u32 = 5;

/// How long it is left alone at first. A provider that blinks is back by then, and a shopper's retry too.
const REST_FIRST: Duration = Duration::from_secs(2);

/// How long at most: what an outage's end may cost in orders that wait.
const REST_MAX: Duration = Duration::from_secs(30);

/// See the module's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Breaker {
    failures: u32,
    /// Left alone until then.
    open_until: Option<Instant>,
    /// How long it was left alone last.
    rest: Duration,
    /// Since when one call tries it; whoever made that call answers for it, or is forgotten after [`REST_MAX`].
    trying: Option<Instant>,
}

/// What the breaker says to somebody who wants to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Go ahead.
    Ask,
    /// Not before then.
    Wait(Instant),
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { failures: 0, open_until: None, rest: REST_FIRST, trying: None }
    }

    /// Whether all is well, as far as is known.
    pub(crate) fn is_closed(&self) -> bool {
        self.open_until.is_none()
    }

    /// Asks for leave to make a call, and takes it: half open, the first who asks is the one that tries.
    pub(crate) fn leave(&mut self, now: Instant) -> Leave {
        let leave = self.would(now);
        if leave == Leave::Ask && self.open_until.is_some() {
            self.trying = Some(now);
        }
        leave
    }

    /// What [`Self::leave`] would say, without taking it.
    pub(crate) fn would(&self, now: Instant) -> Leave {
        let Some(until) = self.open_until else { return Leave::Ask };
        if now < until {
            return Leave::Wait(until);
        }
        match self.trying.map(|since| later(since, REST_MAX)) {
            // Somebody tries it at this moment.
            Some(forgotten) if now < forgotten => Leave::Wait(later(now, REST_FIRST).min(forgotten)),
            Some(_) | None => Leave::Ask,
        }
    }

    /// A call was answered, whatever the answer said. Tells whether the breaker was open until now.
    pub(crate) fn succeed(&mut self) -> bool {
        let was_open = self.open_until.is_some();
        *self = Self::new();
        was_open
    }

    /// A call was not answered, or by an error that says nothing. Tells whether the breaker opens by it.
    pub(crate) fn fail(&mut self, now: Instant) -> bool {
        if self.open_until.is_some() {
            // Calls from before it opened may still come home; only the one that tries it counts.
            if self.trying.take().is_some() {
                self.rest = self.rest.saturating_mul(2).min(REST_MAX);
                self.open_until = Some(later(now, self.rest));
            }
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return false;
        }
        self.rest = REST_FIRST;
        self.open_until = Some(later(now, self.rest));
        true
    }
}

fn later(at: Instant, by: Duration) -> Instant {
    at.checked_add(by).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script of `ms op` lines: `ask` takes leave, `ok` and `fail` report a call; each expects what it says.
    fn check(script: &str) {
        let start = Instant::now();
        let mut breaker = Breaker::new();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let mut words = line.split_whitespace();
            let ms: u64 = words.next().unwrap().parse().unwrap();
            let now = start + Duration::from_millis(ms);
            let (op, expected) = (words.next().unwrap(), words.next().unwrap());
            let said = match op {
                "ask" => match breaker.leave(now) {
                    Leave::Ask => "go".to_owned(),
                    Leave::Wait(until) => format!("wait_{}", (until - start).as_millis()),
                },
                "ok" => if breaker.succeed() { "closes" } else { "-" }.to_owned(),
                "fail" => if breaker.fail(now) { "opens" } else { "-" }.to_owned(),
                _ => panic!("no such op: {op}"),
            };
            assert_eq!(said, expected, "{line}");
        }
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_success_between_does_not_count_them() {
        check(
            "0 fail -
             0 fail -
             0 fail -
             0 fail -
             0 ok   -
             0 fail -
             0 fail -
             0 fail -
             0 fail -
             5 fail opens
             6 ask  wait_2005",
        );
    }

    #[test]
    fn one_call_tries_it_and_its_failure_doubles_the_rest_up_to_the_longest() {
        check(
            "0     fail -
             0     fail -
             0     fail -
             0     fail -
             0     fail opens
             1     fail -
             2000  ask  go
             2000  ask  wait_4000
             2500  fail -
             2500  ask  wait_6500
             6500  ask  go
             6500  fail -
             6501  ask  wait_14500
             14500 ask  go
             14500 fail -
             30500 ask  go
             30500 fail -
             30501 ask  wait_60500
             60500 ask  go
             60500 fail -
             60501 ask  wait_90500",
        );
    }

    #[test]
    fn an_answer_closes_it_and_a_try_that_is_never_reported_is_forgotten() {
        check(
            "0     fail -
             0     fail -
             0     fail -
             0     fail -
             0     fail opens
             2000  ask  go
             31999 ask  wait_32000
             32000 ask  go
             32001 ok   closes
             32001 ask  go
             32001 ask  go",
        );
    }
}
