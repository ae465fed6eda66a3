//! Sums, ratios and verdicts out of made-up runs.

use super::*;

fn run(round: usize, contender: Contender, rate: f64, void: Option<&str>) -> Run {
    Run {
        round,
        row: Row::Hot,
        contender,
        rate,
        answers_a_second: rate,
        p50_us: 100.0,
        p99_us: if contender == Contender::Engine { 300.0 } else { 200.0 },
        p999_us: 400.0,
        max_us: 500.0,
        server_cpu_us: 6.0,
        server_cores: 1.0,
        generator_cores: 0.9,
        others_cores: 0.0,
        stolen_cores: 0.0,
        generator_delay_us: 0,
        body_bytes: 300.0,
        acknowledged: 10,
        granted: None,
        noisy: false,
        void: void.map(str::to_owned),
    }
}

#[test]
fn ratios_are_taken_within_a_round_and_void_runs_count_nowhere() {
    let runs = [
        run(0, Contender::Noop, 100.0, None),
        run(0, Contender::Engine, 90.0, None),
        // The machine halves for a round: the ratio does not.
        run(1, Contender::Noop, 50.0, None),
        run(1, Contender::Engine, 45.0, None),
        run(2, Contender::Noop, 100.0, Some("late")),
        run(2, Contender::Engine, 10.0, None),
    ];
    let seen = ratio(&runs, Row::Hot, Figure::Rate, Contender::Engine, Contender::Noop).unwrap();
    assert_eq!((seen.median, seen.least, seen.most), (0.9, 0.9, 0.9));
    let same = |value| Some(Spread { median: value, least: value, most: value });
    assert_eq!(ratio(&runs, Row::Hot, Figure::P99, Contender::Engine, Contender::Noop), same(1.5));
    assert!(ratio(&runs, Row::Hot, Figure::Rate, Contender::Engine, Contender::Redis).is_none());
    let noop = summaries(&runs).into_iter().find(|summary| summary.contender == Contender::Noop).unwrap();
    assert_eq!((noop.runs, noop.void, noop.rate.unwrap().median), (2, 1, 75.0));
}

#[test]
fn a_goal_is_met_short_or_not_measured() {
    let runs = [run(0, Contender::Noop, 100.0, None), run(0, Contender::Engine, 90.0, None)];
    let rows = [
        (Figure::Rate, Contender::Noop, Wanted::AtLeast(0.85), Some(true)),
        (Figure::Rate, Contender::Noop, Wanted::AtLeast(0.95), Some(false)),
        (Figure::P99, Contender::Noop, Wanted::AtMost(1.5), Some(true)),
        (Figure::P99, Contender::Noop, Wanted::AtMost(1.4), Some(false)),
        (Figure::Rate, Contender::Redis, Wanted::AtLeast(1.0), None),
    ];
    for (figure, against, wanted, met) in rows {
        let goal = Goal { row: Row::Hot, figure, of: Contender::Engine, against: Some(against), wanted };
        assert_eq!(verdict(goal, &runs).met, met, "{figure:?} {wanted}");
    }
}

#[test]
fn medians_lie_in_the_middle() {
    assert_eq!(Spread::of(vec![]), None);
    assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).unwrap(), Spread { median: 2.0, least: 1.0, most: 3.0 });
    let four = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
    assert_eq!(four, Some(Spread { median: 2.5, least: 1.0, most: 4.0 }));
}

#[test]
fn figures_are_written_for_people() {
    let rows =
        [(0.8571, "0.86"), (99.5, "99.50"), (543.2, "543"), (1_234_567.0, "1,234,567"), (1_000.0, "1,000")];
    for (value, text) in rows {
        assert_eq!(number(value), text);
    }
}
