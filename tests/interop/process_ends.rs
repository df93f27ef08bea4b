//! Servers end with the tests. The processes that a server starts end too, and its files are
//! removed.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{Program, Server};

/// The variable that is set in the child process that the test kills.
const VICTIM: &str = "INTEROP_VICTIM";

/// Starts a server that has started another process. That process ignores `SIGTERM`. Both processes
/// would otherwise outlive the test.
fn server() -> (Server, Vec<String>) {
    let script = "(trap '' TERM; exec sleep 600) & echo $! >pids; echo $$ >>pids; \
        echo listening on 1; sleep 600";
    let program = Program::named("sh").argument("-c").argument(script);
    let folder = program.folder().to_owned();
    let server = Server::start(program);
    let pids = fs::read_to_string(folder.join("pids")).unwrap();
    let mut traces: Vec<_> = pids.lines().map(|pid| format!("/proc/{pid}/fd")).collect();
    assert_eq!(traces.len(), 2);
    traces.push(folder.to_str().unwrap().to_owned());
    (server, traces)
}

fn is_there(trace: &String) -> bool {
    Path::new(trace).exists()
}

/// Waits until the traces are gone. The system needs a moment to remove processes that nobody waits
/// for.
fn end_soon(traces: &[String]) {
    let start = Instant::now();
    while let Some(trace) = traces.iter().find(|trace| is_there(trace)) {
        assert!(start.elapsed() < Duration::from_secs(20), "{trace} stays");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_server_that_is_dropped_ends_with_all_that_it_started() {
    let (server, traces) = server();
    assert!(traces.iter().all(is_there));
    drop(server);
    end_soon(&traces);
}

#[test]
fn a_server_ends_when_the_tests_are_killed() {
    if env::var_os(VICTIM).is_some() {
        let (_server, traces) = server();
        eprintln!("{}", traces.join(","));
        thread::sleep(Duration::from_secs(600));
    }
    let mut victim = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "process_ends::a_server_ends_when_the_tests_are_killed",
        ])
        .arg("--nocapture")
        .env(VICTIM, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(victim.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let traces: Vec<_> = line.trim().split(',').map(str::to_owned).collect();
    assert!(traces.iter().all(is_there), "{line}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    end_soon(&traces);
}
