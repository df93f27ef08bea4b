//! A simulated user with a browser. The user logs in, agrees to everything, and enters the code
//! that a device shows.

use std::collections::BTreeMap;

use cookie_store::CookieStore;
use form_urlencoded::Serializer;
use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use url::Url;

use crate::servers::HTTP;

pub(crate) struct Person {
    cookies: CookieStore,
    /// The value for each field name. Buttons count as fields.
    answers: BTreeMap<&'static str, String>,
}

struct Page {
    url: Url,
    text: String,
}

impl Person {
    pub(crate) fn ada() -> Self {
        let answers = [
            ("username", "ada"),
            ("login", "ada"),
            ("password", "countess"),
            ("allow", "Authorize"),
            ("action", "accept"),
        ];
        Self {
            cookies: CookieStore::default(),
            answers: answers.map(|(name, value)| (name, value.to_owned())).into(),
        }
    }

    /// Sets the code that the user enters on the device page.
    pub(crate) fn sees(mut self, user_code: &str) -> Self {
        self.answers.insert("user_code", user_code.to_owned());
        self
    }

    /// Makes the user press the deny button on the device page.
    pub(crate) fn says_no(mut self) -> Self {
        self.answers.insert("action", String::from("deny"));
        self
    }

    /// Opens a URL and fills in the forms on the way. Returns the first page without a form.
    pub(crate) async fn visits(&mut self, url: &str) -> String {
        const MOST: usize = 8;
        let mut page = self.opens(Url::parse(url).unwrap(), None).await;
        for _ in 0..MOST {
            let Some(form) = page
                .text
                .split_once("<form")
                .map(|(_, form)| form.to_owned())
            else {
                return page.text;
            };
            let (tag, _) = form.split_once('>').unwrap();
            let target = attribute(tag, "action").unwrap_or_default();
            let target = page.url.join(&target).unwrap();
            let body = self.fills_in(&form);
            page = self.opens(target, Some(body)).await;
        }
        panic!("one form after the other: {}", page.text);
    }

    /// Follows redirects, as browsers do.
    async fn opens(&mut self, mut url: Url, mut form: Option<String>) -> Page {
        loop {
            let cookies = self.cookies.get_request_values(&url);
            let cookies: Vec<_> = cookies
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let request = match form.take() {
                Some(form) => HTTP
                    .post(url.clone())
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form),
                None => HTTP.get(url.clone()),
            };
            let response = request
                .header(COOKIE, cookies.join("; "))
                .send()
                .await
                .unwrap();
            for cookie in response.headers().get_all(SET_COOKIE) {
                // A browser ignores cookies that it can't parse.
                let _ = self.cookies.parse(cookie.to_str().unwrap(), &url);
            }
            if let Some(next) = response.headers().get(LOCATION) {
                url = url.join(next.to_str().unwrap()).unwrap();
                continue;
            }
            let status = response.status();
            let text = response.text().await.unwrap();
            assert!(status.is_success(), "{url}: {status}: {text}");
            return Page { url, text };
        }
    }

    /// Returns the fields of the first form. The server sets the values, or the user knows them.
    fn fills_in(&self, form: &str) -> String {
        let (form, _) = form.split_once("</form").unwrap();
        let mut fields = BTreeMap::new();
        for tag in form
            .split('<')
            .filter(|tag| tag.starts_with("input") || tag.starts_with("button"))
        {
            let (tag, _) = tag.split_once('>').unwrap();
            let Some(name) = attribute(tag, "name") else {
                continue;
            };
            let known = self.answers.get(name.as_str()).cloned();
            let value = known
                .or_else(|| attribute(tag, "value"))
                .unwrap_or_default();
            fields.insert(name, value);
        }
        Serializer::new(String::new()).extend_pairs(fields).finish()
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let entities = [
        ("&quot;", "\""),
        ("&#x27;", "'"),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ];
    let plain = |value: String, (entity, text): &(&str, &str)| value.replace(entity, text);
    Some(entities.iter().fold(value.to_owned(), plain))
}
