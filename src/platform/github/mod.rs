//! GitHub: the installations of an app, and the identity of a job in GitHub Actions.

pub(crate) mod app_client;

pub(crate) mod rate_limit;

pub(crate) mod installation;

pub(crate) mod app;

pub(crate) mod actions_id_token;

pub use actions_id_token::ActionsIdToken;
pub use app::App;
pub use installation::Installation;
