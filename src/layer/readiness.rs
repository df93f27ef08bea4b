//! Readiness of the inner service: no permit is held by a service that is not called.

/// Replaces a ready service that will not be called by a clone that is not ready. Dropping the
/// ready one returns its permit.
pub(crate) fn release<S>(inner: &mut S)
where
    S: Clone,
{
    *inner = inner.clone();
}
