//! Adds reqwest's method `execute` to an authenticated client.

use super::service::Auth;
use crate::error::BoxError;

impl Auth<reqwest::Client> {
    /// Sends a request, as [`reqwest::Client::execute`] does, with the credential.
    ///
    /// The method does the same as [`send`](Self::send), with the types of reqwest.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Auth`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the request. A running fetch continues for the other callers.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use tower::ServiceBuilder;
    /// use tower_auth::{Auth, AuthLayer, BoxError, Token};
    ///
    /// # async fn example() -> Result<(), BoxError> {
    /// let layer = AuthLayer::new(|_| async { Token::bearer("secret") })
    ///     .only_to(["https://api.example.com"])?;
    /// let http = reqwest::Client::new();
    /// let client = ServiceBuilder::new().layer(layer).service(http.clone());
    ///
    /// let request = http.get("https://api.example.com/v1/things").build()?;
    /// println!("{}", client.execute(request).await?.text().await?);
    /// # Ok(()) }
    /// ```
    pub fn execute(
        &self,
        request: reqwest::Request,
    ) -> impl Future<Output = Result<reqwest::Response, BoxError>> + use<> {
        self.send(request)
    }
}
