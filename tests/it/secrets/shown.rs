//! Nothing that is printed or logged shows a secret. The tests cover tokens, the layer, and one
//! source as an example. The other sources are in `secrets::of_sources`.

mod echoed;
#[cfg(feature = "reqwest")]
mod in_queries;
mod logged;
mod printed;
