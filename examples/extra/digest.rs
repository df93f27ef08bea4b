//! Digest authentication (RFC 7616). `URL=… LOGIN=… PASSWORD=… cargo run -p tower-auth-examples --example digest`
#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use digest_auth::{AuthContext, WwwAuthenticateHeader, parse};
use http::{HeaderMap, StatusCode, header};
use tower::{Layer, ServiceExt};
use tower_auth::token::{Applied, Feedback, PerRequestCredential, RequestHead};
use tower_auth::{AuthLayer, BoxError, Origin, Place, Token};

/// The last challenge of each origin, and how often the challenge's nonce was used. When the
/// password changes, the new tokens share this map.
pub(crate) type Challenges = Arc<Mutex<HashMap<String, WwwAuthenticateHeader>>>;
pub(crate) type Login = (String, String, Option<String>); // User, password, client's nonce.
pub(crate) struct Digest(pub(crate) Login, pub(crate) Challenges);

impl PerRequestCredential for Digest {
    fn apply(&self, head: &RequestHead, headers: &mut HeaderMap) -> Result<Applied, BoxError> {
        let mut challenges = self.1.lock().map_err(|_| "the lock is poisoned")?;
        if let Some(challenge) = challenges.get_mut(head.origin().unwrap_or_default()) {
            let (user, password, nonce) = &self.0;
            let mut context = AuthContext::new(user, password, head.path_and_query());
            context.method = head.method().as_str().into();
            context.cnonce = nonce.as_deref().map(Into::into);
            let answer = challenge.respond(&context)?.to_string();
            headers.insert(header::AUTHORIZATION, answer.parse()?);
        }
        Ok(Applied::Done)
    }

    fn observe(&self, head: &RequestHead, status: StatusCode, headers: &HeaderMap) -> Feedback {
        let lines = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let mut wanted = lines.filter_map(|line| parse(line.to_str().ok()?).ok());
        let (401, Some(new), Ok(mut last)) = (status.as_u16(), wanted.next(), self.1.lock()) else {
            return Feedback::Nothing;
        };
        let (origin, stale) = (head.origin().unwrap_or_default(), new.stale);
        last.retain(|of, last| of != origin || last.nonce == new.nonce);
        last.entry(origin.to_owned()).or_insert(new);
        match head.sent_credential() {
            Some(_) if !stale => Feedback::Nothing,
            _ => Feedback::OnceMore,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let [url, user, password] = ["URL", "LOGIN", "PASSWORD"].map(std::env::var);
    let (http, secret) = (reqwest::Client::new(), password?);
    let request = http.get(url?).build()?;
    let origin = Origin::of(&request).ok_or("the URL has no host")?;
    let auth = Digest((user?, secret.clone(), None), Challenges::default());
    let token = Token::per_request(Place::Header(header::AUTHORIZATION), secret, Arc::new(auth));
    let layer = AuthLayer::new(move |_| std::future::ready(Ok(token.clone())));
    let client = layer.only_to([origin.to_string()])?.layer(http);
    println!("{}", client.oneshot(request).await?.status());
    Ok(())
}
