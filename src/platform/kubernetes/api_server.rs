//! The address of the API server of a pod's cluster.

use crate::error::{Error, Kind};
use crate::platform::environment::Environment;

const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";

/// Returns the address of the API server, such as `https://10.0.0.1:443`.
pub(super) fn address(environment: &Environment) -> Result<String, Error> {
    if environment.get(HOST).is_none() && environment.get(PORT).is_none() {
        let message = format!(
            "the environment variables `{HOST}` and `{PORT}` are not set or are empty, so this \
             program doesn't run in a Kubernetes pod; Kubernetes sets both in each pod"
        );
        return Err(Error::new(Kind::Config, message));
    }
    let host = environment.require(HOST, "the address of the API server")?;
    let port = environment.require(PORT, "the address of the API server")?;
    // An IPv6 address is in brackets (RFC 3986 §3.2.2), but the variable contains no brackets.
    Ok(match host.contains(':') && !host.starts_with('[') {
        true => format!("https://[{host}]:{port}"),
        false => format!("https://{host}:{port}"),
    })
}

/// Makes the error for variables that contain no host or no port.
pub(super) fn unusable(error: &Error) -> Error {
    let message = format!(
        "the environment variables `{HOST}` and `{PORT}` don't contain the host and the port of \
         the API server: {error}"
    );
    Error::new(Kind::Config, message)
}
