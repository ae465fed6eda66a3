//! Names of what is measured here.

/// Whether the breaker before Redis is open, by purpose.
pub(crate) const REDIS_BREAKER_OPEN: &str = "doorbuster_redis_breaker_open";
/// Connections to Redis made, by purpose.
pub(crate) const REDIS_CONNECTIONS_TOTAL: &str = "doorbuster_redis_connections_total";
/// Questions to Redis that failed, by purpose and kind.
pub(crate) const REDIS_ERRORS_TOTAL: &str = "doorbuster_redis_errors_total";
/// Announcements made, by stream.
pub(crate) const ANNOUNCEMENTS_TOTAL: &str = "doorbuster_announcements_total";
/// Age of the oldest announcement that waits.
pub(crate) const ANNOUNCEMENT_LAG_SECONDS: &str = "doorbuster_announcement_lag_seconds";
/// Durable frames not announced yet.
pub(crate) const ANNOUNCEMENT_LAG_FRAMES: &str = "doorbuster_announcement_lag_frames";
/// Whether the streams are another journal's, so that nothing is announced.
pub(crate) const ANNOUNCEMENTS_REFUSED: &str = "doorbuster_announcements_refused";
