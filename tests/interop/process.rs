//! A real server for the tests: its own process on loopback, which ends with the tests.
//!
//! A shell runs between the tests and the server. When the shell's standard input ends, it kills
//! the server and all processes that the server started. The input ends with the tests' process,
//! even if that process is killed. So all tests can share a server in a `static`. (A `static` is
//! never dropped.)

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running server. If a test fails, its output shows what the server wrote, including standard
/// error.
pub(crate) struct Server {
    port: u16,
    shell: Child,
    log: Arc<Log>,
}

/// A program with its arguments, variables and folder.
pub(crate) struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    folder: TempDir,
}

/// The start of the line in which a server states its port.
const LISTENING: &str = "listening on ";

/// The longest time that a test waits for a server. Only a broken server takes longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// The shell script. `$0` is the server's folder, and `$@` is its command. `cat` waits for the end
/// of the input. The shell closes its own outputs, so that the server's end is also the end of the
/// outputs. All processes form one group. The shell may kill the group, because no work is lost.
const SHELL: &str = r#"
"$@" </dev/null &
exec >/dev/null 2>&1
cat
kill -KILL $!
wait
rm -rf -- "$0"
kill -KILL 0
"#;

impl Server {
    /// Starts a program that chooses its port and prints it on a line of its own:
    /// `listening on 4711`.
    pub(crate) fn start(program: Program) -> Self {
        let (shell, log, ports) = program.spawn();
        let port = match ports.recv_timeout(PATIENCE) {
            Ok(port) => port,
            Err(RecvTimeoutError::Disconnected) => panic!("{} ended", log.name),
            Err(RecvTimeoutError::Timeout) => panic!("{} never said where it listens", log.name),
        };
        Self { port, shell, log }
    }

    /// Starts a program with a given port (see `free_port`), and waits until it accepts
    /// connections.
    pub(crate) fn start_on(port: u16, program: Program) -> Self {
        let (shell, log, ports) = program.spawn();
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert_ne!(
                ports.try_recv(),
                Err(TryRecvError::Disconnected),
                "{} ended",
                log.name
            );
            assert!(start.elapsed() < PATIENCE, "{} never answered", log.name);
            thread::sleep(Duration::from_millis(5));
        }
        Self { port, shell, log }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns `http://127.0.0.1:4711/path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        RUNNING
            .lock()
            .unwrap()
            .retain(|log| !Arc::ptr_eq(log, &self.log));
    }
}

impl Program {
    /// Returns a Python program in `tests/interop/servers`. The program can import the packages of
    /// `requirements.txt`.
    pub(crate) fn python(script: &str) -> Self {
        Self::at(script, installed("venv/bin/python"))
            .argument(self::script(script))
            // With these variables, Python writes no bytecode beside the sources and flushes each
            // line.
            .variable("PYTHONDONTWRITEBYTECODE", "1")
            .variable("PYTHONUNBUFFERED", "1")
    }

    /// Returns a Python program in `tests/interop/clients`: another project's client.
    pub(crate) fn python_client(script: &str) -> Self {
        Self::python(&format!("../clients/{script}"))
    }

    /// Returns a JavaScript program in `tests/interop/servers`. The program finds the packages of
    /// `package.json` in the folder that the variable `NODE_MODULES` names.
    pub(crate) fn node(script: &str) -> Self {
        Self::named("node")
            .argument(self::script(script))
            .variable("NODE_MODULES", installed("node/node_modules"))
            .called(script)
    }

    /// Returns a program that a package of `requirements.txt` installs.
    pub(crate) fn packaged(name: &str) -> Self {
        Self::at(name, installed(&format!("venv/bin/{name}")))
    }

    /// Returns a program that is installed on the system.
    pub(crate) fn named(name: &str) -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        // Debian installs nginx in this folder, which isn't in an ordinary user's `PATH`.
        let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
        let found = folders
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        Self::at(name, found.unwrap_or_else(|| missing(name)))
    }

    /// Returns a JavaScript program in `tests/interop/clients`: another project's client.
    pub(crate) fn node_client(script: &str) -> Self {
        Self::node(&format!("../clients/{script}"))
    }

    fn at(name: &str, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            path,
            arguments: Vec::new(),
            variables: Vec::new(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn called(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    pub(crate) fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Returns the folder in which the server starts. The folder is removed when the server ends.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the program until it ends, and returns what it printed. Panics if the program fails.
    pub(crate) fn output(self, input: &str) -> String {
        let mut child = Command::new(self.path)
            .args(self.arguments)
            .envs(self.variables)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{} failed", self.name);
        String::from_utf8(output.stdout).unwrap()
    }

    fn spawn(self) -> (Child, Arc<Log>, Receiver<u16>) {
        show_logs_of_failures();
        // From here on, the shell removes the folder. This process doesn't.
        let folder = self.folder.keep();
        let mut shell = Command::new("sh")
            .args(["-c", SHELL])
            .arg(&folder)
            .arg(self.path)
            .args(self.arguments)
            .envs(self.variables)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The shell has its own process group, so signals from the terminal don't reach it. It
            // notices when the tests have ended.
            .process_group(0)
            .spawn()
            .unwrap();
        let log = Arc::new(Log {
            name: self.name,
            lines: Mutex::default(),
        });
        RUNNING.lock().unwrap().push(Arc::clone(&log));
        let (announce, ports) = mpsc::channel();
        follow(shell.stderr.take().unwrap(), Arc::clone(&log), |_| ());
        follow(
            shell.stdout.take().unwrap(),
            Arc::clone(&log),
            move |line| {
                if let Some(port) = line.strip_prefix(LISTENING) {
                    let _ = announce.send(port.trim().parse().unwrap());
                }
            },
        );
        (shell, log, ports)
    }
}

/// Returns a path below the folder into which `tests/run.sh` installs.
pub(crate) fn installed(path: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let path = target.join("interop").join(path);
    if path.exists() {
        path
    } else {
        missing(&path.display().to_string())
    }
}

fn missing(name: &str) -> PathBuf {
    panic!("no {name}: `bash tests/run.sh` installs it")
}

/// Returns the path of a program in `tests/interop/servers`.
pub(crate) fn script(path: &str) -> PathBuf {
    let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/servers");
    servers.join(path)
}

struct Log {
    name: String,
    lines: Mutex<Vec<String>>,
}

static RUNNING: Mutex<Vec<Arc<Log>>> = Mutex::new(Vec::new());

/// Records each line until the server ends.
fn follow(pipe: impl Read + Send + 'static, log: Arc<Log>, see: impl Fn(&str) + Send + 'static) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            see(&line);
            log.lines.lock().unwrap().push(line);
        }
    });
}

/// Makes a panic print the last lines of each server. The lines go to the test's captured output,
/// like the panic message. So they are shown only if the test fails.
fn show_logs_of_failures() {
    const LAST: usize = 40;
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            let mut text = String::new();
            for log in RUNNING.try_lock().iter().flat_map(|logs| logs.iter()) {
                let Ok(lines) = log.lines.try_lock() else {
                    continue;
                };
                let _ = writeln!(text, "-- the last lines of {}", log.name);
                for line in &lines[lines.len().saturating_sub(LAST)..] {
                    let _ = writeln!(text, "{line}");
                }
            }
            eprint!("{text}");
        }));
    });
}
