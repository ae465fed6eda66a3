//! The front door over a real socket: one binary, a server and a data directory of its own for each test.

mod api;
