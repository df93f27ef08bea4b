//! Compressed responses, with the feature `gzip`.

use std::io::Write as _;

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use futures_util::FutureExt;
use serde_json::Value;

use super::*;

const LIMIT: usize = 64 * 1024;

fn gzip(data: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// Makes gzip data without compression.
fn stored(data: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(data.as_ref()).unwrap();
    encoder.finish().unwrap()
}

fn gzipped(status: u16, body: impl AsRef<[u8]>) -> ScriptedResponse {
    coded(status, &[b"gzip"], gzip(body))
}

/// Makes a response whose gzip data may be damaged.
fn raw(data: impl Into<Bytes>) -> ScriptedResponse {
    coded(200, &[b"gzip"], data)
}

fn padded(length: usize) -> String {
    format!("{ISSUED}{}", " ".repeat(length - ISSUED.len()))
}

/// Returns text that can't be compressed much.
fn noise(length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(7);
    (0..length).map(|_| random.alphanumeric()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_endpoints_response_is_decoded() {
    let server = ScriptedServer::new(|request| match request.path() {
        "/oauth/token" => gzipped(200, ISSUED),
        "/device" => gzipped(
            200,
            r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example/x","expires_in":60}"#,
        ),
        "/v1/auth/login" => gzipped(200, r#"{"access_token":"a","refresh_token":"r"}"#),
        "/v1/auth/refresh" => gzipped(200, r#"{"access_token":"b"}"#),
        "/revoke" => gzipped(
            400,
            r#"{"error":"invalid_request","error_description":"no"}"#,
        ),
        path => panic!("{path}"),
    });
    let client = client(&server).revoke_at("https://id.example.com/revoke");
    let source = ClientCredentials::with_client(client.unwrap());
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "issued");
    let error = source.close(Some(token)).await.unwrap_err();
    assert_eq!(error.code(), Some("invalid_request"));
    assert_eq!(error.description(), Some("no"));
    let prompt = device_login(&server).begin().await.unwrap();
    assert_eq!(prompt.user_code(), "u");
    let login = json_login(&server);
    let token = login.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "a");
    let token = login.fetch(Reason::Expired).await.unwrap();
    assert_eq!(token.secret(), "b");

    let web = web(|text| gzipped(200, text));
    let token = protected_resource(&web).fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "issued");
}

#[tokio::test]
async fn a_compressed_refusal_is_read() {
    let body = r#"{"error":"invalid_scope","error_description":"which one?"}"#;
    let error = fetch(gzipped(400, body)).await.unwrap_err();
    assert!(error.is_denied() && error.is_permanent());
    assert_eq!(error.code(), Some("invalid_scope"));
    assert_eq!(error.description(), Some("which one?"));
    assert!(!error.to_string().contains("coding"), "{error}");
    // The error hides a secret that the server echoes.
    let body = json!({"error": "no", "error_description": format!("not {SECRET}")});
    let error = fetch(gzipped(400, body.to_string())).await.unwrap_err();
    assert!(!all_text_of(&error).contains(SECRET), "{error:?}");
    // The page comes from a proxy.
    let page = gzipped(503, "<html>").header("retry-after", "7");
    let error = fetch(page).await.unwrap_err();
    assert!(error.is_denied() && error.is_transient());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    // The connection breaks within the page. The error is still the refusal.
    let page = gzipped(503, "<html>").reset_after(15);
    let error = fetch(page).await.unwrap_err();
    assert!(error.is_denied() && error.is_transient(), "{error}");
    assert!(!error.to_string().contains("coding"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_device_login_goes_on_after_a_compressed_response() {
    let server = ScriptedServer::new(|request| match (request.path(), request.number()) {
        ("/device", _) => gzipped(
            200,
            r#"{"device_code":"d","user_code":"u","verification_uri":"https://a.example/x","expires_in":60}"#,
        ),
        (_, 2) => gzipped(400, r#"{"error":"authorization_pending"}"#),
        (_, 3) => gzipped(400, r#"{"error":"slow_down"}"#),
        (_, 4) => gzipped(503, "<html>"),
        _ => gzipped(200, ISSUED),
    });
    let login = device_login(&server);
    let prompt = login.begin().await.unwrap();
    let source = login.finish(prompt).await.unwrap();
    let token = source.fetch(Reason::First).await.unwrap();
    assert_eq!(token.secret(), "issued");
    assert_eq!(server.requests().len(), 5);
}

#[tokio::test]
async fn any_spelling_of_the_coding_is_decoded() {
    let twice = gzip(gzip(ISSUED));
    for (lines, body) in [
        (&[b"gzip".as_slice()] as &[&[u8]], gzip(ISSUED)),
        (&[b"GZip"], gzip(ISSUED)),
        (&[b"x-gzip"], gzip(ISSUED)),
        (&[b"X-Gzip ,"], gzip(ISSUED)),
        (&[b"identity, gzip"], gzip(ISSUED)),
        (&[b"gzip", b"identity"], gzip(ISSUED)),
        (&[b"gzip, gzip"], twice.clone()),
        (&[b"gzip", b"x-gzip"], twice),
        (
            &[b"gzip,gzip,gzip,gzip,gzip"],
            gzip(gzip(gzip(gzip(gzip(ISSUED))))),
        ),
    ] {
        let token = fetch(coded(200, lines, body)).await.unwrap();
        assert_eq!(token.secret(), "issued", "{lines:?}");
    }
}

#[tokio::test]
async fn any_form_of_gzip_data_is_decoded() {
    let (start, end) = ISSUED.split_at(20);
    let mut with_header = GzBuilder::new()
        .filename("token.json")
        .comment("a token")
        .extra(vec![1; 300])
        .mtime(1_700_000_000)
        .write(Vec::new(), Compression::best());
    with_header.write_all(ISSUED.as_bytes()).unwrap();
    for body in [
        stored(ISSUED),
        with_header.finish().unwrap(),
        // Several members, some of them empty.
        [gzip(start), gzip(end)].concat(),
        [gzip(""), gzip(start), gzip(""), stored(end), gzip("")].concat(),
        // Zeros after the last member.
        [gzip(ISSUED), vec![0; 100]].concat(),
    ] {
        let token = fetch(raw(body)).await.unwrap();
        assert_eq!(token.secret(), "issued");
    }
    let error = fetch(gzipped(200, "")).await.unwrap_err();
    assert!(error.to_string().contains("has no body"), "{error}");
}

#[tokio::test]
async fn the_limit_of_64_kib_holds_for_the_decoded_body() {
    for compress in [|text: String| gzip(text), |text: String| stored(text)] {
        let token = fetch(raw(compress(padded(LIMIT)))).await.unwrap();
        assert_eq!(token.secret(), "issued");
        for length in [LIMIT + 1, LIMIT + 2000] {
            let error = fetch(raw(compress(padded(length)))).await.unwrap_err();
            assert!(error.is_reply(), "{error}");
            assert!(
                error.to_string().contains("is longer than 64 KiB"),
                "{error}"
            );
        }
    }
    // The limit holds for all members together, and for each of several codings.
    let half = " ".repeat(LIMIT / 2 + 1);
    for body in [
        [gzip(padded(LIMIT)), gzip(" ")].concat(),
        [gzip(ISSUED), gzip(&half), gzip(&half)].concat(),
    ] {
        let error = fetch(raw(body)).await.unwrap_err();
        assert!(
            error.to_string().contains("is longer than 64 KiB"),
            "{error}"
        );
    }
    for body in [
        gzip(gzip(padded(LIMIT + 1))),
        gzip(stored(padded(2 * LIMIT))),
    ] {
        let error = fetch(coded(200, &[b"gzip, gzip"], body)).await.unwrap_err();
        assert!(
            error.to_string().contains("is longer than 64 KiB"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_bomb_takes_no_memory() {
    let bomb = gzip(vec![b' '; 2 * 1024 * 1024]);
    assert!(bomb.len() < LIMIT / 16);
    let source = ClientCredentials::with_client(client(&responding(raw(bomb.clone()))));
    let mut fetched = None;
    let memory = allocation_counter::measure(|| {
        fetched = source.fetch(Reason::First).now_or_never();
    });
    let error = fetched.unwrap().unwrap_err();
    assert!(error.is_reply(), "{error}");
    assert!(
        error.to_string().contains("is longer than 64 KiB"),
        "{error}"
    );
    assert!(memory.bytes_max < 512 * 1024, "{memory:?}");
    // If an error page is such a bomb, the caller still gets the server's refusal.
    let error = fetch(coded(503, &[b"gzip"], bomb)).await.unwrap_err();
    assert!(error.is_denied() && error.is_transient(), "{error}");
    // The data contains 1000 empty members.
    let members = gzip("").repeat(1000);
    let error = fetch(raw(members)).await.unwrap_err();
    assert!(error.is_reply(), "{error}");
}

#[tokio::test]
async fn metadata_is_limited_too() {
    let long = |text: String| gzipped(200, format!("{text}{}", " ".repeat(LIMIT)));
    let fetched = protected_resource(&web(long)).fetch(Reason::First).await;
    let error = fetched.unwrap_err();
    assert!(error.is_reply(), "{error}");
    assert!(
        error.to_string().contains("is longer than 64 KiB"),
        "{error}"
    );
    let damaged = |text: String| coded(200, &[b"gzip"], text);
    let fetched = protected_resource(&web(damaged)).fetch(Reason::First).await;
    let text = fetched.unwrap_err().to_string();
    assert!(text.contains("isn't valid gzip data"), "{text}");
}

#[tokio::test]
async fn data_that_is_cut_off_anywhere_is_an_error() {
    let data = gzip(format!("{ISSUED}{}", " ".repeat(1000)));
    for length in 1..data.len() {
        let error = fetch(raw(data[..length].to_vec())).await.unwrap_err();
        assert!(error.is_reply(), "{length}: {error}");
        let text = error.to_string();
        assert!(text.contains("ends too early"), "{length}: {text}");
    }
}

#[tokio::test]
async fn damaged_data_is_an_error_or_the_token() {
    let data = gzip(ISSUED);
    let mut errors = 0;
    for position in 0..data.len() {
        for bit in 0..8 {
            let mut damaged = data.clone();
            damaged[position] ^= 1 << bit;
            match fetch(raw(damaged)).await {
                Ok(token) => assert_eq!(token.secret(), "issued"),
                Err(error) => {
                    errors += 1;
                    assert!(error.is_reply(), "{error}");
                    assert!(error.to_string().contains("`gzip`"), "{error}");
                }
            }
        }
    }
    // Damage to the time or the operating system in the header has no effect.
    assert!(errors > 8 * (data.len() - 10), "{errors}");
    for data in [
        [gzip(ISSUED), b"garbage".to_vec()].concat(),
        [b"  ".to_vec(), gzip(ISSUED)].concat(),
        ISSUED.into(),
        vec![0; 100],
    ] {
        let text = fetch(raw(data)).await.unwrap_err().to_string();
        assert!(text.contains("isn't valid gzip data"), "{text}");
    }
    let error = fetch(coded(503, &[b"gzip"], "<html>")).await.unwrap_err();
    assert!(error.is_denied() && error.is_transient(), "{error}");
    assert!(
        error.to_string().contains("isn't valid gzip data"),
        "{error}"
    );
}

/// Asserts that a refresh with this response fails, but saves the new refresh token.
async fn assert_saved(response: ScriptedResponse) {
    let server = responding(response);
    let store = Store::holding("planted-1");
    let source = RefreshToken::stored(client(&server), store.clone());
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(!all_text_of(&error).contains("planted"), "{error:?}");
    assert_eq!(store.saves(), ["planted-2"], "{error}");
}

#[tokio::test]
async fn a_refresh_token_in_the_decoded_part_is_saved() {
    let start = r#"{"refresh_token":"planted-2","access_token":""#;
    let data = gzip(format!("{start}{}\"}}", noise(20_000)));
    assert!(data.len() > 10_000);
    // The data ends too early, or the connection breaks.
    for length in [data.len() / 2, data.len() - 8, data.len() - 1] {
        assert_saved(raw(data[..length].to_vec())).await;
        assert_saved(raw(data.clone()).reset_after(length)).await;
    }
    // The checksum, the second half of the data, or the next member is wrong.
    let mut wrong_sum = data.clone();
    *wrong_sum.last_mut().unwrap() ^= 1;
    assert_saved(raw(wrong_sum)).await;
    let mut damaged = data.clone();
    damaged[data.len() / 2..].fill(0xff);
    assert_saved(raw(damaged)).await;
    assert_saved(raw([data.clone(), b"garbage".to_vec()].concat())).await;
    let first = gzip(r#"{"access_token":"a","refresh_token":"planted-2"}"#);
    assert_saved(raw([first, gzip(" ")[..15].to_vec()].concat())).await;
    // The decoded body is too long.
    assert_saved(gzipped(200, format!("{start}{}", "x".repeat(10 * LIMIT)))).await;
    // Both codings are cut off.
    let twice = gzip(&data);
    let cut_off = twice[..twice.len() / 2].to_vec();
    assert_saved(coded(200, &[b"gzip, gzip"], cut_off)).await;
}

#[tokio::test]
async fn a_refresh_token_that_is_cut_off_is_not_saved() {
    let form = format!("access_token=t2&refresh_token=planted-2{}", noise(20_000));
    let data = gzip(form);
    let server = responding(raw(data[..data.len() / 2].to_vec()));
    let store = Store::holding("planted-1");
    let source = RefreshToken::stored(client(&server), store.clone());
    let error = source.fetch(Reason::Expired).await.unwrap_err();
    assert!(error.is_reply(), "{error}");
    assert!(store.saves().is_empty());
}

#[tokio::test]
async fn a_compressed_body_is_read_in_another_format() {
    let format = || TokenResponseFormat::new().form_encoded();
    let form = "application/x-www-form-urlencoded";
    let body = "access_token=t&refresh_token=r&expires_in=60";
    let response = |status: u16, body: &str| {
        ScriptedResponse::new(status)
            .header("content-type", form)
            .header("content-encoding", "gzip")
            .body(gzip(body))
    };
    let server = responding(response(200, body));
    let source = ClientCredentials::with_client(client(&server).response_format(format()));
    assert_eq!(source.fetch(Reason::First).await.unwrap().secret(), "t");

    let refusal = "error=bad_refresh_token&error_description=gone";
    for status in [200, 400] {
        let server = responding(response(status, refusal));
        let format = format().login_required_code("bad_refresh_token");
        let source = RefreshToken::new(client(&server).response_format(format), "r1");
        let error = source.fetch(Reason::First).await.unwrap_err();
        assert!(error.is_login_required(), "{status}: {error}");
    }
}

#[tokio::test]
async fn a_nested_refresh_token_in_data_that_is_cut_off_is_saved() {
    let body = r#"{"refresh_token":"other","data":{"refresh_token":"r2","a":1},"x":"0123456789"}"#;
    let data = gzip(body);
    let whole = stored(body);
    for data in [
        &data[..data.len() - 4],
        &data[..data.len() - 8],
        &whole[..whole.len() - 12],
    ] {
        let server = ScriptedServer::new(|_| ScriptedResponse::reset());
        server.respond_next(raw(data.to_vec()));
        let format = TokenResponseFormat::new();
        let format = format.refresh_token_field("/data/refresh_token").unwrap();
        let store = Store::holding("r1");
        let client = client(&server).response_format(format);
        let source = RefreshToken::stored(client, store.clone());
        source.fetch(Reason::First).await.unwrap_err();
        assert_eq!(store.saves(), ["r2"], "{}", data.len());
    }
}

#[tokio::test]
async fn a_json_login_keeps_the_refresh_token_of_damaged_data() {
    let body = r#"{"access_token":"t2","refresh_token":"r2"}"#;
    let mut damaged = gzip(body);
    let end = damaged.len();
    damaged[end - 1] ^= 1;
    let server = ScriptedServer::new(|request| {
        let body: Value = serde_json::from_str(&request.text()).unwrap();
        match body["refresh_token"].as_str() {
            Some("r2") => ScriptedResponse::json(200, r#"{"access_token":"t3"}"#),
            other => panic!("the server got {other:?}"),
        }
    });
    server.respond_next(gzipped(
        200,
        r#"{"access_token":"t1","refresh_token":"r1"}"#,
    ));
    server.respond_next(raw(damaged));
    let login = json_login(&server);
    assert_eq!(login.fetch(Reason::First).await.unwrap().secret(), "t1");
    login.fetch(Reason::Expired).await.unwrap_err();
    assert_eq!(login.fetch(Reason::Expired).await.unwrap().secret(), "t3");
}

#[tokio::test(start_paused = true)]
async fn a_compressed_response_that_stalls_does_not_lose_what_has_arrived() {
    let body = r#"{"access_token":"t2","refresh_token":"r2","x":"0123456789"}"#;
    let data = stored(body);
    let server = ScriptedServer::new(|_| ScriptedResponse::stall());
    server.respond_next(raw(data.clone()).stall_after(data.len() - 12));
    let store = Store::holding("r1");
    let source = RefreshToken::stored(client(&server), store.clone());
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(store.saves(), ["r2"]);

    // A form's last parameter may be cut off.
    let data = stored("refresh_token=r2&access_token=t2");
    for (end, saved) in [(12, &["r2"] as &[&str]), (28, &[])] {
        let server = ScriptedServer::new(|_| ScriptedResponse::stall());
        server.respond_next(raw(data.clone()).stall_after(data.len() - end));
        let store = Store::holding("r1");
        let source = RefreshToken::stored(client(&server), store.clone());
        source.fetch(Reason::First).await.unwrap_err();
        assert_eq!(store.saves(), saved, "{end}");
    }
}

/// Without the whole body, a code may be cut off in the middle.
#[tokio::test]
async fn a_compressed_refusal_whose_body_breaks_is_read_without_its_body() {
    let data = stored("error=invalid_grant_type");
    let length = data.len() - 8 - "_type".len();
    let refusal = ScriptedResponse::new(400)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("content-encoding", "gzip")
        .body(data);
    let server = responding(refusal.reset_after(length));
    let format = TokenResponseFormat::new().form_encoded();
    let source = RefreshToken::new(client(&server).response_format(format), "r1");
    let error = source.fetch(Reason::First).await.unwrap_err();
    assert!(error.is_denied() && !error.is_login_required(), "{error}");
    assert_eq!(error.code(), None);
    assert!(!error.to_string().contains("coding"), "{error}");
}

#[tokio::test]
async fn a_name_that_is_no_coding_makes_no_difference_to_compressed_text() {
    for lines in [
        b"gzip, utf-8".as_slice(),
        b"utf-8,gzip",
        b"none, GZIP, 8bit",
    ] {
        let token = fetch(coded(200, &[lines], gzip(ISSUED))).await.unwrap();
        assert_eq!(token.secret(), "issued");
    }
    let error = fetch(coded(200, &[b"gzip, utf-8"], gzip(gzip(ISSUED)))).await;
    assert_names(&error.unwrap_err(), "`gzip, utf-8`");
}
