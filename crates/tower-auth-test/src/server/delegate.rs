//! The methods that every fake server has.

/// Implements the methods and the service of [`ScriptedServer`](crate::ScriptedServer) for a type
/// that has one in its field `server`.
macro_rules! delegate_to_server {
    ($server:ty, $name:literal) => {
        impl $server {
            /// Responds to the next request like this, instead of as usual: see
            /// [`ScriptedServer::respond_next`](crate::ScriptedServer::respond_next).
            pub fn respond_next(&self, response: $crate::ScriptedResponse) {
                self.server.respond_next(response);
            }

            /// Responds to every request like this: see
            /// [`ScriptedServer::respond_always`](crate::ScriptedServer::respond_always).
            pub fn respond_always(&self, response: $crate::ScriptedResponse) {
                self.server.respond_always(response);
            }

            /// Ends what `respond_next` and `respond_always` have set.
            pub fn respond_as_usual(&self) {
                self.server.respond_as_usual();
            }

            /// Waits until this many requests were received: see
            /// [`ScriptedServer::wait_for_requests`](crate::ScriptedServer::wait_for_requests).
            ///
            /// # Cancel safety
            ///
            /// Cancel safe.
            pub async fn wait_for_requests(&self, count: usize) {
                self.server.wait_for_requests(count).await;
            }

            /// Returns all requests so far, in the order of their arrival.
            pub fn requests(&self) -> Vec<$crate::RecordedRequest> {
                self.server.requests()
            }

            /// Asserts that exactly these requests were received, as
            /// [`RecordedRequest`](crate::RecordedRequest) displays them.
            ///
            /// # Panics
            ///
            /// If there were others. The message shows the difference.
            #[track_caller]
            pub fn assert_requests<I>(&self, expected: I)
            where
                I: IntoIterator<Item: Into<String>>,
            {
                let what = concat!("the ", $name, " received other requests");
                $crate::difference::assert_lines(what, expected, self.requests());
            }

            /// Asserts that no request was received.
            ///
            /// # Panics
            ///
            /// If there were requests. The message lists them.
            #[track_caller]
            pub fn assert_no_requests(&self) {
                self.assert_requests(std::iter::empty::<String>());
            }

            /// Starts the same server on a free port of 127.0.0.1: see
            /// [`ScriptedServer::serve`](crate::ScriptedServer::serve).
            ///
            /// # Errors
            ///
            /// If the system has no free port.
            #[cfg(feature = "loopback")]
            pub async fn serve(&self) -> std::io::Result<$crate::Loopback> {
                self.server.serve().await
            }
        }

        impl<B> tower_service::Service<http::Request<B>> for $server
        where
            B: http_body::Body + Send + 'static,
            B::Data: Send,
            B::Error: Into<tower_auth::BoxError>,
        {
            type Response = http::Response<$crate::ScriptedBody>;
            type Error = tower_auth::BoxError;
            type Future = $crate::ServerFuture;

            fn poll_ready(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), tower_auth::BoxError>> {
                std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<B>) -> $crate::ServerFuture {
                tower_service::Service::call(&mut self.server, request)
            }
        }
    };
}

pub(crate) use delegate_to_server;
