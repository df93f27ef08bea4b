//! Readiness of the inner service: no permit is held by a service that is not called.

/// Puts a clone that isn't ready in the place of a service that is and won't be called, so that
/// the permit which came with its readiness is given back.
pub(crate) fn release<S>(inner: &mut S)
where
    S: Clone,
{
    *inner = inner.clone();
}
