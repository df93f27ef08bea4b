//! The responses that a server may send: tokens, refusals that repeat the request, and responses
//! that are damaged.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write as _;

use crate::planted::text;

/// A response. At a frame that is `None`, the connection breaks.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) frames: Vec<Option<Vec<u8>>>,
}

/// What a request contained.
pub(crate) struct Sent {
    /// The number of the request.
    pub(crate) number: usize,
    pub(crate) is_dpop: bool,
    /// The secrets of the request, separated by spaces.
    pub(crate) secrets: String,
}

/// Builds the response to a request.
pub(crate) type Respond = fn(&Sent) -> Answer;

/// All kinds of responses, with names for messages.
pub(crate) const ALL: &[(&str, Respond)] = &[
    ("tokens", tokens),
    ("tokens in many frames", in_frames),
    ("tokens in gzip", |sent| gzip(&issued(sent).to_string(), 0)),
    ("gzip that is cut off", |sent| {
        gzip(&issued(sent).to_string(), 12)
    }),
    ("tokens as a form", as_form),
    ("a broken connection", |sent| Answer {
        frames: vec![Some(cut(&issued(sent).to_string(), 40)), None],
        ..tokens(sent)
    }),
    ("JSON that is cut off", |sent| {
        body(200, cut(&issued(sent).to_string(), 2))
    }),
    ("JSON with an error", |sent| {
        body(200, issued(sent).to_string().replacen(":", ";", 9))
    }),
    ("JSON with an error at the end", |sent| {
        body(200, issued(sent).to_string() + "}")
    }),
    ("JSON in Latin-1", |sent| {
        let mut text = issued(sent).to_string().into_bytes();
        text.splice(1..1, *b"\"name\":\"\xe9\",");
        body(200, text)
    }),
    ("an array", |sent| body(200, format!("[{}]", issued(sent)))),
    ("a field twice", |sent| {
        let text = issued(sent).to_string();
        body(200, text.replacen('{', r#"{"access_token":"a","#, 1))
    }),
    ("another token type", |sent| {
        changed(sent, "token_type", "mac")
    }),
    ("claims of other types", |sent| {
        let claims = json!({ "exp": text("exp"), "iat": { "deep": [text("iat")] } });
        changed(sent, "access_token", &jwt(&claims))
    }),
    ("a text instead of claims", |sent| {
        changed(sent, "access_token", &jwt(&json!(text("claims"))))
    }),
    ("a repeated secret as the scope", |sent| {
        changed(sent, "scope", &sent.secrets)
    }),
    ("a repeated secret as the lifetime", |sent| {
        changed(sent, "expires_in", &sent.secrets)
    }),
    ("too long", |sent| {
        body(200, issued(sent).to_string() + &text("long").repeat(2_000))
    }),
    ("another coding", |sent| {
        with(tokens(sent), "content-encoding", "br")
    }),
    ("a redirect", |sent| {
        let answer = body(302, sent.secrets.clone());
        with(answer, "location", &sent.secrets)
    }),
    ("a page", |sent| {
        let page = format!("<html>{}</html>", sent.secrets);
        with(body(502, page), "content-type", "text/html")
    }),
    ("a refusal", |sent| refusal(sent, "invalid_grant")),
    ("a refusal of the client", |sent| {
        refusal(sent, "invalid_client")
    }),
    ("a refusal in gzip", |sent| Answer {
        status: 400,
        ..gzip(&json!({ "error": sent.secrets }).to_string(), 0)
    }),
    ("a refusal with remarks", |sent| {
        let said = json!({
            "errors": [{ "message": sent.secrets, "code": sent.secrets }],
            "hint": sent.secrets,
            "error_description": sent.secrets,
        });
        body(400, said.to_string())
    }),
    ("a nonce", |sent| {
        let answer = refusal(sent, "use_dpop_nonce");
        with(answer, "dpop-nonce", "nonce")
    }),
];

/// Returns a token response that works for every grant and every login.
pub(crate) fn tokens(sent: &Sent) -> Answer {
    let answer = body(200, issued(sent).to_string());
    let cookie = format!("sid={}; Path=/; Max-Age=7200; HttpOnly", text("cookie"));
    let answer = with(answer, "set-cookie", &cookie);
    let csrf = format!("csrf={}; Path=/", text("csrf"));
    with(answer, "set-cookie", &csrf)
}

/// Returns the metadata of the API and of its authorization server.
pub(crate) fn metadata() -> Answer {
    let metadata = json!({
        "resource": "https://api.example.com",
        "authorization_servers": ["https://id.example.com"],
        "issuer": "https://id.example.com",
        "token_endpoint": "https://id.example.com/token",
    });
    body(200, metadata.to_string())
}

fn issued(sent: &Sent) -> Value {
    let opaque = text(&format!("access{}", sent.number));
    let access_token = match sent.number % 2 {
        0 => opaque,
        _ => jwt(&until_2100(&opaque)),
    };
    json!({
        "access_token": access_token,
        "token_type": if sent.is_dpop { "DPoP" } else { "Bearer" },
        "expires_in": 3600,
        "refresh_token": text(&format!("refresh{}", sent.number)),
        "id_token": jwt(&until_2100(&text("id"))),
        "scope": "read",
        "note": { "deep": [text("extra")] },
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "device_code": text("device"),
        "user_code": "WDJB-MJHT",
        "verification_uri": "https://id.example.com/device",
        "verification_uri_complete": format!("https://id.example.com/?c={}", text("user")),
        "interval": 1,
        // Vault's token, and Kubernetes'.
        "auth": {
            "client_token": text(&format!("client{}", sent.number)),
            "accessor": text("accessor"), "lease_duration": 3600, "renewable": true,
        },
        "status": {
            "token": text(&format!("pod{}", sent.number)),
            "expirationTimestamp": "2100-01-01T00:00:00Z",
        },
    })
}

/// Returns an unsigned JWT.
fn jwt(claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let head = part(&json!({ "alg": "none" }));
    format!("{head}.{}.{}", part(claims), part(&json!(text("end"))))
}

/// Returns the claims of a JWT that expires in the year 2100.
fn until_2100(secret: &str) -> Value {
    json!({ "exp": 4_102_444_800_u64, "secret": secret })
}

fn in_frames(sent: &Sent) -> Answer {
    let mut issued = issued(sent);
    issued["more"] = text("more").repeat(300).into();
    let text = issued.to_string();
    let frames = text.as_bytes().chunks(1_000);
    Answer {
        frames: frames.map(|frame| Some(frame.to_vec())).collect(),
        ..tokens(sent)
    }
}

fn as_form(sent: &Sent) -> Answer {
    let issued = issued(sent);
    let mut form = form_urlencoded::Serializer::new(String::new());
    for (name, value) in issued.as_object().into_iter().flatten() {
        match value {
            Value::String(text) => form.append_pair(name, text),
            other => form.append_pair(name, &other.to_string()),
        };
    }
    let answer = body(200, form.finish());
    with(answer, "content-type", "application/x-www-form-urlencoded")
}

fn changed(sent: &Sent, field: &str, value: &str) -> Answer {
    let mut issued = issued(sent);
    issued[field] = value.into();
    body(200, issued.to_string())
}

fn refusal(sent: &Sent, code: &str) -> Answer {
    let said = json!({
        "error": code,
        "error_description": format!("it sent {}", sent.secrets),
        "refresh_token": text("refused"),
    });
    body(400, said.to_string())
}

fn gzip(text: &str, cut_off: usize) -> Answer {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    let mut encoded = encoder.finish().unwrap();
    encoded.truncate(encoded.len() - cut_off);
    with(body(200, encoded), "content-encoding", "gzip")
}

fn cut(text: &str, off: usize) -> Vec<u8> {
    text.as_bytes()[..text.len() - off].to_vec()
}

fn body(status: u16, body: impl Into<Vec<u8>>) -> Answer {
    let headers = vec![("content-type", String::from("application/json"))];
    let frames = vec![Some(body.into())];
    Answer {
        status,
        headers,
        frames,
    }
}

fn with(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    answer
        .headers
        .retain(|(other, _)| *other != name || name == "set-cookie");
    answer.headers.push((name, value.to_owned()));
    answer
}
