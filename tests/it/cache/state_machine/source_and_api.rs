//! The source from which the cache gets tokens, and the API that gets the requests.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::oneshot;
use tokio::task::Id;
use tower_auth::{Error, Reason, Token, TokenSource};
use tower_service::Service;

use super::model::{Manner, Resource};

/// A source that records the task of each fetch, and the token that is passed to `close`.
pub(super) struct Noting<S> {
    pub(super) inner: S,
    pub(super) notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
pub(super) struct Notes {
    pub(super) tasks: VecDeque<Id>,
    pub(super) closed_with: Vec<Option<Token>>,
}

impl<S> TokenSource for Noting<S>
where
    S: TokenSource,
{
    fn fetch(&self, reason: Reason) -> impl Future<Output = Result<Token, Error>> + Send {
        self.notes
            .lock()
            .unwrap()
            .tasks
            .push_back(tokio::task::id());
        self.inner.fetch(reason)
    }

    async fn close(&self, last: Option<Token>) -> Result<(), Error> {
        self.notes.lock().unwrap().closed_with.push(last);
        Ok(())
    }
}

/// An API that accepts the tokens that the test names. The API responds at once, or when the test
/// says so.
#[derive(Clone, Default)]
pub(super) struct Api {
    inner: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    is_busy: bool,
    waiting: Vec<Waker>,
    accepted: Vec<String>,
    manners: HashMap<String, Manner>,
    turns: HashMap<String, u32>,
    credentials: Vec<String>,
    /// The sender of each request's response, if the response is pending.
    pending_responses: Vec<Option<oneshot::Sender<u16>>>,
}

impl Api {
    pub(super) fn admit(&self, token: usize) {
        let credential = format!("Bearer token-{token}");
        self.inner.lock().unwrap().accepted.push(credential);
    }

    pub(super) fn revoke(&self, token: usize) {
        let credential = format!("Bearer token-{token}");
        let mut inside = self.inner.lock().unwrap();
        inside.accepted.retain(|accepted| *accepted != credential);
    }

    pub(super) fn behave(&self, resource: Resource, manner: Manner) {
        let path = path_of(resource);
        self.inner.lock().unwrap().manners.insert(path, manner);
    }

    pub(super) fn set_busy(&self, is_busy: bool) {
        let mut inside = self.inner.lock().unwrap();
        inside.is_busy = is_busy;
        if !is_busy {
            inside.waiting.drain(..).for_each(Waker::wake);
        }
    }

    /// The send fails if the caller was dropped.
    pub(super) fn respond(&self, call: usize, status: u16) {
        let sender = self.inner.lock().unwrap().pending_responses[call].take();
        sender.unwrap().send(status).ok();
    }

    /// Returns the `Authorization` of every request so far, or `-` for a request without it.
    pub(super) fn credentials(&self) -> Vec<String> {
        self.inner.lock().unwrap().credentials.clone()
    }
}

impl Service<Request<Full<Bytes>>> for Api {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        let mut inside = self.inner.lock().unwrap();
        if inside.is_busy {
            inside.waiting.push(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let mut inside = self.inner.lock().unwrap();
        let credential = match request.headers().get(AUTHORIZATION) {
            Some(value) => value.to_str().unwrap().to_owned(),
            None => String::from("-"),
        };
        let path = request.uri().path().to_owned();
        let is_slow = path.starts_with("/slow");
        let manner = inside.manners.get(&path).copied().unwrap_or_default();
        let turn = inside.turns.entry(path).or_default();
        *turn += 1;
        let is_fair = match manner {
            Manner::Fair => true,
            Manner::RefusesAll => false,
            Manner::ByTurns => (*turn).is_multiple_of(2),
        };
        let is_accepted = is_fair && inside.accepted.contains(&credential);
        inside.credentials.push(credential);
        if !is_slow {
            inside.pending_responses.push(None);
            return Box::pin(ready(Ok(with_status(if is_accepted { 200 } else { 401 }))));
        }
        let (sender, status) = oneshot::channel();
        inside.pending_responses.push(Some(sender));
        Box::pin(async { Ok(with_status(status.await.unwrap())) })
    }
}

fn with_status(status: u16) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status.try_into().unwrap();
    response
}

pub(super) fn path_of(resource: Resource) -> String {
    let speed = if resource.is_slow { "slow" } else { "quick" };
    format!("/{speed}/{}", resource.nth)
}
