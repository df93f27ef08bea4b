//! Finds the requested scopes that a server didn't grant (RFC 6749 §3.3 and §5.1).

use std::collections::BTreeSet;

/// Returns the requested scopes that were not granted: sorted and separated by single spaces.
/// Returns `None` if all scopes were granted.
///
/// With the result, the cache can warn before an API sends the first 403. A requested scope also
/// counts as granted if the server spells it differently.
pub(crate) fn missing(requested: &str, granted: &str) -> Option<String> {
    let is_granted = |name: &str| granted.split_whitespace().any(|other| is_same(name, other));
    let requested = requested.split_whitespace();
    let missing: BTreeSet<&str> = requested
        .filter(|name| is_permission(name) && !is_granted(name))
        .collect();
    let missing: Vec<&str> = missing.into_iter().collect();
    (!missing.is_empty()).then(|| missing.join(" "))
}

/// Returns whether an API may refuse a request because a token lacks this scope.
fn is_permission(name: &str) -> bool {
    // These scopes control the ID token, the user info and the refresh token (OpenID Connect Core
    // §5.4 and §11). Many servers omit them from the granted scope. Google returns `email` under
    // another name.
    let is_of_login = matches!(
        name,
        "openid" | "profile" | "email" | "address" | "phone" | "offline_access"
    );
    // At Entra ID, `.default` requests all scopes that were allowed before. The response names
    // those scopes instead of `.default`.
    let is_default = name == ".default" || name.ends_with("/.default");
    !is_of_login && !is_default
}

/// Returns whether both names are the same scope. Entra ID may return
/// `https://graph.microsoft.com/User.Read` for `user.read`, or the short form for the long form.
fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || ends_in(one, other) || ends_in(other, one)
}

/// Returns whether `name` is the last segment of `url`.
fn ends_in(url: &str, name: &str) -> bool {
    let start = url.len().checked_sub(name.len() + 1);
    let end = start.and_then(|start| url.get(start..)?.strip_prefix('/'));
    end.is_some_and(|end| end.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(requested: &str, granted: &str, expected: &str) {
        let missing = missing(requested, granted).unwrap_or_default();
        assert_eq!(missing, expected, "`{requested}` of `{granted}`");
    }

    #[test]
    fn order_repetition_and_further_scopes_do_not_count() {
        check("a b", "b a", "");
        check("a  a\tb", "b a b", "");
        check("a", "a b c", "");
        check("", "a", "");
        check("", "", "");
    }

    #[test]
    fn what_was_not_granted_is_missing_in_one_order() {
        check("c a b", "b", "a c");
        check("b c a c", "b", "a c");
        check("read:notes write:notes", "read:notes", "write:notes");
        check("a", "ab", "a");
        check("ab", "a", "ab");
    }

    #[test]
    fn scopes_of_a_login_are_no_permissions_of_an_api() {
        check("openid profile email offline_access read", "read", "");
        check("openid read", "openid", "read");
        check(
            ".default https://graph.microsoft.com/.default",
            "Mail.Read",
            "",
        );
    }

    #[test]
    fn a_scope_that_is_written_in_another_way_is_granted() {
        check("user.read", "https://graph.microsoft.com/User.Read", "");
        check("https://graph.microsoft.com/User.Read", "User.Read", "");
        check(
            "https://a.example/read",
            "https://b.example/read",
            "https://a.example/read",
        );
        check("read", "thread", "read");
        check("é", "https://a.example/é", "");
        check("é", "xé", "é");
    }
}
