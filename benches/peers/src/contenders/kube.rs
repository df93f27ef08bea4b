//! kube's auth layer with an exec plugin. No other credential of kube combines refreshes with a
//! custom source. For each fetch, kube starts this program again as the plugin. The plugin calls a
//! server on loopback. (kube reads token files once a minute, whatever they contain.)
//!
//! The layer refreshes 60 s before the expiry that the plugin names. Users can't change the 60 s.
//! So the plugin names an expiry 60 s after the real expiry, less the margin of the other
//! contenders.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use kube_client::Config;
use kube_client::client::ConfigExt;
use kube_client::client::middleware::AuthLayer;
use kube_client::config::{ExecConfig, ExecInteractiveMode};
use tower::Layer;

use super::Contender;
use crate::client::{Call, Inner, Sending};
use crate::issuer::Issuer;
use crate::token_server::{Form, Holding, Reply, TokenServer};

pub struct Kube {
    layer: AuthLayer,
    server: Arc<TokenServer>,
}

const MARGIN: Duration = Duration::from_millis(10);

/// The argument that makes this program the plugin.
const PLUGIN: &str = "exec-plugin";

impl Contender for Kube {
    const NAME: &str = "kube-client, exec plugin";
    const PACKAGE: &str = "kube-client";
    const NOTE: Option<&str> = Some(
        "each fetch starts a process, as with any exec plugin; the fetch during set-up isn't counted; always refreshes \
         60 s before expiry, so its tokens claim 60 s more",
    );

    async fn new(issuer: &Issuer) -> Self {
        let reply = Reply {
            beyond: Duration::from_secs(60) - MARGIN,
            form: Form::Kube {
                is_set_up: false.into(),
            },
        };
        let server = TokenServer::start(issuer.clone(), reply);
        let mut config = Config::new(http::Uri::from_static("https://api.example.com"));
        config.auth_info.exec = Some(ExecConfig {
            api_version: Some("client.authentication.k8s.io/v1".into()),
            command: Some(
                std::env::current_exe()
                    .expect("this program")
                    .display()
                    .to_string(),
            ),
            args: Some(vec![PLUGIN.into(), server.address.to_string()]),
            env: None,
            drop_env: None,
            install_hint: None,
            interactive_mode: Some(ExecInteractiveMode::Never),
            provide_cluster_info: false,
            cluster: None,
            other: Default::default(),
        });
        let layer = config.auth_layer().expect("the plugin answers");
        Self {
            layer: layer.expect("a plugin is a credential"),
            server: Arc::new(server),
        }
    }

    fn over<S: Inner>(&self, inner: S) -> impl Call + use<S> {
        Holding(Sending(self.layer.layer(inner)), Arc::clone(&self.server))
    }
}

/// Acts as the plugin if the first argument is `PLUGIN`. The caller then ends the program with the
/// returned code. `main` must call this function first.
pub fn be_the_plugin() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    let (PLUGIN, address) = (args.next()?.as_str(), args.next()?) else {
        return None;
    };
    Some(match ask(&address) {
        Ok(credential) => {
            print!("{credential}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn ask(address: &str) -> Result<String, tower::BoxError> {
    let mut server = TcpStream::connect(address)?;
    server.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.into()),
        _ => Err("no token".into()),
    }
}
