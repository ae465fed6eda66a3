//! What is limited: a TOML file, or the profile `production`.
//!
//! ```toml
//! [[limit]]
//! name = "browsing"            # told in the RateLimit headers and in metrics
//! routes = ["catalogue"]       # groups of the API's page, or single routes as "POST /v1/reservations"
//! per = "address"              # address, caller (Cart-Token or key), customer (named in a reservation), everybody
//! requests = 100
//! window_s = 60
//! burst = 100                  # how many may come at once; absent: `requests`
//! ```

use std::fmt::Write as _;

use doorbuster_outlets::limits::{Ask, Count};
use serde::Deserialize;

use crate::routes::table::{ROUTES, Route};

/// The profile that `production` names.
const PRODUCTION: &str = include_str!("production.toml");

/// Whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The client's address; of IPv6 its network.
    Address,
    /// Who shows this cart token.
    Caller,
    /// Whom a reservation is for, as its body says.
    Customer,
    /// All together.
    Everybody,
}

/// Limits in the order of their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Each of them.
    pub limits: Vec<Limit>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its name: lower-case letters, digits and `_`.
    pub name: String,
    /// Which routes, by their place in the table.
    covered: Vec<bool>,
    /// Whom it counts.
    pub subject: Subject,
    /// Requests in a window.
    pub requests: u32,
    /// The window, in seconds.
    pub window_s: u32,
    /// Requests that may come at once.
    pub burst: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    limit: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    routes: Vec<String>,
    per: Subject,
    requests: u32,
    window_s: u32,
    burst: Option<u32>,
}

impl Policy {
    /// The profile that is ready for a shop: see its file for the figures and why.
    pub fn production() -> Self {
        Self::parse(PRODUCTION)
            .unwrap_or_else(|error| unreachable!("Invariant: the profile is sound: {error}"))
    }

    /// Reads a policy. An error is one sentence that names the place.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().replace('\n', " "))?;
        let limits: Vec<Limit> = file.limit.into_iter().map(Limit::read).collect::<Result<_, _>>()?;
        for (index, limit) in limits.iter().enumerate() {
            if limits[..index].iter().any(|other| other.name == limit.name) {
                return Err(format!("two limits are called `{}`; give each a name of its own", limit.name));
            }
        }
        Ok(Self { limits })
    }
}

impl Limit {
    fn read(written: Written) -> Result<Self, String> {
        let Written { name, routes, per, requests, window_s, burst } = written;
        let burst = burst.unwrap_or(requests);
        let refuse = |what: String| Err(format!("limit `{name}`: {what}"));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            return refuse("a name has lower-case letters, digits and `_`".to_owned());
        }
        if !(1..=1_000_000).contains(&requests)
            || !(1..=86_400).contains(&window_s)
            || !(1..=1_000_000).contains(&burst)
        {
            return refuse("`requests` and `burst` are 1 to 1,000,000, `window_s` is 1 to 86,400".to_owned());
        }
        let mut covered = vec![false; ROUTES.len()];
        for asked in &routes {
            let mut found = false;
            for (place, route) in covered.iter_mut().zip(ROUTES) {
                if route.group == asked || *asked == format!("{} {}", route.method.name(), route.path) {
                    (*place, found) = (true, true);
                }
            }
            if !found {
                let mut groups: Vec<_> = ROUTES.iter().map(|route| route.group).collect();
                groups.dedup();
                let groups = groups.join(", ");
                return refuse(format!(
                    "there is no route `{asked}`; groups are {groups}, a route is `POST /v1/reservations`"
                ));
            }
        }
        if per == Subject::Customer
            && !ROUTES.iter().zip(&covered).any(|(route, covered)| *covered && names_customers(route))
        {
            return refuse("only `POST /v1/reservations` and its batch name a customer".to_owned());
        }
        Ok(Self { name, covered, subject: per, requests, window_s, burst })
    }

    /// Whether requests of the route at this place of the table count.
    pub(crate) fn covers(&self, route: usize) -> bool {
        self.covered[route]
    }

    /// Time that one request uses up, in microseconds.
    pub(crate) fn interval_us(&self) -> u64 {
        (u64::from(self.window_s) * 1_000_000 / u64::from(self.requests)).max(1)
    }

    pub(crate) fn ask(&self, who: u128, cost: u32) -> Ask<'_> {
        let cost = cost.min(self.burst);
        Ask { limit: &self.name, who, interval_us: self.interval_us(), burst: self.burst, cost }
    }

    /// Appends how somebody stands, as draft-ietf-httpapi-ratelimit-headers-10 writes it.
    pub(crate) fn tell(&self, count: &Count, policy: &mut String, state: &mut String) {
        let Self { name, requests, window_s, .. } = self;
        let comma = if policy.is_empty() { "" } else { ", " };
        let reset_s = count.reset_us.div_ceil(1_000_000);
        // Into memory, which does not fail.
        let _ = write!(policy, "{comma}\"{name}\";q={requests};w={window_s}");
        let _ = write!(state, "{comma}\"{name}\";r={};t={reset_s}", count.remaining);
    }
}

fn names_customers(route: &Route) -> bool {
    matches!(route.name, "create_reservation" | "create_reservations")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::table;

    #[test]
    fn the_production_profile_limits_browsing_and_reserving_and_spares_the_rest() {
        let policy = Policy::production();
        let of = |name: &str| -> Vec<(&str, Subject, u32, u32)> {
            let route = table::index_of(name);
            let covering = policy.limits.iter().filter(|limit| limit.covers(route));
            covering
                .map(|limit| (limit.name.as_str(), limit.subject, limit.requests, limit.window_s))
                .collect()
        };
        assert_eq!(of("get_availability"), [("browsing", Subject::Address, 100, 60)]);
        assert!(of("create_reservation").iter().any(|(_, subject, ..)| *subject == Subject::Address));
        for spared in ["live", "ready", "metrics", "get_stock", "define_sku"] {
            assert_eq!(of(spared), [], "{spared}");
        }
    }

    #[test]
    fn a_policy_that_means_nothing_is_refused_with_the_place() {
        let limit = |changed: &str| {
            let mut lines = vec![
                ("name", "name = \"browsing\"".to_owned()),
                ("routes", "routes = [\"catalogue\"]".to_owned()),
                ("per", "per = \"address\"".to_owned()),
                ("requests", "requests = 10".to_owned()),
                ("window_s", "window_s = 1".to_owned()),
            ];
            let field = changed.split(' ').next().unwrap_or("");
            lines.retain(|(name, _)| *name != field);
            lines.push(("", changed.to_owned()));
            let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
            format!("[[limit]]\n{}\n", lines.join("\n"))
        };
        assert!(Policy::parse(&limit("burst = 3")).is_ok());
        for (wrong, told) in [
            ("requests = 0", "1 to 1,000,000"),
            ("window_s = 86401", "1 to 86,400"),
            ("burst = 0", "1 to 1,000,000"),
            ("name = \"Browsing\"", "lower-case"),
            ("routes = [\"catalog\"]", "groups are catalogue"),
            ("routes = [\"GET /v1/nowhere\"]", "no route `GET /v1/nowhere`"),
            ("per = \"customer\"", "name a customer"),
            ("per = \"planet\"", "planet"),
            ("color = \"red\"", "color"),
        ] {
            let error = Policy::parse(&limit(wrong)).unwrap_err();
            assert!(error.contains(told), "{wrong}: {error}");
        }
        let twice = limit("burst = 3").repeat(2);
        assert!(Policy::parse(&twice).unwrap_err().contains("two limits"));
    }
}
