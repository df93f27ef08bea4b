//! A real nginx for one test: its own process on loopback, with the test's configuration.

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

/// A request as nginx logs it after the response.
#[derive(Clone)]
pub(crate) struct Seen {
    /// The port of the server that got the request.
    pub(crate) port: u16,
    /// `HTTP/1.1` or `HTTP/2.0`
    pub(crate) protocol: String,
    /// The number of the connection.
    pub(crate) connection: u64,
    /// When the response was sent, since the Unix epoch.
    pub(crate) at: Duration,
    /// `GET /notes 200`
    pub(crate) line: String,
    /// The `Authorization` header, or `-` for none.
    pub(crate) authorization: String,
}

/// One worker keeps the log in order. An additional server logs marks. A mark tells the test how
/// much is already in the log.
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
    /// Starts nginx with these server blocks and the files that they name.
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
            .argument("-p")
            .argument(&folder)
            .argument("-c")
            .argument(folder.join("nginx.conf"));
        let server = Server::start_on(port, program);
        Self { server, folder }
    }

    /// Replaces a file and reloads nginx. Waits until no worker uses the old files.
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

    /// Returns all requests so far.
    pub(crate) async fn seen(&self) -> Vec<Seen> {
        // The log is in order. When the log contains this mark, it also contains every earlier
        // request.
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

    /// Returns a line such as `GET /notes 200` for each request.
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
