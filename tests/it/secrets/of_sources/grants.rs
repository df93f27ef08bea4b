//! Grants and their parts.

use tower_auth::Token;
use tower_auth::oauth2::{
    Client, ClientCredentials, DeviceAuthorization, JwtBearer, ProtectedResource, RefreshToken,
    StepUp, TokenExchange,
};

use super::{SECRET, TOKEN, client, drive};

#[tokio::test(start_paused = true)]
async fn a_refresh_token_does_not_show() {
    drive(async |_, echo| RefreshToken::new(client(echo), TOKEN).param("key", "planted param"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_assertion_does_not_show() {
    drive(async |_, echo| JwtBearer::new(client(echo), TOKEN).param("key", "planted param")).await;
}

#[tokio::test(start_paused = true)]
async fn an_exchange_shows_neither_the_subject_nor_the_actor() {
    drive(async |_, echo| {
        let own = ClientCredentials::with_client(client(echo.clone()).basic_auth());
        let actor = |_| async { Token::bearer(TOKEN) };
        let exchange = TokenExchange::new(client(echo), own).actor(actor);
        exchange.param("key", "planted param")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_login_on_another_device_shows_no_code() {
    drive(async |finder, echo| {
        let url = "https://id.example.com/device?key=planted-key";
        let login = DeviceAuthorization::new(client(echo), url)?.param("key", "planted param")?;
        finder.print(&login);
        let prompt = login.begin().await?;
        finder.print(&prompt);
        login.finish(prompt).await
    })
    .await;
}

#[cfg(feature = "authorization-code")]
#[tokio::test(start_paused = true)]
async fn a_login_with_a_browser_shows_no_code_no_state_and_no_verifier() {
    use tower_auth::oauth2::AuthorizationCode;

    drive(async |finder, echo| {
        let login = AuthorizationCode::new(
            client(echo.clone()),
            "https://id.example.com/authorize?key=planted-key",
        )?
        .param("key2", "planted param")?
        .issuer("https://id.example.com");
        finder.print(&login);
        let request = login.begin("https://app.example.com/callback").await?;
        let state = param(request.url(), "state");
        finder.look_for(&state);
        finder.print(&request);

        let code = form(TOKEN);
        for wrong in [
            format!("code={code}&state=planted"),
            format!("code={code}"),
            format!("state={state}"),
            format!("code={code}&code={code}&state={state}"),
            format!("code={code}&state={state}&iss=https://planted.example.com"),
            format!("state={state}&error={code}&error_description={code}&code={code}"),
            format!("state={state}&error={state}&error_description=it+was+{state}"),
            format!("state={state}&error=access_denied&error_description={state}"),
            format!("state={state}&error=planted&iss=planted"),
            format!(
                "state={state}&code={code}&error=server_error&error_description={}",
                form(&code)
            ),
        ] {
            for whole in [
                wrong.clone(),
                format!("https://app.example.com/callback?{wrong}"),
            ] {
                finder.print_error(&request.read(&whole).unwrap_err());
            }
        }
        let response = request.read(&format!("/callback?code={code}&state={state}"))?;
        finder.print(&response);
        let finished = login.finish(request, response).await;
        for verifier in echo.verifiers() {
            finder.look_for(&verifier);
        }
        finished
    })
    .await;
}

#[cfg(feature = "authorization-code")]
fn param(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').unwrap();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let found = pairs.find(|(of, _)| of == name);
    found.unwrap().1.into_owned()
}

#[cfg(feature = "authorization-code")]
fn form(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_echoes_its_token_in_a_challenge_does_not_show_it() {
    drive(async |_, echo| {
        let transport = echo.clone();
        let source = ProtectedResource::new(
            "https://api.example.com",
            ["https://id.example.com"],
            move |protection| {
                let endpoint = protection.endpoint();
                let client =
                    Client::new(endpoint.clone(), "client", SECRET)?.transport(echo.clone());
                let client = client.revoke_at(endpoint)?;
                Ok(ClientCredentials::with_client(client).scope(protection.scope()))
            },
        )?;
        Ok(source.transport(transport))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_step_up_shows_no_secret() {
    drive(async |_, echo| {
        let build = move |wanted: &tower_auth::oauth2::StepUpRequest| {
            let source = ClientCredentials::with_client(client(echo.clone()));
            Ok(source.scope(wanted.scope()))
        };
        Ok(StepUp::new(build).scope("read").allow("write"))
    })
    .await;
}
