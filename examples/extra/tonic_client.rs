//! Uses the layer between tonic's channel and a generated client.
//!
//! ```text
//! cargo run -p tower-auth-examples --example tonic_client
//! ```
#![allow(clippy::print_stdout)]

#[allow(unreachable_pub, reason = "generated")]
#[rustfmt::skip]
#[path = "support/notes.rs"]
mod notes;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures_util::StreamExt;
use notes::notes_client::NotesClient;
use notes::notes_server::{Notes, NotesServer};
use notes::{Ack, Note, Summary};
use support::{AUDIENCE, CLIENT_ID, CLIENT_SECRET, Report, SCOPE, Servers, Tokens};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};
use tower::ServiceBuilder;
use tower_auth::AuthLayer;
use tower_auth::oauth2::ClientCredentials;

#[tokio::main]
async fn main() -> Result<(), Report> {
    let servers = Servers::start().await?;
    let refusals = Arc::new(AtomicUsize::new(0));
    let address = serve_notes(
        servers.authorization.tokens().clone(),
        Arc::clone(&refusals),
    )?;

    let token_url = servers.authorization.token_url();
    let source = ClientCredentials::new(token_url, CLIENT_ID, CLIENT_SECRET)?
        .audience(AUDIENCE)
        .scope(SCOPE);
    let origin = format!("http://{address}");
    let channel = Channel::from_shared(origin.clone())?.connect_lazy();
    let channel = ServiceBuilder::new()
        .layer(AuthLayer::new(source).only_to([&origin])?)
        .service(channel);
    // The origin puts the target into each request, so that the layer can check the target.
    // Otherwise a request has only a path, and the channel chooses the target.
    let mut client = NotesClient::with_origin(channel, origin.parse()?);

    let note = |text: &str| Note {
        text: text.to_owned(),
    };
    let ack = client.add(note("buy milk")).await?.into_inner();
    println!("add: {} kept", ack.kept);

    let ack = client.add(note("water the plants")).await?.into_inner();
    println!("add: {} kept", ack.kept);

    // The API refuses the next call with status 16 (UNAUTHENTICATED). Then the layer replays the
    // call.
    servers.revoke_all_tokens();
    let upload = futures_util::stream::iter(["mow the lawn", "feed the cat", "sleep"]).map(note);
    let summary = client.upload(upload).await?.into_inner();
    let Summary { notes, bytes } = summary;
    println!("upload, with a revoked token: {notes} notes of {bytes} bytes");

    let refusals = refusals.load(Ordering::Relaxed);
    println!("refused calls: {refusals}; the caller saw none of them");
    if (refusals, notes, bytes) != (1, 3, 29) {
        return Err("the server should refuse one call, and no message should be lost".into());
    }
    Ok(())
}

/// Serves the notes on loopback, and requires a token.
fn serve_notes(tokens: Tokens, refusals: Arc<AtomicUsize>) -> Result<SocketAddr, Report> {
    let check = move |request: Request<()>| {
        let value = request.metadata().get("authorization");
        let token = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match tokens.check(token.unwrap_or_default(), &[AUDIENCE.to_owned()]) {
            Ok(_) => Ok(request),
            Err(why) => {
                refusals.fetch_add(1, Ordering::Relaxed);
                Err(Status::unauthenticated(why))
            }
        }
    };
    let notes = NotesServer::with_interceptor(Kept::default(), check);
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let address = incoming.local_addr()?;
    tokio::spawn(
        Server::builder()
            .add_service(notes)
            .serve_with_incoming(incoming),
    );
    Ok(address)
}

/// Counts the notes that were kept.
#[derive(Default)]
struct Kept(AtomicU64);

#[tonic::async_trait]
impl Notes for Kept {
    async fn add(&self, _: Request<Note>) -> Result<Response<Ack>, Status> {
        let kept = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Response::new(Ack { kept }))
    }

    async fn upload(&self, request: Request<Streaming<Note>>) -> Result<Response<Summary>, Status> {
        let mut stream = request.into_inner();
        let (mut notes, mut bytes) = (0, 0);
        while let Some(note) = stream.message().await? {
            notes += 1;
            bytes += note.text.len() as u64;
        }
        Ok(Response::new(Summary { notes, bytes }))
    }
}
