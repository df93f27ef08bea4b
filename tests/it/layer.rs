//! The life of one request: the layer attaches a credential, sends the request, and replays it once
//! after a refusal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

mod allocations;
mod allowed_origins;
mod attaching;
mod body;
mod call_error;
#[cfg(feature = "tonic")]
mod grpc_status;
mod origins_property;
mod private_copies;
mod readiness;
mod refusal_evidence;
mod refusals;
mod replay;
mod response_origin;

#[derive(Default)]
struct Clones(Arc<AtomicUsize>);

impl Clone for Clones {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl tower_auth::layer::Replay for Clones {
    type Copy = Self;

    fn record(&mut self, _: usize) -> Option<Self> {
        Some(self.clone())
    }

    fn replay(copy: Self) -> Option<Self> {
        Some(copy)
    }
}
