//! The rule against a queue that is calculated, so that time is advanced and never slept.

use super::*;

/// A worker's loop, with time as its measure: what takes a second to serve is a second's work.
struct Loop {
    pressure: Pressure,
    /// What waits unread, as the work that serving it would be. Whether it is served is decided when its turn comes.
    waiting: f64,
    /// What a refusal costs of what serving costs.
    refusal: f64,
    /// Longest lag of the last stretch, in seconds.
    lag_max: f64,
}

impl Loop {
    fn new(refusal: f64) -> Self {
        Self { pressure: Pressure::new(TARGET), waiting: 0.0, refusal, lag_max: 0.0 }
    }

    /// Lets `seconds` pass in which `load` times as much arrives as could be served. Says which part of the time went
    /// into serving.
    fn pass(&mut self, seconds: f64, load: f64) -> f64 {
        let tick = TICK.as_secs_f64();
        let (mut passed, mut served) = (0.0, 0.0);
        self.lag_max = 0.0;
        while passed < seconds {
            let share = self.pressure.share(Standing::New);
            let cost = 1.0 - share + share * self.refusal;
            let arrived = self.waiting + load * tick;
            let done = arrived.min(tick / cost);
            // The look is due now, behind everything that waits.
            let lag = (arrived - done) * cost;
            served += arrived * (1.0 - share);
            self.waiting = load * lag;
            self.pressure.note(Duration::from_secs_f64(lag), Duration::from_secs_f64(tick + lag));
            self.lag_max = self.lag_max.max(lag);
            passed += tick + lag;
        }
        served / passed
    }
}

#[test]
fn who_is_in_time_refuses_nobody() {
    let mut worker = Loop::new(0.4);
    let served = worker.pass(10.0, 0.9);
    assert!((0.89..0.91).contains(&served), "{served}");
    assert!(worker.pressure.now <= 0.0 && worker.lag_max < TARGET.as_secs_f64());
}

#[test]
fn overload_is_held_at_the_target_and_forgotten_within_two_seconds() {
    // Load, cost of a refusal, and what then remains for serving: (1 - load * cost) / (1 - cost).
    for (load, refusal, remains) in [(1.2, 0.4, 0.867), (2.0, 0.3, 0.571), (2.0, 0.05, 0.947)] {
        let mut worker = Loop::new(refusal);
        worker.pass(2.0, 0.5);
        worker.pass(5.0, load);
        let served = worker.pass(10.0, load);
        assert!((served - remains).abs() < 0.03, "load {load}: {served} is served, not {remains}");
        let lag_max = worker.lag_max / TARGET.as_secs_f64();
        assert!((0.3..3.0).contains(&lag_max), "load {load}: the longest lag is {lag_max} targets");
        worker.pass(2.0, 0.5);
        assert!(worker.pressure.now <= 0.0, "load {load}: {:?}", worker.pressure);
    }
}

#[test]
fn one_long_turn_is_no_overload() {
    let mut pressure = Pressure::new(TARGET);
    for lag_ms in [0, 30_000, 10, 0, 900, 0, 30, 2_000] {
        pressure.note(Duration::from_millis(lag_ms), Duration::from_millis(lag_ms + 20));
        assert!(pressure.now <= 0.0, "{lag_ms}: {pressure:?}");
    }
    pressure.note(Duration::from_millis(200), Duration::from_millis(220));
    pressure.note(Duration::from_millis(200), Duration::from_millis(220));
    assert!(pressure.now > 0.0, "three in a row are: {pressure:?}");
}

#[test]
fn what_was_begun_goes_ahead_of_what_is_new_and_operators_ahead_of_all() {
    for (now, new, begun) in
        [(0.0, 0.0, 0.0), (0.4, 0.4, 0.0), (1.0, 1.0, 0.0), (1.5, 1.0, 0.5), (2.0, 1.0, 1.0)]
    {
        let pressure = Pressure { now, ..Pressure::new(TARGET) };
        let shares =
            [Standing::New, Standing::Begun, Standing::Always].map(|standing| pressure.share(standing));
        assert!(
            shares.iter().zip([new, begun, 0.0]).all(|(share, wanted)| (share - wanted).abs() < 1e-9),
            "{now}: {shares:?}"
        );
    }
}

#[test]
fn refusals_are_spread_by_chance_in_the_share_that_is_due() {
    let admission = Admission::new();
    admission.late.set(true);
    admission.pressure.borrow_mut().now = 0.3;
    let refused: Vec<bool> =
        (0..100_000).map(|_| admission.refusal(Standing::New, false).is_some()).collect();
    let share = |every: usize| {
        let looked_at: Vec<&bool> = refused.iter().step_by(every).collect();
        looked_at.iter().filter(|refused| ***refused).count() * 1_000 / looked_at.len()
    };
    // Also to whoever comes in turns of two, three or ten.
    for every in [1, 2, 3, 10] {
        assert!((280..=320).contains(&share(every)), "every {every}: {}", share(every));
    }
}

#[test]
fn refused_connections_rest_as_long_as_refusing_would_take_too_much() {
    let mut rest = Rest::default();
    let mut look = |served, refused| {
        (rest.served, rest.refused) = (served, refused);
        rest.pass(Rest::LOOK);
        rest.length
    };
    let ms = Duration::from_millis;
    assert_eq!(look(100, 25), Duration::ZERO, "a quarter is let pass");
    assert_eq!(look(100, 50), ms(40), "twice as many: twice as long, and a little to begin with");
    assert_eq!(look(100, 400), ms(480), "much more: at most eight times as long");
    assert_eq!(look(0, 1_000), ms(4_000));
    assert_eq!(look(0, 1_000), REST_MAX);
    assert_eq!(look(100, 1), ms(3_980), "a fifth of the time that passes");
    for _ in 0..199 {
        look(100, 0);
    }
    assert_eq!(look(0, 0), Duration::ZERO);
}

#[test]
fn nobody_rests_longer_than_he_is_told_to_wait() {
    let admission = Admission::new();
    admission.late.set(true);
    admission.pressure.borrow_mut().now = 1.0;
    for (rest_ms, drain_ms, told_ms) in
        [(0, 50, 50), (900, 50, 900), (3_000, 9_000, 9_000), (4_000, 1_000, 4_000)]
    {
        admission.rest.borrow_mut().length = Duration::from_millis(rest_ms);
        admission.retry_after_ms.set(drain_ms);
        let overload = admission.refusal(Standing::New, false).unwrap();
        assert_eq!((overload.retry_after_ms, overload.rest), (told_ms, Duration::from_millis(rest_ms)));
    }
}

#[test]
fn the_crowd_is_counted_once_a_second() {
    let mut crowd = Crowd { refused: 40, since: Duration::ZERO };
    assert_eq!(crowd.pass(Duration::from_millis(600), || 70), None);
    assert_eq!(crowd.pass(Duration::from_millis(600), || 90), Some(50));
    assert_eq!(crowd.pass(Duration::from_millis(600), || 95), None);
    assert_eq!(crowd.pass(Duration::from_secs(30), || 95), Some(5));
}
