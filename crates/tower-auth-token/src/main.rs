//! Prints an access token for a shell.
//!
//! The program fetches the token with the client credentials grant (RFC 6749 §4.4) and keeps it in
//! files, so that all shells of a user share one token. The package's README shows how to use the
//! program.

mod failure;

mod variable;

mod args;

mod settings_file;

mod settings;

mod file_access;

mod store;

mod warnings;

mod output;

use std::process::ExitCode;
use std::time::Duration;

use tower_auth::TokenCache;

use crate::args::Args;
use crate::failure::{Code, Failure};
use crate::output::Output;
use crate::settings::Settings;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<(), Failure> {
    let Some(args) = args::read()? else {
        return Ok(());
    };
    warnings::show(args.verbose);
    // Checked before the fetch, so that a wrong option costs no fetch.
    let output = Output::new(&args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Internal, format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(print_token(&args, &output));
    // Lets the program end even while a file system hangs.
    runtime.shutdown_background();
    outcome
}

async fn print_token(args: &Args, output: &Output) -> Result<(), Failure> {
    let source = Settings::read(args).await?.source()?;
    let mut cache =
        TokenCache::builder(source).fetch_timeout(Duration::from_secs(args.timeout.into()));
    if !args.no_store
        && let Some(fleet) = store::open(args)?
    {
        cache = cache.fleet(fleet)?;
    }
    let cache = cache.build();
    let token = match args.refresh {
        true => cache.refresh_now().await?,
        false => cache.token().await?,
    };
    output.print(&token, cache.status().expires_at())
}
