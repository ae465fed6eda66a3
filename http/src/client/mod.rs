//! A small client of our own HTTP surface.
