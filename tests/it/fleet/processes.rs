//! Separate processes that share a token through a real Redis or a folder. The tests check what the
//! authorization server sees. The tests also check what the processes see when a process or the
//! store fails.
#![cfg(all(feature = "reqwest", feature = "redis", feature = "file"))]

use std::future::Future;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use futures_util::future::join_all;
use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::support::breakable_store::KEY;
use crate::support::redis_server::RedisServer;

/// The time limit of a step, with a reserve for a busy machine.
const LONG_ENOUGH: Duration = Duration::from_secs(60);

/// An authorization server that reports each fetch and responds only when the test permits it.
struct Issuer {
    url: String,
    issued: Arc<AtomicUsize>,
    /// One permit per token that the server may issue.
    permits: Arc<Semaphore>,
    /// Receives a message for each fetch.
    asked: mpsc::UnboundedReceiver<()>,
}

impl Issuer {
    async fn start() -> Self {
        let (issued, permits) = (Arc::<AtomicUsize>::default(), Arc::new(Semaphore::new(0)));
        let (tell, asked) = mpsc::unbounded_channel();
        let respond = {
            let (issued, permits) = (Arc::clone(&issued), Arc::clone(&permits));
            move || async move {
                tell.send(()).unwrap();
                permits.acquire().await.unwrap().forget();
                let n = issued.fetch_add(1, SeqCst) + 1;
                format!(r#"{{"access_token":"token-{n}","token_type":"Bearer","expires_in":3600}}"#)
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let router = Router::new().route("/token", post(respond));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            url,
            issued,
            permits,
            asked,
        }
    }

    fn issued(&self) -> usize {
        self.issued.load(SeqCst)
    }
}

/// One process of the fleet. It runs the example `fleet`.
struct Process {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// The means by which the processes share the token.
#[derive(Clone, Copy)]
enum By<'a> {
    Redis(&'a str),
    Folder(&'a Path),
}

impl Process {
    fn start(issuer: &Issuer, by: By<'_>) -> Self {
        let mut command = Command::new(crate::support::tree::binary("fleet"));
        command
            .arg("member")
            .env("TOKEN_URL", &issuer.url)
            .env("CLIENT_ID", "id")
            .env("CLIENT_SECRET", "secret")
            .env("SEALING_KEY", KEY)
            .env("LEASE_MS", "3000")
            .env_remove("REDIS_URL");
        match by {
            By::Redis(url) => command.env("REDIS_URL", url),
            By::Folder(folder) => command.env("TOKEN_FOLDER", folder),
        };
        let spawned = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut process = spawned.unwrap();
        Self {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()).lines(),
            process,
        }
    }

    async fn tell(&mut self, word: &str) -> String {
        self.says(word).await;
        self.hears().await
    }

    async fn says(&mut self, word: &str) {
        self.input
            .write_all(format!("{word}\n").as_bytes())
            .await
            .unwrap();
    }

    async fn hears(&mut self) -> String {
        let line = timeout(LONG_ENOUGH, self.output.next_line()).await;
        line.expect("it says nothing")
            .unwrap()
            .expect("it has ended")
    }

    /// Kills the process, as `kill -9` does.
    async fn is_killed(&mut self) {
        self.process.kill().await.unwrap();
    }
}

async fn tell_all(processes: &mut [Process], word: &str) -> Vec<String> {
    join_all(processes.iter_mut().map(|process| process.tell(word))).await
}

fn none_failed(responses: &[String]) {
    for response in responses {
        assert!(response.contains(" 0 failed"), "{response}");
    }
}

fn all_at_once(responses: &[String]) {
    for response in responses {
        assert!(response.contains("1000 at once, 0 failed"), "{response}");
    }
}

/// Runs a scenario with Redis and with a folder.
async fn by_each<F>(scene: impl Fn(Issuer, Vec<Process>) -> F)
where
    F: Future<Output = ()>,
{
    let redis = RedisServer::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("tokens");
    for by in [By::Redis(&redis.url()), By::Folder(&folder)] {
        let issuer = Issuer::start().await;
        let processes = (0..8).map(|_| Process::start(&issuer, by)).collect();
        scene(issuer, processes).await;
    }
}

#[tokio::test]
async fn eight_processes_of_a_thousand_callers_fetch_once_when_cold_and_once_at_expiry() {
    by_each(|issuer, mut processes| async move {
        issuer.permits.add_permits(100);
        none_failed(&tell_all(&mut processes, "ask").await);
        assert_eq!(issuer.issued(), 1);
        tell_all(&mut processes, "expire").await;
        none_failed(&tell_all(&mut processes, "ask").await);
        assert_eq!(issuer.issued(), 2);
        // After the refusals, the first process fetches, and the others load its token.
        tell_all(&mut processes, "reject").await;
        none_failed(&tell_all(&mut processes, "ask").await);
        assert_eq!(issuer.issued(), 3);
        all_at_once(&tell_all(&mut processes, "ask").await);
    })
    .await;
}

#[tokio::test]
async fn when_the_one_that_fetches_is_killed_the_rest_go_on_within_the_lease_time() {
    by_each(|mut issuer, mut processes| async move {
        let mut victim = processes.pop().unwrap();
        victim.says("ask").await;
        issuer.asked.recv().await.unwrap();
        for process in &mut processes {
            process.says("ask").await;
        }
        victim.is_killed().await;
        // The fetch of the dead process may use one permit. The next fetch uses the other permit.
        issuer.permits.add_permits(2);
        for process in &mut processes {
            none_failed(&[process.hears().await]);
        }
        // When the lease has ended, one process fetches. The server may also have issued the dead
        // process's token.
        assert!(issuer.issued() <= 2, "{}", issuer.issued());
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_stands_still_holds_up_nobody_with_a_token_and_fails_nobody_without() {
    let redis = RedisServer::start(&[]).await;
    let issuer = Issuer::start().await;
    issuer.permits.add_permits(100);
    let mut processes: Vec<_> = (0..8)
        .map(|_| Process::start(&issuer, By::Redis(&redis.url())))
        .collect();
    none_failed(&tell_all(&mut processes, "ask").await);
    kill_process(redis.pid(), Signal::STOP).unwrap();
    all_at_once(&tell_all(&mut processes, "ask").await);
    // Redis is stopped, so each process fetches for itself.
    tell_all(&mut processes, "expire").await;
    none_failed(&tell_all(&mut processes, "ask").await);
    assert_eq!(issuer.issued(), 1 + 8);
    all_at_once(&tell_all(&mut processes, "ask").await);
    // When Redis runs again, the processes share their tokens again.
    kill_process(redis.pid(), Signal::CONT).unwrap();
    tell_all(&mut processes, "expire").await;
    none_failed(&tell_all(&mut processes, "ask").await);
    let issued = issuer.issued();
    assert!(issued < 1 + 8 + 8, "{issued}");
    tell_all(&mut processes, "expire").await;
    none_failed(&tell_all(&mut processes, "ask").await);
    assert_eq!(issuer.issued(), issued + 1);
}

#[tokio::test]
async fn a_redis_that_forgets_all_at_any_time_fails_nobody() {
    let redis = RedisServer::start(&[]).await;
    let issuer = Issuer::start().await;
    issuer.permits.add_permits(10_000);
    let mut processes: Vec<_> = (0..4)
        .map(|_| Process::start(&issuer, By::Redis(&redis.url())))
        .collect();
    for round in 0..30 {
        let word = if round % 2 == 0 { "expire" } else { "reject" };
        let flush = async || {
            for _ in 0..5 {
                redis.tell(&["FLUSHALL"]).await;
            }
        };
        let (_, ()) = tokio::join!(tell_all(&mut processes, word), flush());
        let (responses, ()) = tokio::join!(tell_all(&mut processes, "ask"), flush());
        none_failed(&responses);
    }
}

#[tokio::test]
async fn two_shells_at_once_are_one_fetch() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("tokens");
    let mut issuer = Issuer::start().await;
    let mut shells = [(); 2].map(|()| Process::start(&issuer, By::Folder(&folder)));
    for shell in &mut shells {
        shell.says("ask").await;
    }
    issuer.asked.recv().await.unwrap();
    issuer.permits.add_permits(2);
    for shell in &mut shells {
        none_failed(&[shell.hears().await]);
    }
    assert_eq!(issuer.issued(), 1);
    // A third process that starts later gets the shared token too.
    let mut third = Process::start(&issuer, By::Folder(&folder));
    none_failed(&[third.tell("ask").await]);
    assert_eq!(issuer.issued(), 1);
}
