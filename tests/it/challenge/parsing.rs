//! What the parser reads from a header, however it is written.

use std::time::{Duration, Instant};

use http::HeaderMap;
use tower_auth::challenge::Challenge;

use super::parse;

/// Shows challenges as one line of text: `scheme token68? {name: value}*`, with `|` between them.
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
    // `realm=` is read as a token68. The parameter after it belongs to the same challenge.
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
    // Here the text `insufficient_scope` is in the description, not in `error`.
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
        // Each line contains text that the grammar doesn't allow, such as words after a value.
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
        // The first line has a parameter without a value, and the second has one without a
        // challenge.
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

/// Quadratic work on these headers would take minutes. Linear work takes a fraction of a second.
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
