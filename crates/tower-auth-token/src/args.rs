//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, ValueEnum};

use crate::failure::{Code, Failure};

const AFTER_HELP: &str = "\
Options override variables of the environment, and variables override the settings file. An empty
value counts as unset. No option takes the secret, because other users see the arguments of a
command. Put the secret into CLIENT_SECRET, or into a file that CLIENT_SECRET_FILE,
--client-secret-file or the settings file names.

The settings file has a line `NAME=value` for each setting, with the names of the variables. A `#`
starts a comment only at the beginning of a line. The file may also be JSON, such as the credentials
file of a service: {\"clientId\": …, \"password\": …, \"authenticationUrl\": …}.

The store is a folder with the sealed tokens in `tokens` and their key in `sealing.key`. The first
run makes the key. Only you can read both. While a stored token is valid, the program prints it
without a fetch. If the store can't be used, the program prints a warning, and fetches a token only
for this run.

Exit codes:
   0  the token is printed
  64  an option or a setting is missing or wrong
  66  the settings file, the secret's file or the key file can't be read
  70  an error of the program or the system
  74  the output can't be written
  75  the server didn't respond, was busy or failed: try again later
  76  the server's response contains no usable token
  77  the server refused the client or what it requested

Examples:
  curl -H \"Authorization: Bearer $(tower-auth-token)\" https://api.example.com/v1
  eval \"$(tower-auth-token --export API_TOKEN)\"";

/// Prints an OAuth 2 access token (client credentials grant).
#[derive(Parser)]
#[command(name = "tower-auth-token", version, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The token endpoint: https, or http on this machine (variable: TOKEN_URL)
    #[arg(long, value_name = "URL", help_heading = "Settings")]
    pub(crate) token_url: Option<String>,

    /// The client's id (variable: CLIENT_ID)
    #[arg(long, value_name = "ID", help_heading = "Settings")]
    pub(crate) client_id: Option<String>,

    /// A file with the client's secret, such as a mounted secret (variable: CLIENT_SECRET_FILE)
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub(crate) client_secret_file: Option<PathBuf>,

    /// The API that the token is for, as Auth0 names it (variable: AUDIENCE)
    #[arg(long, value_name = "NAME", help_heading = "Settings")]
    pub(crate) audience: Option<String>,

    /// The API that the token is for, as RFC 8707 names it (variable: RESOURCE)
    #[arg(long, value_name = "URI", help_heading = "Settings")]
    pub(crate) resource: Option<String>,

    /// The scopes, separated by spaces (variable: SCOPE)
    #[arg(long, value_name = "SCOPES", help_heading = "Settings")]
    pub(crate) scope: Option<String>,

    /// How the id and the secret are sent (variable: CLIENT_AUTH; default: post)
    #[arg(long, value_name = "HOW", help_heading = "Settings")]
    pub(crate) client_auth: Option<ClientAuth>,

    /// A file with settings (variable: TOWER_AUTH_TOKEN_CONFIG)
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub(crate) config: Option<PathBuf>,

    /// Print `export NAME='…'`, for `eval` in a shell
    #[arg(long, value_name = "NAME", help_heading = "Output", value_parser = variable_name)]
    pub(crate) export: Option<String>,

    /// Print an ExecCredential, for the `exec` section of a kubeconfig
    #[arg(long, help_heading = "Output", conflicts_with = "export")]
    pub(crate) exec_credential: bool,

    /// Fetch a new token, for example after an API has refused the stored one
    #[arg(long)]
    pub(crate) refresh: bool,

    /// How long a fetch may take, including all its attempts
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) timeout: u32,

    /// The folder of the store (variable: TOWER_AUTH_TOKEN_STORE; default: tower-auth-token in
    /// the user's cache folder)
    #[arg(long, value_name = "FOLDER", help_heading = "Store")]
    pub(crate) store: Option<PathBuf>,

    /// A file with the key of the store: the output of `openssl rand -base64 32` (variable:
    /// TOWER_AUTH_TOKEN_KEY_FILE; default: sealing.key in the store)
    #[arg(long, value_name = "FILE", help_heading = "Store")]
    pub(crate) key_file: Option<PathBuf>,

    /// Neither read nor store tokens
    #[arg(long, help_heading = "Store", conflicts_with_all = ["store", "key_file"])]
    pub(crate) no_store: bool,

    /// Print on stderr what the program does
    #[arg(long, short)]
    pub(crate) verbose: bool,

    /// Catches a secret on the command line, so that the error explains what is wrong, and no
    /// message repeats the secret.
    #[arg(
        long = "client-secret",
        aliases = ["secret", "password"],
        hide = true,
        num_args = 0..=1,
        allow_hyphen_values = true
    )]
    secret_on_the_command_line: Option<Option<OsString>>,
}

/// How the client authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientAuth {
    /// In a form, the body of the request
    Post,
    /// In the header `Authorization`
    Basic,
    /// In JSON, the body of the request
    Json,
}

/// Reads the command line. Returns `None` if it only asks for help or for the version.
pub(crate) fn read() -> Result<Option<Args>, Failure> {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if !error.use_stderr() => {
            let printed = error.print();
            return printed.map(|()| None).map_err(|error| {
                Failure::new(Code::Output, format!("could not write the help: {error}"))
            });
        }
        Err(error) if is_stray_value(&error) => {
            return Err(Failure::usage(
                "there is an argument that belongs to no option",
            ));
        }
        Err(error) => {
            // If stderr is closed, the exit code still tells what happened.
            let _ = error.print();
            return Err(Failure::reported(Code::Usage));
        }
    };
    if args.secret_on_the_command_line.is_some() {
        return Err(Failure::usage(
            "a secret on the command line is visible to other users, so there is no option for it; \
             set CLIENT_SECRET, or use --client-secret-file",
        ));
    }
    Ok(Some(args))
}

/// Whether the error shows an argument that isn't an option. Such an argument may be a secret.
fn is_stray_value(error: &clap::Error) -> bool {
    let shown = error.get(ContextKind::InvalidArg);
    error.kind() == ErrorKind::UnknownArgument
        && matches!(shown, Some(ContextValue::String(shown)) if !shown.starts_with('-'))
}

/// Accepts the name of a shell's variable.
fn variable_name(name: &str) -> Result<String, &'static str> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = name.starts_with(|first: char| !first.is_ascii_digit());
    if starts_well && name.bytes().all(is_letter) {
        Ok(name.to_owned())
    } else {
        Err("a variable's name has only letters, digits and underscores, and starts with no digit")
    }
}
