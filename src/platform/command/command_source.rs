//! A program that prints a credential.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::command_format::{CommandFormat, Credential};
use super::error_output::{self, hide};
use super::process::{self, Failure, Output};
use crate::cache::builder::FETCH_TIMEOUT;
use crate::error::{BoxError, Error, Kind};
use crate::source::secret_source::SecretSource;
use crate::source::token_source::{Reason, TokenSource};
use crate::token::issued_token::Token;
use crate::token::jwt;
use crate::token::redact::Redactor;

/// Fetches tokens by running a program that prints a credential, such as a cloud's command-line
/// tool or a credential plugin of Kubernetes.
///
/// | setting | default |
/// | --- | --- |
/// | [`arg`](Self::arg), [`args`](Self::args) | none |
/// | [`format`](Self::format) | [`CommandFormat::text`]: the token and nothing else |
/// | [`env`](Self::env), [`secret_env`](Self::secret_env), [`pass_env`](Self::pass_env) | no variables except those below |
/// | [`timeout`](Self::timeout) | 20 s |
///
/// - The program runs without a shell, so nothing in an argument has a special meaning.
/// - The program gets the variables that you name, those of the format, `PATH` and `HOME`. Four more
///   are for Windows: `APPDATA`, `SystemRoot`, `TEMP` and `USERPROFILE`. The program gets no other
///   variables of your process, because they may be secrets.
/// - The program gets no input, and may print at most 64 KiB.
/// - If the program fails, the error shows the end of the error output, in one line of at most 256
///   bytes. The error hides the values of `secret_env` and `pass_env`, also in part and in Base64.
///   The error also hides text that the standard output contains.
/// - After the timeout, or if the fetch is cancelled, the program is killed. On Unix, the processes
///   that the program started are killed too. If the program ends first, its other processes
///   may keep running.
///
/// The token expires when the output says so, or at the `exp` of a JWT. A token without an expiry
/// stays in use until a server refuses the token. What a program prints depends on the machine and
/// the user. So in a [fleet](crate::docs::fleet), set `Fleet::key`.
///
/// # Windows
///
/// A name without an extension finds only an `.exe`, so name the extension of a script: `az.cmd`.
/// For such a script, Windows starts `cmd.exe`, which is a shell. Rust's standard library then
/// escapes the arguments, and refuses an argument that it can't escape.
///
/// # Example
///
/// ```
/// use tower_auth::AuthLayer;
/// use tower_auth::platform::Command;
///
/// let token = Command::new("gh").args(["auth", "token"]).pass_env(["GH_CONFIG_DIR"]);
/// let layer = AuthLayer::new(token).only_to(["https://api.github.com"])?;
/// # Ok::<(), tower_auth::Error>(())
/// ```
///
/// A program that prints the subject of a token exchange (RFC 8693):
///
/// ```
/// use tower_auth::oauth2::{Client, TokenExchange};
/// use tower_auth::platform::Command;
///
/// # fn example() -> Result<(), tower_auth::Error> {
/// let subject = Command::new("/usr/local/bin/workload-token").arg("--audience=sts");
/// let client = Client::public("https://sts.example.com/token", "reports")?;
/// let source = TokenExchange::new(client, subject);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Command {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    secret_env: Vec<(OsString, SecretSource)>,
    passed: Vec<OsString>,
    format: CommandFormat,
    timeout: Duration,
}

/// The default time limit. A tool that is written in Python takes seconds to start, and the cache
/// waits at most 30 s for a fetch.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Variables that nearly every program needs.
const ALWAYS_PASSED: [&str; 6] = [
    "APPDATA",
    "HOME",
    "PATH",
    "SystemRoot",
    "TEMP",
    "USERPROFILE",
];

