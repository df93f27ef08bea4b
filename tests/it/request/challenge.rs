//! What a server asks for is read off its `WWW-Authenticate`, however it is written.

use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use proptest::collection::vec;
use proptest::prelude::*;
use tower_auth::Challenge;

fn parse<T: AsRef<[u8]>>(lines: &[T]) -> Vec<Challenge> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(
            WWW_AUTHENTICATE,
            HeaderValue::from_bytes(line.as_ref()).unwrap(),
        );
    }
    Challenge::parse(&headers)
}

/// Challenges as one line of text: `scheme token68? {name: value}*`, with `|` between them.
fn show<T: AsRef<[u8]>>(lines: &[T]) -> String {
    let show_one = |challenge: &Challenge| {
        let mut shown = challenge.scheme().to_owned();
        if let Some(token68) = challenge.token68() {
            shown += &format!(" {token68}");
        }
        for (name, value) in challenge.params() {
            shown += &format!(" {{{name}: {value}}}");
        }
        shown
    };
    let challenges = parse(lines);
    challenges
        .iter()
        .map(show_one)
        .collect::<Vec<_>>()
        .join(" | ")
}

#[test]
fn no_header_is_no_challenge() {
    assert!(Challenge::parse(&HeaderMap::new()).is_empty());
    assert_eq!(show(&[""]), "");
    assert_eq!(show(&[" , ,\t,"]), "");
}

