//! What a server didn't grant of the requested scope (RFC 6749 §3.3 and §5.1).

use std::collections::BTreeSet;

/// The requested scopes that were not granted: sorted, with single spaces between. `None` if there are none.
///
/// For a message to people. It must be right before the first 403, and silent with servers that write the
/// same scope in another way.
pub(crate) fn missing(requested: &str, granted: &str) -> Option<String> {
    let is_granted = |name: &str| granted.split_whitespace().any(|other| is_same(name, other));
    let requested = requested.split_whitespace();
    let missing: BTreeSet<&str> = requested
        .filter(|name| is_permission(name) && !is_granted(name))
        .collect();
    let missing: Vec<&str> = missing.into_iter().collect();
    (!missing.is_empty()).then(|| missing.join(" "))
}

/// Whether an API may refuse a request because a token lacks this scope.
fn is_permission(name: &str) -> bool {
    // OpenID Connect Core §5.4 and §11: for the ID token, the user info and the refresh token. Many
    // servers leave them out of the granted scope, and Google grants `email` by another name.
    let is_of_login = matches!(
        name,
        "openid" | "profile" | "email" | "address" | "phone" | "offline_access"
    );
    // Entra ID: "whatever was allowed before", for which it returns the names.
    let is_default = name == ".default" || name.ends_with("/.default");
    !is_of_login && !is_default
}

/// Entra ID returns `https://graph.microsoft.com/User.Read` for `user.read`, and the other way round.
fn is_same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || ends_in(one, other) || ends_in(other, one)
}

/// Whether `name` is the last segment of a scope that is a URL.
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
