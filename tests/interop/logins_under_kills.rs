//! Eight processes share a login at oidc-provider, and processes are killed at random. The server
//! accepts each refresh token once, and ends the login when it gets one again.
//!
//! No client can close the gap between the server's answer and the save. So a login may end after a
//! kill in this gap. The tests then log in again, and count it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt;
use std::io::{BufRead, BufReader, Write as _, stdout};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_auth::TokenCache;
use tower_auth::fleet::{Keyring, RedisStore, StoreKey};
use tower_auth::oauth2::{
    Client, EndpointUrl, RefreshToken, RefreshTokenFile, ReqwestTransport, SharedLogin,
};

use crate::oidc_logins::{app, log_in};
use crate::oidc_provider::issuer;
use crate::redis_server::RedisServer;
use crate::servers::{OIDC, text};

/// The variable with a [`Settings`], which makes a test a member.
const MEMBER: &str = "INTEROP_MEMBER";
const MEMBERS: usize = 8;
const LIFETIME: Duration = Duration::from_secs(5);
/// A key in the format of `openssl rand -base64 32`.
const SEALING_KEY: &str = "c2VhbGluZyBrZXkgb2YgdGhlIGZsZWV0IG9mIHRlc3Q=";

/// The longest time that a caller may wait: the default time for the lock, and a token request.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a process may still tell callers to log in after a new login, because it asked before.
const SLACK: Duration = Duration::from_secs(3);

#[derive(Clone, Serialize, Deserialize)]
enum Store {
    File(PathBuf),
    Redis(String),
}

/// Returns the seed of the kills. A variable may set it, so that a run can be repeated.
fn seed() -> u64 {
    env::var("INTEROP_SEED").map_or(19, |seed| seed.parse().unwrap())
}

/// What a member needs to know.
#[derive(Serialize, Deserialize)]
struct Settings {
    name: String,
    issuer: String,
    client: String,
    store: Store,
}

/// One run of all members.
struct Plan {
    time: Duration,
    between_kills: Duration,
    /// For how long Redis stops in the middle.
    outage: Duration,
}

const SHORT: Plan = Plan {
    time: Duration::from_secs(8),
    between_kills: Duration::from_secs(2),
    outage: Duration::from_secs(2),
};
const LONG: Plan = Plan {
    time: Duration::from_secs(60),
    between_kills: Duration::from_secs(1),
    outage: Duration::from_secs(5),
};

#[tokio::test]
async fn a_login_in_a_file_survives_kills() {
    match env::var(MEMBER) {
        Ok(settings) => be_a_member(&settings).await,
        Err(_) => in_a_file(SHORT).await,
    }
}

#[tokio::test]
#[ignore = "takes 60 s: `tests/run.sh --soak` runs it"]
async fn a_login_in_a_file_survives_a_minute_of_kills() {
    in_a_file(LONG).await;
}

#[tokio::test]
async fn a_login_in_redis_survives_kills_and_an_outage_of_redis() {
    in_redis(SHORT).await;
}

#[tokio::test]
#[ignore = "takes 60 s: `tests/run.sh --soak` runs it"]
async fn a_login_in_redis_survives_a_minute_of_kills_and_an_outage_of_redis() {
    in_redis(LONG).await;
}

async fn in_a_file(plan: Plan) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("login");
    let run = Run::start(Store::File(path)).await;
    let figures = run.go(&plan, None).await;
    eprintln!("a file, {:?}: {figures}", plan.time);
    assert_eq!(figures.other_errors, BTreeSet::new());
    // The next process with the lock completes or removes the file of an interrupted save.
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let name = entry.unwrap().file_name();
        let expected = ["login", "login.lock", "login.next"];
        assert!(expected.iter().any(|it| name == *it), "{name:?} is left");
    }
}

async fn in_redis(plan: Plan) {
    let redis = RedisServer::start(&[]).await;
    let run = Run::start(Store::Redis(redis.url())).await;
    let figures = run.go(&plan, Some(&redis)).await;
    eprintln!("Redis, {:?}: {figures}", plan.time);
}

