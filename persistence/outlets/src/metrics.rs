//! Names of what is measured here.

/// Whether the breaker before Redis is open, by purpose.
pub(crate) const REDIS_BREAKER_OPEN: &str = "doorbuster_redis_breaker_open";
/// Connections to Redis made, by purpose.
pub(crate) const REDIS_CONNECTIONS_TOTAL: &str = "doorbuster_redis_connections_total";
/// Questions to Redis that failed, by purpose and kind.
pub(crate) const REDIS_ERRORS_TOTAL: &str = "doorbuster_redis_errors_total";
