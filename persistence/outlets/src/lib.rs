//! What strangers are told: the journal's events as announcements, and the Redis that carries them.
//!
//! Laws kept here: (10) an announcement is the journal folded, each event once, in order, so that the same journal always
//! gives the same announcements; (11) a Redis that is slow or gone costs nobody anything: it is asked with time-outs behind a
//! breaker, and the journal is the queue.
//!
//! Start at [`announcer::Announcer`], which tells what [`announcement::Herald`] folds, over a [`link::Link`], a connection that
//! may fail; [`limits::Counts`] is what instances count together.

pub mod announcement;
pub mod announcer;
pub mod limits;
pub mod link;
pub mod probe;
pub mod streams;

mod lag;
mod metrics;