fn client(id: &str, member: &str, issuer: EndpointUrl) -> Client {
    let http = reqwest::Client::builder()
        .user_agent(format!("{id}/{member}"))
        .redirect(reqwest::redirect::Policy::none());
    let transport = ReqwestTransport::new(http.build().unwrap());
    Client::public(issuer, id).unwrap().transport(transport)
}

fn shared(url: &str, client: &str) -> SharedLogin {
    let keys = Keyring::new("test", SEALING_KEY).unwrap();
    let login = StoreKey::new("login").with("client", client);
    SharedLogin::new(RedisStore::open(url).unwrap(), keys, &login)
}

/// Asks for a token every 50 ms, and prints new tokens and all errors. Ends when nobody reads the
/// output any more.
async fn be_a_member(settings: &str) {
    let Settings {
        name,
        issuer,
        client: id,
        store,
    } = serde_json::from_str(settings).unwrap();
    let client = client(&id, &name, EndpointUrl::from_issuer(issuer).unwrap());
    let source = match store {
        Store::File(path) => RefreshToken::stored(client, RefreshTokenFile::new(path)),
        Store::Redis(url) => RefreshToken::stored(client, shared(&url, &id)),
    };
    let cache = TokenCache::new(source);
    // The test harness may have begun a line.
    let print = |text: &str| stdout().write_all(text.as_bytes());
    let mut is_read = print("\n").is_ok();
    let mut last = String::new();
    while is_read {
        let start = Instant::now();
        let said = match cache.token().await {
            Ok(token) if token.secret() == last => String::new(),
            Ok(token) => {
                token.secret().clone_into(&mut last);
                format!("token {last}\n")
            }
            Err(error) if error.is_login_required() => format!("login required: {}\n", all(&error)),
            Err(error) => format!("error {}\n", all(&error)),
        };
        let waited = format!("waited {}\n", start.elapsed().as_millis());
        is_read = print(&(said + &waited)).is_ok();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Returns an error with its sources, in one line.
fn all(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text.replace('\n', " ")
}

/// An exchange of a refresh token, as the server saw it.
#[derive(Clone, Debug, Deserialize)]
struct Exchange {
    member: Option<String>,
    /// None until the server has answered.
    sent: Option<String>,
    access_token: Option<String>,
    refused: Option<String>,
}

struct Member {
    name: String,
    child: Child,
}

/// A line that a member printed.
struct Line {
    member: String,
    text: String,
}

#[derive(Debug, Default)]
struct Figures {
    /// Kills at random, and kills of a process that was exchanging the refresh token.
    kills: usize,
    aimed_kills: usize,
    exchanges: usize,
    most_exchanges: usize,
    /// Logins that ended by a kill between the server's answer and the save.
    logins_lost: Vec<&'static str>,
    told_to_log_in: usize,
    errors: usize,
    other_errors: BTreeSet<String>,
    longest_wait: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, {self:?}", seed())
    }
}

struct Run {
    client: String,
    store: Store,
    http: reqwest::Client,
    members: Vec<Member>,
    started: usize,
    /// The names of killed members, and which kills they were.
    killed: BTreeMap<String, &'static str>,
    lines: (Sender<Line>, Receiver<Line>),
    /// The access tokens that members got, and so had saved.
    used: BTreeSet<String>,
    seen: Vec<Exchange>,
    /// The members that told their callers to log in.
    told: BTreeSet<String>,
    /// When each member last printed something.
    heard: BTreeMap<String, Instant>,
    new_login_at: Option<Instant>,
    figures: Figures,
}

impl Run {
    async fn start(store: Store) -> Self {
        let app = app(json!({"access_token_lifetime": LIFETIME.as_secs()})).await;
        let mut run = Self {
            client: app.id,
            store,
            http: reqwest::Client::new(),
            members: Vec::new(),
            started: 0,
            killed: BTreeMap::new(),
            lines: mpsc::channel(),
            used: BTreeSet::new(),
            seen: Vec::new(),
            told: BTreeSet::new(),
            heard: BTreeMap::new(),
            new_login_at: None,
            figures: Figures::default(),
        };
        run.log_in().await;
        for _ in 0..MEMBERS {
            let member = run.member();
            run.members.push(member);
        }
        run
    }

    async fn log_in(&self) {
        let client = client(&self.client, "person", issuer());
        log_in(client, |login| match &self.store {
            Store::File(path) => login.store(RefreshTokenFile::new(path)),
            Store::Redis(url) => login.store(shared(url, &self.client)),
        })
        .await
        .unwrap();
    }

    fn member(&mut self) -> Member {
        self.started += 1;
        let name = self.started.to_string();
        let settings = Settings {
            name: name.clone(),
            issuer: OIDC.url(""),
            client: self.client.clone(),
            store: self.store.clone(),
        };
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "logins_under_kills::a_login_in_a_file_survives_kills",
                "--nocapture",
            ])
            .env(MEMBER, serde_json::to_string(&settings).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdout, send) = (child.stdout.take().unwrap(), self.lines.0.clone());
        let member = name.clone();
        thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let member = member.clone();
                let _ = send.send(Line { member, text });
            }
        });
        self.heard.insert(name.clone(), Instant::now());
        Member { name, child }
    }

    fn kill(&mut self, place: usize, kind: &'static str) {
        let name = self.replace(place);
        self.killed.insert(name, kind);
    }

    /// Kills a member, and starts another one in its place. Returns the name of the killed one.
    fn replace(&mut self, place: usize) -> String {
        let new = self.member();
        let mut old = std::mem::replace(&mut self.members[place], new);
        old.child.kill().unwrap();
        old.child.wait().unwrap();
        old.name
    }

    /// Runs the members for the time of the plan.
    async fn go(mut self, plan: &Plan, redis: Option<&RedisServer>) -> Figures {
        let mut random = fastrand::Rng::with_seed(seed());
        let start = Instant::now();
        let mut next_kill = plan.between_kills;
        let outage = plan.time / 2..plan.time / 2 + plan.outage;
        let mut is_stopped = false;
        let mut aimed: Vec<(Instant, String)> = Vec::new();
        let mut begun = 0;
        while start.elapsed() < plan.time {
            if let Some(redis) = redis
                && is_stopped != outage.contains(&start.elapsed())
            {
                is_stopped = !is_stopped;
                let signal = if is_stopped {
                    Signal::STOP
                } else {
                    Signal::CONT
                };
                kill_process(redis.pid(), signal).unwrap();
            }
            if start.elapsed() >= next_kill {
                next_kill += plan.between_kills;
                let kind = if is_stopped {
                    "at random, in the outage"
                } else {
                    "at random"
                };
                self.kill(random.usize(..MEMBERS), kind);
                self.figures.kills += 1;
            }
            self.look_at_the_server().await;
            for exchange in &self.seen[begun..] {
                if random.u8(..4) == 0 {
                    let at = Instant::now() + Duration::from_millis(random.u64(..25));
                    aimed.push((at, exchange.member.clone().unwrap()));
                }
            }
            begun = self.seen.len();
            let due = aimed.extract_if(.., |(at, _)| *at <= Instant::now());
            for (_, name) in due.collect::<Vec<_>>() {
                if let Some(place) = self.members.iter().position(|it| it.name == name) {
                    self.kill(place, "during an exchange");
                    self.figures.aimed_kills += 1;
                }
            }
            if self.read_lines() && !is_stopped {
                self.replace_the_login().await;
            }
            if !is_stopped {
                self.restart_the_told();
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let time = start.elapsed();
        for Member { name, .. } in &self.members {
            assert!(self.heard[name].elapsed() < PATIENCE, "{name} hangs");
        }
        for place in 0..MEMBERS {
            self.members[place].child.kill().unwrap();
            self.members[place].child.wait().unwrap();
        }
        self.look_at_the_server().await;
        self.judge(time)
    }

    /// Asks the server for exchanges that are new or that hadn't ended.
    async fn look_at_the_server(&mut self) {
        let has_ended = |it: &Exchange| it.access_token.is_some() || it.refused.is_some();
        let from = self.seen.iter().position(|it| !has_ended(it));
        let from = from.unwrap_or(self.seen.len());
        let url = format!("/interop/exchanges/{}/{from}", self.client);
        let list = text(self.http.get(OIDC.url(&url))).await;
        let list: Vec<Exchange> = serde_json::from_str(&list).unwrap();
        self.seen.truncate(from);
        self.seen.extend(list);
    }

    /// Returns whether a member told its caller to log in, and no new login explains it.
    fn read_lines(&mut self) -> bool {
        let mut is_ended = false;
        while let Ok(Line { member, text }) = self.lines.1.try_recv() {
            self.heard.insert(member.clone(), Instant::now());
            if let Some(millis) = text.strip_prefix("waited ") {
                let wait = Duration::from_millis(millis.parse().unwrap());
                self.figures.longest_wait = self.figures.longest_wait.max(wait);
            } else if let Some(token) = text.strip_prefix("token ") {
                self.used.insert(token.to_owned());
            } else if text.starts_with("login required: ") {
                self.figures.told_to_log_in += 1;
                // Lines of a killed member may arrive late.
                if self.members.iter().any(|it| it.name == member) {
                    is_ended |= self.new_login_at.is_none_or(|at| at.elapsed() > SLACK);
                    self.told.insert(member);
                }
            } else if let Some(error) = text.strip_prefix("error ") {
                self.figures.errors += 1;
                self.figures.other_errors.insert(error.to_owned());
            }
        }
        is_ended
    }

    /// Logs in again after a login that ended, if a kill excuses it.
    async fn replace_the_login(&mut self) {
        self.look_at_the_server().await;
        // What killed members printed arrives before the end of their pipes.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.read_lines();
        let excused = self.excused();
        assert!(
            excused.len() > self.figures.logins_lost.len(),
            "a process was told to log in, and no kill explains it: {:#?}",
            self.seen.iter().rev().take(6).collect::<Vec<_>>()
        );
        self.figures.logins_lost = excused;
        self.log_in().await;
        self.new_login_at = Some(Instant::now());
    }

    /// Restarts the members that told their callers to log in, as people do after a login. A cache
    /// looks for a new login only after 5 s.
    fn restart_the_told(&mut self) {
        let told = std::mem::take(&mut self.told);
        for place in 0..MEMBERS {
            if told.contains(&self.members[place].name) {
                self.replace(place);
            }
        }
    }

    /// Finds the refresh tokens that were sent twice because a kill lost the next one, and returns the
    /// kills.
    fn excused(&self) -> Vec<&'static str> {
        let refused = self.seen.iter().filter(|it| it.refused.is_some());
        let mut lost = BTreeMap::new();
        for again in refused {
            // A kill of the first sender, and nobody has used what it got.
            let first = self
                .seen
                .iter()
                .find(|it| it.sent == again.sent && it.access_token.is_some());
            let Some(first) = first else { continue };
            let kill = self.killed.get(first.member.as_ref().unwrap());
            let is_saved = self.used.contains(first.access_token.as_ref().unwrap());
            assert!(!is_saved, "sent again after the save: {first:?}, {again:?}");
            let kill =
                kill.unwrap_or_else(|| panic!("sent again without a kill: {first:?}, {again:?}"));
            lost.insert(first.sent.clone().unwrap(), *kill);
        }
        lost.into_values().collect()
    }

    fn judge(mut self, time: Duration) -> Figures {
        let excused = self.excused();
        // At the end, a member may have found out that nobody has told the caller yet.
        self.figures.logins_lost = excused;
        let answered = self.seen.iter().filter(|it| it.access_token.is_some());
        self.figures.exchanges = answered
            .filter(|it| it.member.as_deref() != Some("person"))
            .count();
        let lifetimes = time.as_secs_f64() / LIFETIME.as_secs_f64();
        let kills = self.figures.kills + self.figures.aimed_kills;
        self.figures.most_exchanges = lifetimes.ceil() as usize + kills + 1;
        assert!(
            self.figures.exchanges <= self.figures.most_exchanges,
            "{}",
            self.figures
        );
        assert!(!self.used.is_empty(), "{}", self.figures);
        std::mem::take(&mut self.figures)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for member in &mut self.members {
            drop(member.child.kill());
            drop(member.child.wait());
        }
    }
}
