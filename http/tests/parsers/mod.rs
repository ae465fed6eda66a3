//! Every parser of the front door under damage, as properties. [`reading`] feeds the parse functions themselves,
//! [`surface`] a running server over a socket, [`importing`] the import, held against the stock it made.
//!
//! Laws of all of them: no panic; bounded time; what is accepted prints and reads back equal; what is refused is a
//! documented problem. `DOORBUSTER_FUZZ_SECONDS=3600 cargo test -p doorbuster-http parsers` runs long.

mod importing;
mod reading;
mod surface;
