//! Figures read off the metrics page, where every room puts them. What is not there is not configured, or has not happened.

/// A metrics page, line by line.
pub(super) struct Page<'a>(&'a str);

impl<'a> Page<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Labels and value of every series of exactly this name.
    pub(super) fn series(&self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.parts(name, "")
    }

    /// The same of a part of a histogram, by its ending.
    fn parts(&self, name: &'a str, ending: &'static str) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?.strip_prefix(ending)?;
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            Some((labels, value.trim().parse().ok()?))
        })
    }

    /// Its only value, or the sum of all; `None` where there is none.
    pub(super) fn sum(&self, name: &'a str) -> Option<f64> {
        self.series(name).map(|(_, value)| value).reduce(|sum, value| sum + value)
    }

    /// The sum of those with this label.
    pub(super) fn sum_where(&self, name: &'a str, label: &str) -> f64 {
        self.series(name).filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
    }

    /// How often something came into a histogram.
    pub(super) fn observations(&self, name: &'a str) -> u64 {
        whole(self.parts(name, "_count").map(|(_, value)| value).sum())
    }

    /// A histogram with this label: upper edges in seconds and how many are at most so long.
    pub(super) fn buckets(&self, name: &'a str, label: &str) -> Vec<(f64, u64)> {
        let series = self.parts(name, "_bucket").filter(|(labels, _)| labels.contains(label));
        let edge = |(labels, count): (&str, f64)| {
            let edge = labels.split(',').find_map(|pair| pair.strip_prefix("le=\""))?.strip_suffix('"')?;
            let edge = if edge == "+Inf" { f64::INFINITY } else { edge.parse().ok()? };
            Some((edge, whole(count)))
        };
        series.filter_map(edge).collect()
    }
}

/// A count that went through a float.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are far below 2^52")]
pub(super) fn whole(value: f64) -> u64 {
    value.max(0.0).round() as u64
}

/// A quantile of what came into a histogram between two looks, in microseconds; within its bucket as if evenly spread.
pub(super) fn quantile_us(now: &[(f64, u64)], before: &[(f64, u64)], part: f64) -> Option<u64> {
    let earlier = |edge: f64| {
        // The last edge is infinite, which has no distance to itself.
        before.iter().find(|(known, _)| known.total_cmp(&edge).is_eq()).map_or(0, |(_, count)| *count)
    };
    let rise: Vec<(f64, u64)> =
        now.iter().map(|(edge, count)| (*edge, count.saturating_sub(earlier(*edge)))).collect();
    let total = rise.last()?.1;
    if total == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of ten seconds")]
    let rank = part * total as f64;
    let (mut low_edge, mut low_count) = (0.0, 0.0);
    for (edge, count) in rise {
        #[expect(clippy::cast_precision_loss, reason = "counts of ten seconds")]
        let count = count as f64;
        if count >= rank {
            // Beyond the last edge nobody knows more than that.
            let inside = if edge.is_infinite() {
                0.0
            } else {
                (edge - low_edge) * (rank - low_count) / (count - low_count).max(1.0)
            };
            return Some(whole((low_edge + inside) * 1e6));
        }
        (low_edge, low_count) = (edge, count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP doorbuster_lag_seconds how late
# TYPE doorbuster_lag_seconds gauge
doorbuster_lag_seconds 1.5
doorbuster_lag_seconds_other 9
doorbuster_value_total{currency=\"GBP\"} 1999
doorbuster_value_total{currency=\"EUR\"} 500
doorbuster_append_bucket{phase=\"sync\",le=\"0.001\"} 10
doorbuster_append_bucket{phase=\"sync\",le=\"0.01\"} 20
doorbuster_append_bucket{phase=\"sync\",le=\"+Inf\"} 20
doorbuster_append_bucket{phase=\"write\",le=\"+Inf\"} 99
doorbuster_append_count{phase=\"sync\"} 20
doorbuster_append_count{phase=\"write\"} 99
";

    #[test]
    fn figures_are_found_by_name_and_label() {
        let page = Page::new(TEXT);
        assert_eq!(page.sum("doorbuster_lag_seconds"), Some(1.5), "a longer name is another metric");
        assert_eq!(page.sum("doorbuster_value_total"), Some(2_499.0));
        assert!(
            (page.sum_where("doorbuster_value_total", "currency=\"GBP\"") - 1_999.0).abs() < f64::EPSILON
        );
        assert_eq!(page.observations("doorbuster_append"), 119);
        assert_eq!(page.sum("doorbuster_projection_lag_seconds"), None, "not configured");
        assert_eq!(
            page.buckets("doorbuster_append", "phase=\"sync\""),
            [(0.001, 10), (0.01, 20), (f64::INFINITY, 20)]
        );
    }

    #[test]
    fn a_quantile_is_of_what_came_since() {
        let check = |label: &str, now: &[(f64, u64)], before: &[(f64, u64)], part, expected| {
            assert_eq!(quantile_us(now, before, part), expected, "{label}");
        };
        let now = [(0.001, 10), (0.01, 20), (f64::INFINITY, 20)];
        check("from the beginning", &now, &[], 0.5, Some(1_000));
        check("half into the second bucket", &now, &[], 0.75, Some(5_500));
        check("since a look", &now, &[(0.001, 10), (0.01, 10), (f64::INFINITY, 10)], 0.5, Some(5_500));
        check("nothing came", &now, &now, 0.5, None);
        check("no such histogram", &[], &[], 0.5, None);
        check("beyond the last edge", &[(0.001, 0), (f64::INFINITY, 5)], &[], 0.99, Some(1_000));
    }
}
