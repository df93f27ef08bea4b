//! One token for all who ask: fetched, refreshed, refused, put off and given up.

mod abandoned;
mod as_source;
mod closing;
mod failure;
mod flights;
mod keep_fresh;
mod latch;
mod machine;
mod outages;
mod quotas;
mod wakers;
mod windows;
