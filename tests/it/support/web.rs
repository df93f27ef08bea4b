//! In-memory servers of any name. Each URL has a page, and every request is recorded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tower::{ServiceExt, service_fn};
use tower_auth::oauth2::Transport;
pub(crate) use tower_auth_test::ScriptedResponse as Page;
use tower_auth_test::{RecordedRequest, ScriptedServer};

/// The pages by URL. A URL without a page gets a 404.
#[derive(Clone)]
pub(crate) struct Web {
    pages: Arc<Mutex<HashMap<String, Page>>>,
    server: ScriptedServer,
    /// How many of the first requests were forgotten.
    forgotten: Arc<AtomicUsize>,
}

impl Default for Web {
    fn default() -> Self {
        let pages = Arc::new(Mutex::new(HashMap::<String, Page>::new()));
        let shared = Arc::clone(&pages);
        let server = ScriptedServer::new(move |request| {
            let page = shared
                .lock()
                .unwrap()
                .get(&request.uri().to_string())
                .cloned();
            page.unwrap_or_else(|| Page::new(404).body("not here"))
        });
        Self {
            pages,
            server,
            forgotten: Arc::default(),
        }
    }
}

impl Web {
    pub(crate) fn put(&self, url: &str, page: Page) {
        self.pages.lock().unwrap().insert(url.into(), page);
    }

    pub(crate) fn transport(&self) -> impl Transport + Clone + use<> {
        let server = self.server.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let server = server.clone();
            async move {
                // Concurrent requests get to this point before any of them is answered.
                tokio::task::yield_now().await;
                server.oneshot(request).await
            }
        })
    }

    pub(crate) fn asked(&self) -> Vec<RecordedRequest> {
        let mut requests = self.server.requests();
        requests.split_off(self.forgotten.load(Ordering::SeqCst))
    }

    /// Returns `GET https://…` of each request, and forgets the requests.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        let asked = self.asked();
        self.forgotten.fetch_add(asked.len(), Ordering::SeqCst);
        asked.iter().map(line).collect()
    }

    /// Returns how many requests had this line.
    pub(crate) fn times(&self, expected: &str) -> usize {
        let asked = self.asked();
        asked.iter().filter(|asked| line(asked) == expected).count()
    }
}

/// Returns `GET https://…`.
pub(crate) fn line(request: &RecordedRequest) -> String {
    format!("{} {}", request.method(), request.uri())
}

/// Returns whether the request contains nothing that could be a secret.
pub(crate) fn is_bare(request: &RecordedRequest) -> bool {
    let has = |name| request.headers().contains_key(name);
    request.body().is_empty() && !has("authorization") && !has("cookie")
}
