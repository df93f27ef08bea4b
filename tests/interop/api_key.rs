//! API keys that nginx checks, in a header and in the query.

use std::fs;
use std::path::PathBuf;

use http::StatusCode;
use reqwest::{Client, Response};
use tempfile::TempDir;
use tower::{ServiceBuilder, ServiceExt};
use tower_auth::{ApiKey, Auth, AuthLayer, NotReplayed, SecretSource};

use crate::free_port::free_port;
use crate::nginx::Nginx;
use crate::servers::HTTP;

struct Api {
    nginx: Nginx,
    url: String,
}

impl Api {
    /// Starts an API that knows these keys, in their URL-encoded form.
    fn knowing(keys: &[&str]) -> Self {
        let port = free_port();
        let api = format!(
            "map $http_x_api_key $key {{ default 0; include keys; }}
            map $arg_api_key $key_in_query {{ default 0; include keys; }}
            server {{
                listen 127.0.0.1:{port};
                location /header {{ if ($key = 0) {{ return 401; }} return 200 \"$args\"; }}
                location /query {{ if ($key_in_query = 0) {{ return 401; }} return 200 \"$args\"; }}
            }}"
        );
        Self {
            nginx: Nginx::start(&api, &[("keys", &known(keys))]),
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    async fn knows_only(&self, key: &str) {
        self.nginx.replace("keys", &known(&[key])).await;
    }

    fn client(&self, key: ApiKey) -> Auth<Client> {
        ServiceBuilder::new()
            .layer(AuthLayer::new(key).only_to([&self.url]).unwrap())
            .service(HTTP.clone())
    }

    async fn get(&self, client: &Auth<Client>, path: &str) -> Response {
        let request = HTTP.get(format!("{}{path}", self.url));
        let request = request.build().unwrap();
        client.clone().oneshot(request).await.unwrap()
    }

    async fn is_let_in(&self, client: &Auth<Client>, path: &str) {
        assert_eq!(self.get(client, path).await.status(), StatusCode::OK);
    }
}

fn known(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("\"{key}\" 1;\n")).collect()
}

fn file_with(key: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, key).unwrap();
    (folder, path)
}

#[tokio::test]
async fn a_key_in_a_file_that_was_replaced_is_read_anew_when_nginx_refuses_the_old_one() {
    let api = Api::knowing(&["the-old-key"]);
    let (_folder, path) = file_with("the-old-key\n");
    let client = api.client(ApiKey::new(SecretSource::file(&path)));
    api.is_let_in(&client, "/header").await;
    fs::write(&path, "the-new-key\n").unwrap();
    api.knows_only("the-new-key").await;
    api.is_let_in(&client, "/header").await;
    api.is_let_in(&client, "/header").await;
    let [ok, refused] = ["GET /header 200", "GET /header 401"];
    assert_eq!(api.nginx.lines().await, [ok, refused, ok, ok]);
}

#[tokio::test]
async fn a_key_that_was_offered_is_taken_when_nginx_refuses_the_one_in_use() {
    let api = Api::knowing(&["the-old-key"]);
    let (key, rotation) = ApiKey::rotating("the-old-key");
    let client = api.client(key);
    rotation.offer("the-new-key");
    api.is_let_in(&client, "/header").await;
    api.knows_only("the-new-key").await;
    api.is_let_in(&client, "/header").await;
    let [ok, refused] = ["GET /header 200", "GET /header 401"];
    assert_eq!(api.nginx.lines().await, [ok, refused, ok]);
}

#[tokio::test]
async fn a_key_in_the_query_arrives_behind_the_callers_own_parameters() {
    let api = Api::knowing(&["k%2By%2F%26%3D1"]);
    let (_folder, path) = file_with("k+y/&=1");
    let key = ApiKey::new(SecretSource::file(&path)).query("api_key");
    let client = api.client(key.unwrap());
    let response = api.get(&client, "/query?page=2").await;
    assert_eq!(response.status(), StatusCode::OK);
    let query = response.text().await.unwrap();
    assert_eq!(query, "page=2&api_key=k%2By%2F%26%3D1");
    fs::write(&path, "the-new-key").unwrap();
    api.knows_only("the-new-key").await;
    let query = api.get(&client, "/query?page=2").await.text().await;
    assert_eq!(query.unwrap(), "page=2&api_key=the-new-key");
    let [ok, refused] = ["GET /query 200", "GET /query 401"];
    assert_eq!(api.nginx.lines().await, [ok, refused, ok]);
}

#[tokio::test]
async fn a_key_that_nginx_doesnt_know_is_tried_once() {
    let api = Api::knowing(&["another"]);
    let client = api.client(ApiKey::new("a-wrong-key"));
    let response = api.get(&client, "/header").await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let why = response.extensions().get::<NotReplayed>();
    assert!(matches!(why, Some(NotReplayed::SameToken)), "{why:?}");
    assert_eq!(api.nginx.lines().await, ["GET /header 401"]);
}
