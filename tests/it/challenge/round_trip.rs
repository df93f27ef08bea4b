//! Challenges that the grammar generates are parsed back unchanged. Arbitrary bytes do no harm.

use proptest::collection::vec;
use proptest::prelude::*;

use super::parse;

/// A challenge and how it is written.
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
    /// Whether the value is quoted although it needn't be.
    is_quoted: bool,
    /// Whether characters are escaped although they needn't be.
    is_escaped: bool,
    bad_space: (String, String),
    /// The separator before this parameter, unless it is the first.
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

/// Writes the challenges by the grammar of RFC 9110 §11.6.1.
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
                // Invalid UTF-8 becomes U+FFFD, which has three bytes.
                read += name.len() + value.chars().filter(|c| *c != '\u{fffd}').count();
            }
        }
        prop_assert!(read <= sent);
    }

    #[test]
    fn several_lines_mean_the_same_as_one_with_commas_between(mut lines in vec(line(), 0..5)) {
        // An unclosed quote would swallow the following lines.
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

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}"
}

/// Fragments with a meaning to the parser, among random bytes.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\t'), 32..=126u8, 128..=255u8];
    let piece = prop_oneof![
        vec(byte, 0..4),
        r#"(Bearer|Basic|realm|error|=|"|\\|,| |\t|;|==)"#.prop_map(String::into_bytes),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}
