//! A minimal browser for the web app's example: it keeps the app's cookies and follows redirects.

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response, Url};

use super::Report;

pub struct Browser {
    name: &'static str,
    http: Client,
    app: Url,
    cookies: Vec<(String, String)>,
    /// The last cookie that the app set.
    last_cookie: (String, String),
    /// The address of the app to which the authorization server redirected the browser.
    callback: String,
}

impl Browser {
    /// Makes the browser of a user who is signed in to the app with this cookie.
    pub fn new(name: &'static str, app: &str, cookie: (&str, &str)) -> Result<Self, Report> {
        let (cookie, value) = cookie;
        Ok(Self {
            name,
            http: Client::builder().redirect(Policy::none()).build()?,
            app: app.parse()?,
            cookies: vec![(cookie.to_owned(), value.to_owned())],
            last_cookie: Default::default(),
            callback: String::new(),
        })
    }

    pub fn callback(&self) -> String {
        self.callback.clone()
    }

    /// Restores the cookie that the app deleted.
    pub fn restore_cookie(&mut self) {
        self.cookies.push(self.last_cookie.clone());
    }

    /// Follows redirects from this address, and prints the text of the last page.
    pub async fn visit(&mut self, address: &str) -> Result<(), Report> {
        let mut url = self.app.join(address)?;
        println!("{} visits {}", self.name, url.path());
        loop {
            let response = self.send(self.http.get(url.clone())).await?;
            let Some(location) = response.headers().get(LOCATION) else {
                return self.print(response).await;
            };
            url = url.join(location.to_str()?)?;
            if url.path() == "/callback" {
                self.callback = url.to_string();
            }
        }
    }

    pub async fn post(&mut self, path: &str) -> Result<(), Report> {
        println!("{} posts {path}", self.name);
        let response = self.send(self.http.post(self.app.join(path)?)).await?;
        self.print(response).await
    }

    async fn print(&self, response: Response) -> Result<(), Report> {
        let status = response.status().as_u16();
        println!("  {status}: {}", response.text().await?);
        Ok(())
    }

    async fn send(&mut self, request: RequestBuilder) -> Result<Response, Report> {
        let mut request = request.build()?;
        if request.url().origin() == self.app.origin() {
            let pairs = self.cookies.iter();
            let pairs: Vec<String> = pairs
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let pairs = pairs.join("; ").parse()?;
            request.headers_mut().insert(COOKIE, pairs);
        }
        let response = self.http.execute(request).await?;
        for line in response.headers().get_all(SET_COOKIE) {
            let pair = line.to_str()?.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').unwrap_or_default();
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.last_cookie = (name.to_owned(), value.to_owned());
                self.cookies.push(self.last_cookie.clone());
            }
        }
        Ok(response)
    }
}