#[test]
fn two_challenges_in_one_header_are_told_apart() {
    assert_eq!(
        show(&[r#"Bearer realm="api", DPoP algs="RS256 ES256""#]),
        "Bearer {realm: api} | DPoP {algs: RS256 ES256}"
    );
    assert_eq!(
        show(&[concat!(
            r#"Bearer realm="api", error="invalid_token", "#,
            r#"error_description="'exp' claim timestamp check failed", DPoP algs="ES256""#
        )]),
        "Bearer {realm: api} {error: invalid_token} \
         {error_description: 'exp' claim timestamp check failed} | DPoP {algs: ES256}"
    );
}

#[test]
fn the_example_of_rfc_9110_is_understood() {
    assert_eq!(
        show(&[r#"Newauth realm="apps", type=1, title="Login to \"apps\"", Basic realm="simple""#]),
        r#"Newauth {realm: apps} {type: 1} {title: Login to "apps"} | Basic {realm: simple}"#
    );
}

#[test]
fn the_examples_of_rfc_6750_are_understood() {
    let first = parse(&[r#"Bearer realm="example""#]);
    assert!(first[0].is_bearer());
    assert_eq!(first[0].realm(), Some("example"));
    assert_eq!(first[0].error(), None);

    let second = parse(&[concat!(
        r#"Bearer realm="example", error="invalid_token", "#,
        r#"error_description="The access token expired""#
    )]);
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].error(), Some("invalid_token"));
    assert_eq!(
        second[0].error_description(),
        Some("The access token expired")
    );

    let third = parse(&[r#"Bearer error="insufficient_scope", scope="openid profile email""#]);
    assert_eq!(third[0].scope(), Some("openid profile email"));
    assert_eq!(third[0].realm(), None);
}

#[test]
fn schemes_without_parameters_are_challenges_too() {
    assert_eq!(show(&["Bearer"]), "Bearer");
    assert_eq!(show(&["Negotiate "]), "Negotiate");
    assert_eq!(
        show(&[r#"Basic realm="a", Negotiate, Bearer"#]),
        "Basic {realm: a} | Negotiate | Bearer"
    );
    assert_eq!(
        show(&["Negotiate, NTLM,Basic realm=a"]),
        "Negotiate | NTLM | Basic {realm: a}"
    );
}

#[test]
fn a_token68_is_no_parameter() {
    assert_eq!(show(&["Negotiate YIIabc=="]), "Negotiate YIIabc==");
    assert_eq!(
        show(&["Negotiate YII/+-._~= , Bearer"]),
        "Negotiate YII/+-._~= | Bearer"
    );
    // By the grammar it is one, and the parameters behind it aren't lost.
    assert_eq!(
        show(&["Bearer realm=, error=invalid_token"]),
        "Bearer realm= {error: invalid_token}"
    );
}

#[test]
fn a_parameter_that_starts_like_a_token68_is_a_parameter() {
    assert_eq!(show(&[r#"Bearer realm="""#]), "Bearer {realm: }");
    assert_eq!(show(&["Bearer a=b"]), "Bearer {a: b}");
    assert_eq!(show(&["Bearer a = b, c\t=\t\"d\""]), "Bearer {a: b} {c: d}");
}

#[test]
fn quoted_strings_may_hold_anything() {
    assert_eq!(
        show(&[r#"Bearer realm="a, Basic realm=\"b\", \\c\d=", error="e""#]),
        r#"Bearer {realm: a, Basic realm="b", \cd=} {error: e}"#
    );
}

#[test]
fn a_comma_in_a_scope_splits_nothing() {
    let challenges = parse(&[concat!(
        r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io","#,
        r#"scope="repository:samalba/my-app:pull,push""#
    )]);
    assert_eq!(challenges.len(), 1);
    assert_eq!(
        challenges[0].scope(),
        Some("repository:samalba/my-app:pull,push")
    );
}

#[test]
fn obs_text_is_read_as_utf_8_or_replaced() {
    assert_eq!(
        show(&["Basic realm=\"Zürich\", Bearer"]),
        "Basic {realm: Zürich} | Bearer"
    );
    assert_eq!(
        show(&[b"Basic realm=\"Z\xfcrich\", Bearer"]),
        "Basic {realm: Z\u{fffd}rich} | Bearer"
    );
}

#[test]
fn several_headers_are_one_list() {
    assert_eq!(
        show(&["Negotiate", r#"Basic realm="a""#, "type=1, Bearer"]),
        "Negotiate | Basic {realm: a} {type: 1} | Bearer"
    );
}

#[test]
fn empty_list_elements_are_skipped() {
    assert_eq!(
        show(&[r#",, Basic , realm="a",,	,type=1 ,, Bearer,"#]),
        "Basic {realm: a} {type: 1} | Bearer"
    );
}

#[test]
fn the_first_of_two_parameters_with_one_name_wins() {
    let challenges = parse(&["Bearer Error=one, error=two"]);
    assert_eq!(challenges[0].error(), Some("one"));
    assert_eq!(challenges[0].params().count(), 2);
}

#[test]
fn insufficient_scope_is_recognised_quoted_or_not() {
    let is = |line: &str| parse(&[line])[0].is_insufficient_scope();
    assert!(is(r#"Bearer error="insufficient_scope""#));
    assert!(is("bearer realm=x, ERROR=insufficient_scope"));
    assert!(is(r#"DPoP error="insufficient_scope", algs="ES256""#));
    assert!(!is(r#"Bearer error="invalid_token""#));
    assert!(!is("Bearer"));
    assert!(!is(r#"Basic error="insufficient_scope""#));
    // Said about scope, but not as the error.
    assert!(!is(
        r#"Bearer error_description="error=\"insufficient_scope\"""#
    ));
}

#[test]
fn parameters_may_be_separated_by_white_space_alone() {
    assert_eq!(
        show(&[r#"Bearer realm="a" error=invalid_token	scope="b c", Basic"#]),
        "Bearer {realm: a} {error: invalid_token} {scope: b c} | Basic"
    );
}

#[test]
fn an_unquoted_url_is_read_whole() {
    assert_eq!(
        show(&["Bearer resource_metadata=https://rs.example/?a=b, error=invalid_token"]),
        "Bearer {resource_metadata: https://rs.example/?a=b} {error: invalid_token}"
    );
}

#[test]
fn what_cannot_be_understood_is_skipped_to_the_next_comma() {
    for (line, expected) in [
        // Words behind a value, and a quoted comma among them.
        (
            r#"Bearer error=x is, "so, Basic, so", realm=a"#,
            "Bearer {error: x} {realm: a}",
        ),
        (
            "Bearer realm=a; charset=b, Basic",
            "Bearer {realm: a} | Basic",
        ),
        ("Negotiate Bearer realm=a, Basic", "Negotiate | Basic"),
        ("@@@ realm=a, Basic", "Basic"),
        (r#""Bearer" realm=a, Basic"#, "Basic"),
        ("Bearer: realm=a, Basic", "Basic"),
        ("=a, Basic =, Bearer error=, scope", "Bearer error= | scope"),
        // A parameter of no value, and one of no challenge.
        ("Bearer a=b, c=, d=e", "Bearer {a: b} {d: e}"),
        ("realm=a, Basic", "Basic"),
    ] {
        assert_eq!(show(&[line]), expected, "{line}");
    }
}

#[test]
fn a_quoted_string_that_is_not_closed_takes_its_own_line_only() {
    for line in [
        r#"Bearer error=a, realm="b, Basic"#,
        r#"Bearer error=a, realm="b\"#,
        r#"Bearer error=a, realm="b\""#,
    ] {
        assert_eq!(
            show(&[line, "Negotiate"]),
            "Bearer {error: a} | Negotiate",
            "{line}"
        );
    }
}

#[test]
fn what_is_kept_is_bounded_and_the_last_one_kept_is_whole() {
    let challenges = parse(&[
        "Bearer a=1,".repeat(31),
        "Last a=1, b=2".to_owned(),
        "c=3".to_owned(),
        "Over d=4, Over, Over".to_owned(),
        "e=5".to_owned(),
    ]);
    assert_eq!(challenges.len(), 32);
    assert_eq!(challenges[31].scheme(), "Last");
    assert_eq!(challenges[31].params().count(), 3);

    let challenges = parse(&[format!("Bearer {} Basic z=1", "a=1,".repeat(65))]);
    assert_eq!(challenges[0].params().count(), 64);
    assert_eq!(challenges[1].param("z"), Some("1"));
}

#[test]
fn only_the_first_16_kib_of_a_line_are_looked_at() {
    let line = |commas| format!("{}Bearer", ",".repeat(commas));
    assert_eq!(show(&[line(16 * 1024 - 6)]), "Bearer");
    assert_eq!(show(&[line(16 * 1024), "Basic".to_owned()]), "Basic");
}

/// Quadratic work on these would be minutes, linear work is a fraction of a second.
#[test]
fn no_header_takes_more_than_linear_time() {
    let begun = Instant::now();
    for pattern in [
        ",", "\"", "\\", "=", " ", "a", "a ", "a=", "a,", "a =", "\"\\", "\",", "a=\"", "a=\"\\\"",
        "a=\"\",", "a a=", "a a/=\",", "\u{fc}",
    ] {
        let line = pattern.repeat(16 * 1024 / pattern.len());
        for head in ["", "Bearer ", "Bearer a=", "Bearer a=\""] {
            let lines = vec![format!("{head}{line}"); 10];
            let challenges = parse(&lines);
            assert!(challenges.len() <= 32);
            assert!(challenges.iter().all(|it| it.params().count() <= 64));
        }
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// A challenge and the way it is written.
#[derive(Clone, Debug)]
struct Written {
    scheme: String,
    credentials: Credentials,
}

#[derive(Clone, Debug)]
enum Credentials {
    Token68(String),
    Params(Vec<WrittenParam>),
}

#[derive(Clone, Debug)]
struct WrittenParam {
    name: String,
    value: String,
    /// Whether a value is quoted that needn't be.
    is_quoted: bool,
    /// Whether characters are escaped that needn't be.
    is_escaped: bool,
    bad_space: (String, String),
    /// What stands before this parameter, if it isn't the first.
    comma: Comma,
}

/// A comma with optional white space and empty elements around it, or the start of a new line.
#[derive(Clone, Debug)]
enum Comma {
    Comma(String),
    Line,
}

impl Comma {
    fn write(&self, lines: &mut Vec<String>) {
        match self {
            Self::Comma(comma) => lines.last_mut().unwrap().push_str(comma),
            Self::Line => lines.push(String::new()),
        }
    }
}

impl WrittenParam {
    fn write(&self) -> String {
        let value = &self.value;
        let is_token = !value.is_empty()
            && value
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
        let value = if is_token && !self.is_quoted {
            value.clone()
        } else {
            let mut quoted = String::from('"');
            for c in value.chars() {
                if matches!(c, '"' | '\\') || self.is_escaped {
                    quoted.push('\\');
                }
                quoted.push(c);
            }
            quoted + "\""
        };
        let (before, after) = &self.bad_space;
        format!("{}{before}={after}{value}", self.name)
    }
}

/// By the grammar of RFC 9110 §11.6.1.
fn write(challenges: &[(Comma, Written)]) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (at, (comma, challenge)) in challenges.iter().enumerate() {
        if at > 0 {
            comma.write(&mut lines);
        }
        lines.last_mut().unwrap().push_str(&challenge.scheme);
        match &challenge.credentials {
            Credentials::Token68(token68) => {
                *lines.last_mut().unwrap() += &format!(" {token68}");
            }
            Credentials::Params(params) => {
                for (at, param) in params.iter().enumerate() {
                    if at == 0 {
                        lines.last_mut().unwrap().push(' ');
                    } else {
                        param.comma.write(&mut lines);
                    }
                    *lines.last_mut().unwrap() += &param.write();
                }
            }
        }
    }
    lines
}

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}"
}

fn comma() -> impl Strategy<Value = Comma> {
    prop_oneof![
        4 => "[ \t]{0,2},([ \t]{0,2},){0,2}[ \t]{0,2}".prop_map(Comma::Comma),
        1 => Just(Comma::Line),
    ]
}

fn written_param() -> impl Strategy<Value = WrittenParam> {
    let value = prop_oneof![token(), "[ -~\tü漢]{0,12}", r#"[",=\\ a]{0,12}"#];
    let bad_space = prop_oneof![
        3 => Just((String::new(), String::new())),
        1 => ("[ \t]{0,2}", "[ \t]{0,2}"),
    ];
    (
        token(),
        value,
        any::<bool>(),
        any::<bool>(),
        bad_space,
        comma(),
    )
        .prop_map(
            |(name, value, is_quoted, is_escaped, bad_space, comma)| WrittenParam {
                name,
                value,
                is_quoted,
                is_escaped,
                bad_space,
                comma,
            },
        )
}

fn written() -> impl Strategy<Value = Written> {
    let credentials = prop_oneof![
        1 => "[A-Za-z0-9._~+/-]{1,12}={0,2}".prop_map(Credentials::Token68),
        4 => vec(written_param(), 0..5).prop_map(Credentials::Params),
    ];
    (token(), credentials).prop_map(|(scheme, credentials)| Written {
        scheme,
        credentials,
    })
}

/// Pieces that mean something to a parser, among bytes that don't.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\t'), 32..=126u8, 128..=255u8];
    let piece = prop_oneof![
        vec(byte, 0..4),
        r#"(Bearer|Basic|realm|error|=|"|\\|,| |\t|;|==)"#.prop_map(String::into_bytes),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic_or_invent(lines in vec(line(), 0..4)) {
        let sent = String::from_utf8_lossy(&lines.concat()).len();
        let mut read = 0;
        for challenge in parse(&lines) {
            prop_assert!(!challenge.scheme().is_empty());
            read += challenge.scheme().len() + challenge.token68().map_or(0, str::len);
            for (name, value) in challenge.params() {
                prop_assert!(!name.is_empty());
                // A byte cut off from its neighbours becomes a U+FFFD of three.
                read += name.len() + value.chars().filter(|c| *c != '\u{fffd}').count();
            }
        }
        prop_assert!(read <= sent);
    }

    #[test]
    fn several_lines_mean_the_same_as_one_with_commas_between(mut lines in vec(line(), 0..5)) {
        // One that isn't closed would take the lines behind it along.
        for line in &mut lines {
            line.retain(|byte| *byte != b'"');
        }
        prop_assert_eq!(parse(&lines), parse(&[lines.join(&b","[..])]));
    }

    #[test]
    fn what_the_grammar_writes_is_read_back_the_same(sent in vec((comma(), written()), 0..6)) {
        let lines = write(&sent);
        let read = parse(&lines);
        prop_assert_eq!(read.len(), sent.len(), "{:?}", lines);
        for (challenge, (_, written)) in read.iter().zip(&sent) {
            prop_assert_eq!(challenge.scheme(), &written.scheme);
            let params: Vec<_> = challenge.params().collect();
            match &written.credentials {
                Credentials::Token68(token68) => {
                    prop_assert_eq!(challenge.token68(), Some(token68.as_str()), "{:?}", lines);
                    prop_assert!(params.is_empty());
                }
                Credentials::Params(written) => {
                    prop_assert_eq!(challenge.token68(), None, "{:?}", lines);
                    let written: Vec<_> = written
                        .iter()
                        .map(|param| (param.name.as_str(), param.value.as_str()))
                        .collect();
                    prop_assert_eq!(params, written, "{:?}", lines);
                }
            }
        }
    }

    #[test]
    fn schemes_and_names_are_the_same_in_any_case(sent in written()) {
        let lines = write(&[(Comma::Line, sent.clone())]);
        let read = parse(&lines);
        prop_assert!(read[0].is_scheme(&sent.scheme.to_ascii_uppercase()));
        prop_assert!(read[0].is_scheme(&sent.scheme.to_ascii_lowercase()));
        let longer = format!("{}x", sent.scheme);
        prop_assert!(!read[0].is_scheme(&longer));
        for (name, _) in read[0].params() {
            let value = read[0].param(name);
            prop_assert!(value.is_some());
            prop_assert_eq!(read[0].param(&name.to_ascii_uppercase()), value);
            prop_assert_eq!(read[0].param(&name.to_ascii_lowercase()), value);
        }
    }
}
