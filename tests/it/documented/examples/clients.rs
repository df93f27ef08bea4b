//! The layer in front of each client.

use super::{ID, SECRET, Servers, example, support};

#[tokio::test]
async fn quickstart_fetches_one_token_a_phase_and_refuses_no_caller() {
    let run = example("quickstart").run().await;
    run.succeeded();
    for phase in ["no token yet", "token expired", "token revoked"] {
        let line = run.line(phase);
        let figures: Vec<&str> = line
            .split_whitespace()
            .skip(phase.split(' ').count())
            .collect();
        let [requests, fetches, replays, refusals, ..] = figures[..] else {
            panic!("{line}");
        };
        assert_eq!((requests, fetches, refusals), ("1000", "1", "0"), "{line}");
        assert_eq!(replays == "0", phase != "token revoked", "{line}");
    }
    let total: Vec<&str> = run.line("total").split_whitespace().collect();
    assert_eq!(
        (total[1], total[2], total[4]),
        ("3000", "3", "0"),
        "{total:?}"
    );
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[tokio::test]
async fn quickstart_does_the_same_against_services_that_it_is_told_of() {
    let servers = Servers::start("https://api.example.com", "read").await;
    let run = example("quickstart")
        .env("TOKEN_URL", servers.authorization.token_url())
        .env("API_URL", format!("{}/v1/notes", servers.api.url()))
        .env("CLIENT_ID", ID)
        .env("CLIENT_SECRET", SECRET)
        .env("AUDIENCE", "https://api.example.com")
        .env("SCOPE", "read")
        .run()
        .await;
    run.succeeded();
    assert_eq!(servers.api.requests(), 60);
    assert_eq!(servers.api.refusals(), 0);
    assert_eq!(servers.authorization.fetches(), 3);
    run.leaks_nothing(&servers.secrets());
}

/// `tests/run.sh` runs the example's own tests.
#[tokio::test]
async fn unit_test_reads_a_note_from_the_fake_servers() {
    let run = example("unit_test").run().await;
    run.succeeded();
    assert!(run.has("\"path\":\"/today\""), "{run:?}");
    assert!(run.has("GET /today Bearer token-1 -> 200"), "{run:?}");
    run.leaks_nothing(&["a-secret"]);
}

#[tokio::test]
async fn hyper_client_is_refused_once_and_does_not_notice() {
    let run = example("hyper_client").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 2);
    assert!(run.has("\"received_bytes\":16"));
    assert!(run.has("saw 3 requests and refused 1 of them"));
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[tokio::test]
async fn reqwest_client_is_refused_once_and_does_not_notice() {
    let run = example("reqwest_client").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 2);
    assert!(run.has("POST /notes") && run.has("\"received_bytes\":16"));
    assert!(run.has("saw 3 requests and refused 1 of them"));
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_proxy_sends_a_streamed_body_again() {
    let run = example("axum_proxy").run().await;
    run.succeeded();
    assert_eq!(run.lines_with("200 OK"), 2);
    assert!(run.has("\"received_bytes\":16"));
    assert!(run.has("saw 3 requests and refused 1 of them"));
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[cfg(feature = "tonic")]
#[tokio::test]
async fn tonic_client_is_refused_and_loses_no_message() {
    let run = example("tonic_client").run().await;
    run.succeeded();
    assert!(run.has("3 notes of 29 bytes"));
    assert!(run.has("refused calls: 1"));
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}
