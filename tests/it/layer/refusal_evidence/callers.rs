//! One resource refuses every token. The tests check what its callers get and what is logged.

use http::header::WWW_AUTHENTICATE;
use tower_auth::NotReplayed;
use tracing::Level;

use super::simulated_api::FETCH;
use super::{API, HOUR, MINUTE, NO_WAIT, SECOND, Simulation, by_turns, get};
use crate::support::call;
use crate::support::log::{Line, Log, listen};

/// The `Debug` output of the reason.
const RESOURCE: &str = "Resource";

#[tokio::test(start_paused = true)]
async fn a_refused_resources_caller_gets_the_servers_response_and_that_others_accept_the_token() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    simulation.drive(20, 25 * SECOND, by_turns).await;
    let response = call(&mut simulation.clients[0], get("/admin"));
    let response = response.await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(
        response.headers()[WWW_AUTHENTICATE],
        r#"Bearer realm="api""#
    );
    assert_eq!(*response.body(), "who are you?");
    let reason: &NotReplayed = response.extensions().get().unwrap();
    assert!(matches!(reason, NotReplayed::Resource), "{reason:?}");
    assert!(reason.to_string().contains("resource"), "{reason}");
    assert!(!reason.to_string().contains("admin"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn callers_of_a_refused_resource_are_told_so_unless_a_new_token_was_tried_for_them() {
    let mut simulation = Simulation::new(|asked| asked.path != "/admin");
    simulation.drive(20, 10 * MINUTE, by_turns).await;
    simulation.finish().await;
    let calls = simulation.calls_to("/admin");
    let with = |reason: &str| {
        let with = calls
            .iter()
            .filter(|it| it.reason.as_deref() == Some(reason));
        with.count()
    };
    let (resource, again) = (with(RESOURCE), with("Again"));
    let fetches = simulation.issuer.count();
    // Before a request with the new token is accepted, up to three callers per fetch get neither
    // reason.
    assert!(
        resource + again + 3 * fetches >= calls.len(),
        "{resource}, {again}"
    );
    // The callers with `Again` waited for a fetch, or had a token younger than two seconds.
    assert!(again <= 30 * fetches, "{again}");
    for call in calls {
        assert!(call.took < FETCH * 2 + SECOND + NO_WAIT, "{call:?}");
        // Between 20 and 30 s after the start, the token is neither young nor due for a
        // replacement.
        if (20 * SECOND..30 * SECOND).contains(&call.at) {
            assert!(call.took < NO_WAIT, "{call:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn where_every_resource_refuses_every_token_the_caller_is_told_that() {
    let mut simulation = Simulation::new(|_| false);
    simulation
        .drive(20, 25 * SECOND, |n| get(&format!("/{}", n % 7)))
        .await;
    let response = call(&mut simulation.clients[0], get("/1"));
    let response = response.await.unwrap();
    let reason = response.extensions().get();
    assert!(
        matches!(reason, Some(NotReplayed::RefusalBudget)),
        "{reason:?}"
    );
}

/// The resource refuses only the revoked token. All other resources would refuse that token too.
#[tokio::test(start_paused = true)]
async fn a_revoked_token_that_cannot_be_replaced_is_no_fault_of_a_resource() {
    let mut simulation = Simulation::new(|_| true);
    simulation.drive(20, 10 * SECOND, |_| get("/")).await;
    simulation.issuer.set_down(true);
    simulation.issuer.revoke_all();
    simulation.drive(20, 10 * SECOND, |_| get("/")).await;
    simulation.finish().await;
    let calls = simulation.calls_since(10 * SECOND, "/");
    for call in calls {
        assert_eq!(call.status, Ok(401));
        assert_ne!(call.reason.as_deref(), Some(RESOURCE), "{call:?}");
    }
}

fn warnings(log: &Log) -> Vec<Line> {
    let lines = log.all();
    for line in &lines {
        let text = line.to_string();
        assert!(
            !text.contains("admin") && !text.contains("planted"),
            "{text}"
        );
    }
    let warnings = lines.into_iter().filter(|line| line.level == Level::WARN);
    warnings.collect()
}

/// Returns the value of the field whose name has this suffix.
fn field<'a>(line: &'a Line, suffix: &str) -> Option<&'a str> {
    let mut pairs = line.fields.iter().filter_map(|field| field.split_once('='));
    let found = pairs.find_map(|(name, value)| name.ends_with(suffix).then_some(value));
    found.map(|value| value.trim_matches('"'))
}

/// Alternates between `/` and a path and query that must not be logged.
fn secretly(n: usize) -> http::Request<super::Payload> {
    get(["/", "/admin/customer-7?key=planted"][n % 2])
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_refuses_tokens_is_logged_once_by_method_and_origin() {
    let (log, _guard) = listen();
    let mut simulation = Simulation::new(|asked| !asked.path.starts_with("/admin"));
    simulation.drive(20, 10 * MINUTE, secretly).await;
    simulation.finish().await;
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(field(&warnings[0], "method"), Some("GET"));
    assert_eq!(field(&warnings[0], "origin"), Some(API));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_resources_that_refuse_tokens_are_logged_once() {
    let (log, _guard) = listen();
    let mut simulation = Simulation::new(|asked| !asked.path.starts_with("/admin"));
    let request = |n: usize| match n % 2 {
        0 => get("/"),
        _ => get(&format!("/admin/{}", n / 2 % 1_000)),
    };
    simulation.drive(20, 5 * MINUTE, request).await;
    let warnings = warnings(&log);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
}

/// The refusals end, and the next token stays unrefused for a long time. Then another resource
/// begins to refuse.
#[tokio::test(start_paused = true)]
async fn a_new_episode_of_refusals_is_logged_again() {
    let (log, _guard) = listen();
    let mut simulation = Simulation::new(|asked| !asked.path.starts_with("/admin"));
    simulation.drive(20, MINUTE, secretly).await;
    assert_eq!(warnings(&log).len(), 1);
    simulation.issuer.revoke_all();
    simulation.drive(20, HOUR, |_| get("/")).await;
    assert_eq!(warnings(&log).len(), 0);
    simulation.drive(20, MINUTE, secretly).await;
    assert_eq!(warnings(&log).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_that_nobody_notices_is_not_warned_of() {
    let (log, _guard) = listen();
    let mut simulation = Simulation::new(|_| true);
    simulation.drive(20, MINUTE, |_| get("/")).await;
    simulation.issuer.revoke_all();
    simulation.drive(20, MINUTE, |_| get("/")).await;
    let warnings = warnings(&log);
    assert!(warnings.is_empty(), "{warnings:#?}");
}
