//! Why the program failed: the message on stderr, and the exit code.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, Write as _};
use std::iter;
use std::process::ExitCode;

use tower_auth::Error;

/// The exit codes of `sysexits.h` that the program uses. `--help` lists them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Code {
    Usage = 64,
    NoInput = 66,
    Internal = 70,
    Output = 74,
    Unavailable = 75,
    Protocol = 76,
    Refused = 77,
}

/// A failure. Its message contains no secret.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    /// `None` if the message is already on stderr.
    message: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: Some(message.to_string()),
        }
    }

    /// Makes a failure whose message is already on stderr.
    pub(crate) fn reported(code: Code) -> Self {
        Self {
            code,
            message: None,
        }
    }

    /// A wrong argument or setting.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        let message = format!("{message}\nTry `tower-auth-token --help`.");
        Self::new(Code::Usage, message)
    }

    /// A file that can't be read.
    pub(crate) fn no_input(error: &Error) -> Self {
        Self::new(Code::NoInput, with_causes(error))
    }

    /// Prints the message, and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        if let Some(message) = &self.message {
            // If stderr is closed, the exit code still tells what happened.
            let _ = writeln!(io::stderr(), "tower-auth-token: {message}");
        }
        ExitCode::from(self.code as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if error.is_config() {
            return Self::usage(with_causes(&error));
        }
        let code = if error.is_transient() {
            Code::Unavailable
        } else if error.is_denied() || error.is_permanent() {
            Code::Refused
        } else if error.is_reply() || error.is_illegal_token() || error.is_expired() {
            Code::Protocol
        } else {
            Code::Internal
        };
        Self::new(code, with_causes(&error))
    }
}

/// Lists the error and its causes, one a line.
fn with_causes(error: &Error) -> String {
    let causes = iter::successors(error.source(), |&cause| cause.source());
    let causes = causes.map(|cause| format!("\n  because {}", for_a_shell(&cause.to_string())));
    let message = for_a_shell(&error.to_string()).to_owned();
    iter::once(message).chain(causes).collect()
}

/// Leaves out the crate's advice for Rust programs: the clause that names a function such as
/// `Client::public`, and what follows.
pub(crate) fn for_a_shell(message: &str) -> &str {
    let is_function = |quoted: &&str| {
        quoted.contains("::") && quoted.starts_with(|first: char| first.is_ascii_uppercase())
    };
    let mut quoted = message.split('`').skip(1).step_by(2);
    let at = quoted.find(is_function).and_then(|it| message.find(it));
    let before = &message[..at.unwrap_or_default()];
    let clause = before.rfind("; ").max(before.rfind(", or "));
    &message[..clause.unwrap_or(message.len())]
}
