//! The program's settings for the identity in a credentials file.

use std::ffi::OsString;
use std::time::Duration;

use super::universe::Universe;
use crate::http_client::endpoint_client::{EndpointClient, TIMEOUT};
use crate::http_client::transport::DynTransport;
use crate::oauth2::client::oauth2_client::Client;

/// The scope for all of Google Cloud. The access rules of the account then decide what the token
/// may do.
const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The fetch timeout if a program may run: at most 120 s for the program, and the time for two
/// requests.
const EXECUTABLE_TIMEOUT: Duration = Duration::from_secs(150);

#[derive(Clone, Debug)]
pub(crate) struct FileSettings {
    /// The scopes that the program requested, separated by spaces. May be empty.
    pub(crate) scope: String,
    pub(crate) universe: Universe,
    pub(crate) timeout: Duration,
    pub(crate) transport: DynTransport,
    /// Whether a file may name a program to run.
    pub(crate) allows_executables: bool,
    /// The variables of this process that such a program gets.
    pub(crate) passed: Vec<OsString>,
}

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            scope: String::new(),
            universe: Universe::default(),
            timeout: TIMEOUT,
            transport: DynTransport::default(),
            allows_executables: false,
            passed: Vec::new(),
        }
    }
}

impl FileSettings {
    /// Returns the scope for a request that must have a scope.
    pub(crate) fn scope_or_all(&self) -> &str {
        match self.scope.as_str() {
            "" => CLOUD_PLATFORM,
            scope => scope,
        }
    }

    /// Returns the settings for a token whose only use is to get the token of another account. The
    /// token of the other account has the requested scopes.
    pub(crate) fn for_impersonation(&self) -> Self {
        Self {
            scope: String::new(),
            ..self.clone()
        }
    }

    /// Returns how long a fetch may take, if the default isn't enough.
    pub(crate) fn fetch_timeout(&self) -> Option<Duration> {
        self.allows_executables.then_some(EXECUTABLE_TIMEOUT)
    }

    pub(crate) fn client(&self, client: Client) -> Client {
        let mut client = client.timeout(self.timeout);
        client.endpoint.http.transport = self.transport.clone();
        client
    }

    pub(crate) fn endpoint(&self, mut http: EndpointClient) -> EndpointClient {
        http.timeout = self.timeout;
        http.transport = self.transport.clone();
        http
    }
}