impl Command {
    /// Creates a source that runs `program`. A name without a slash is looked up in `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            secret_env: Vec::new(),
            passed: Vec::new(),
            format: CommandFormat::text(),
            timeout: TIMEOUT,
        }
    }

    /// Adds an argument. Other users of the machine can see arguments, so pass secrets with
    /// [`secret_env`](Self::secret_env).
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the program. The variable replaces a variable of the same name that the
    /// [format](Self::format) sets.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::platform::Command;
    ///
    /// let token = Command::new("gh")
    ///     .args(["auth", "token"])
    ///     .env("GH_HOST", "github.example.com");
    /// ```
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets a variable of the program to a secret, which is read before each run.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_auth::SecretSource;
    /// use tower_auth::platform::Command;
    ///
    /// let password = SecretSource::file("/run/secrets/password");
    /// let token = Command::new("/usr/local/bin/log-in").secret_env("PASSWORD", password);
    /// ```
    #[must_use]
    pub fn secret_env(
        mut self,
        name: impl Into<OsString>,
        secret: impl Into<SecretSource>,
    ) -> Self {
        self.secret_env.push((name.into(), secret.into()));
        self
    }

    /// Passes variables of this process to the program. A variable that isn't set is skipped.
    #[must_use]
    pub fn pass_env<I>(mut self, names: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.passed.extend(names.into_iter().map(Into::into));
        self
    }

    /// Sets the format of the output.
    #[must_use]
    pub fn format(mut self, format: CommandFormat) -> Self {
        self.format = format;
        self
    }

    /// Sets how long the program may run. Default: 20 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs the program, and reads the credential.
    async fn credential(&self) -> Result<Credential, Error> {
        // Without a runtime, Tokio would panic.
        if Handle::try_current().is_err() {
            let message = "a program can only run within a Tokio runtime";
            return Err(Error::new(Kind::Runtime, message));
        }
        let mut redactor = Redactor::default();
        let command = self.prepare(&mut redactor).await?;
        let output = process::run(command, self.timeout).await;
        let output = output.map_err(|failure| self.not_run(failure))?;
        let read = self.format.read(&output.stdout, &redactor);
        if output.status.success() {
            return read.map_err(|objection| {
                let program = self.program.display();
                let message = format!("the output of {program} {objection}");
                Error::new(Kind::Reply, message)
            });
        }
        let reported = read.err().filter(|_| self.format.reports_failures());
        Err(self.failed(&output, reported.as_deref(), &redactor))
    }

    /// Prepares the program. Makes `redactor` hide the secrets in the program's environment.
    async fn prepare(&self, redactor: &mut Redactor) -> Result<tokio::process::Command, Error> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args).env_clear();
        let always = ALWAYS_PASSED.iter().map(OsStr::new);
        for name in always.chain(self.passed.iter().map(OsString::as_os_str)) {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        for name in &self.passed {
            // A passed variable may be a secret.
            hide(
                redactor,
                &Zeroizing::new(env::var(name).unwrap_or_default()),
            );
        }
        command.envs(self.format.variables());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        for (name, source) in &self.secret_env {
            let secret = source.read().await?;
            hide(redactor, secret.expose_secret());
            command.env(name, secret.expose_secret());
        }
        Ok(command)
    }

    fn not_run(&self, failure: Failure) -> Error {
        let program = self.program.display();
        match failure {
            Failure::NotStarted(error) if lacks_resources(&error) => {
                let message = format!("could not start {program}");
                Error::new(Kind::Transient, message).with_source(error)
            }
            Failure::NotStarted(error) => {
                let message = format!(
                    "could not start {program}; check that the program is installed, and that \
                     its path or `PATH` is right"
                );
                Error::new(Kind::Config, message).with_source(error)
            }
            Failure::NotRead(error) => {
                let message = format!("could not read the output of {program}");
                Error::new(Kind::Source, message).with_source(error)
            }
            Failure::TooLong => {
                let message = format!("{program} printed more than 64 KiB instead of a credential");
                Error::new(Kind::Reply, message)
            }
            Failure::TimedOut(limit) => {
                let message = format!(
                    "{program} did not end within {limit:?}; if it is only slow, set \
                     `Command::timeout`"
                );
                Error::new(Kind::Timeout, message)
            }
        }
    }

    /// Makes the error of a program whose exit status is a failure.
    fn failed(&self, output: &Output, reported: Option<&str>, redactor: &Redactor) -> Error {
        let program = self.program.display();
        let status = output.status;
        let printed = error_output::shown(output, redactor);
        let message = match (reported, printed.as_str()) {
            (Some(objection), "") => format!("{program} failed ({status}): its output {objection}"),
            (Some(objection), printed) => {
                format!("{program} failed ({status}): its output {objection}; {printed}")
            }
            (None, "") => format!("{program} failed ({status}) and printed no error"),
            (None, printed) => format!("{program} failed ({status}): {printed}"),
        };
        Error::new(Kind::Source, message)
    }
}

/// Returns whether the program may start later. Memory, processes or files are used up, or another
/// process is writing the executable.
fn lacks_resources(error: &io::Error) -> bool {
    let is_short = matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::OutOfMemory | ErrorKind::ExecutableFileBusy
    );
    // The standard library has no kind for too many open files (`ENFILE` and `EMFILE`).
    is_short || (cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24)))
}

impl TokenSource for Command {
    async fn fetch(&self, _reason: Reason) -> Result<Token, Error> {
        let credential = self.credential().await?;
        let end = credential.expires_at;
        let end = end.or_else(|| jwt::exp(credential.secret.expose_secret()));
        let token = Token::bearer(credential.secret)?;
        Ok(match end {
            Some(end) => token.expires_at(end),
            None => token,
        })
    }

    fn fetch_timeout(&self) -> Option<Duration> {
        // Leaves time to start the program and to read its output.
        Some(self.timeout.saturating_add(Duration::from_secs(5)))
            .filter(|needed| *needed > FETCH_TIMEOUT)
    }
}

/// Reads a secret, such as the subject of a token exchange, by running the program. A credential that
/// has already expired is an error.
impl From<Command> for SecretSource {
    fn from(command: Command) -> Self {
        let command = Arc::new(command);
        Self::from_fn(move || {
            let command = Arc::clone(&command);
            async move {
                let credential = command.credential().await?;
                if credential
                    .expires_at
                    .is_some_and(|end| end <= SystemTime::now())
                {
                    let program = command.program.display();
                    let message = format!("the credential that {program} printed has expired");
                    return Err(Error::new(Kind::Expired, message).into());
                }
                Ok::<SecretString, BoxError>(credential.secret)
            }
        })
    }
}

/// Shows the program, but not its arguments and variables, because they may contain secrets.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("arguments", &self.args.len())
            .field("format", &self.format)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
