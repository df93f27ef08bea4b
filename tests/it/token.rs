//! An issued credential: what it accepts and what it shows.
