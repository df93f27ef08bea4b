//! A real nginx for a test: a process of its own, on loopback, with what the test configures.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::free_port::free_port;
use crate::process::{Program, Server};
use crate::redis_server::eventually;
use crate::servers::HTTP;

pub(crate) struct Nginx {
    server: Server,
    folder: PathBuf,
}

/// A request as nginx logs it once it is answered.
#[derive(Clone)]
pub(crate) struct Seen {
    /// Of the server that it came to.
    pub(crate) port: u16,
    /// `HTTP/1.1` or `HTTP/2.0`
    pub(crate) protocol: String,
    /// Which connection it came over.
    pub(crate) connection: u64,
    /// When it was answered, since the epoch.
    pub(crate) at: Duration,
    /// `GET /notes 200`
    pub(crate) line: String,
    /// `-` for none.
    pub(crate) authorization: String,
}

/// With one worker, so that the log is in order. A server beside those of the test tells how far it is.
const USUAL: &str = r#"
daemon off;
# Heeded if the tests are root's, whose folders nobody else can read.
user root;
worker_processes 1;
pid nginx.pid;
error_log stderr notice;
error_log error.log notice;
events { worker_connections 1024; }
http {
    log_format seen
        '$server_port|$server_protocol|$connection|$msec|$request_method $uri $status|$http_authorization';
    access_log seen.log seen;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"#;

impl Nginx {
    /// Starts one with these servers, beside the files that they name.
    pub(crate) fn start(servers: &str, files: &[(&str, &str)]) -> Self {
        let port = free_port();
        let program = Program::named("nginx");
        let folder = program.folder().to_owned();
        let own = format!("listen 127.0.0.1:{port}; location / {{ return 204; }}");
        let config = format!("{USUAL}server {{ {own} }}\n{servers}\n}}\n");
        fs::write(folder.join("nginx.conf"), config).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        let program = program
            .argument("-e")
            .argument("stderr")
            .argument("-p")
            .argument(&folder)
            .argument("-c")
            .argument(folder.join("nginx.conf"));
        let server = Server::start_on(port, program);
        Self { server, folder }
    }

    /// Replaces one of its files, has it read all of them again, and waits until nobody knows the former ones.
    pub(crate) async fn replace(&self, file: &str, text: &str) {
        let workers_gone = || {
            let log = fs::read_to_string(self.folder.join("error.log")).unwrap();
            log.matches("exited with code 0").count()
        };
        let before = workers_gone();
        fs::write(self.folder.join(file), text).unwrap();
        let pid = fs::read_to_string(self.folder.join("nginx.pid")).unwrap();
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        eventually(async || workers_gone() > before).await;
    }

    /// All that it was asked so far.
    pub(crate) async fn seen(&self) -> Vec<Seen> {
        // Logged in turn, so that what comes before this is there when this is.
        let mark = format!("/mark-{}", fastrand::u64(..));
        HTTP.get(self.server.url(&mark)).send().await.unwrap();
        let mut log = String::new();
        eventually(async || {
            log = fs::read_to_string(self.folder.join("seen.log")).unwrap();
            log.contains(&format!("{mark} 204"))
        })
        .await;
        let all = log.lines().map(Seen::read);
        all.filter(|seen| seen.port != self.server.port()).collect()
    }

    /// `GET /notes 200` of each.
    pub(crate) async fn lines(&self) -> Vec<String> {
        let seen = self.seen().await;
        seen.into_iter().map(|seen| seen.line).collect()
    }
}

impl Seen {
    fn read(line: &str) -> Self {
        let parts: Vec<_> = line.splitn(6, '|').collect();
        let [port, protocol, connection, at, line, authorization] = parts[..] else {
            panic!("{line}");
        };
        Self {
            port: port.parse().unwrap(),
            protocol: protocol.to_owned(),
            connection: connection.parse().unwrap(),
            at: Duration::from_secs_f64(at.parse().unwrap()),
            line: line.to_owned(),
            authorization: authorization.to_owned(),
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} over {} with {}",
            self.line, self.protocol, self.authorization
        )
    }
}
