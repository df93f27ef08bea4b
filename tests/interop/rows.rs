//! Each row of the guide's table of API requirements, with the tests that run it against servers of
//! other projects.

use crate::test_names::tests_in;

const GUIDE: &str = include_str!("../../src/docs/choosing.md");
const HEAD: &str = "| your API asks for | use |";

const ROWS: &[(&str, &[&str])] = &[
    (
        "OAuth 2 client credentials, in JSON or as a form, with an `audience` (Auth0)",
        &[
            "oidc_provider::auth0_is_asked_in_json_or_by_a_form_and_with_an_audience",
            "django_oauth::a_hundred_callers_cost_one_token",
        ],
    ),
    (
        "OAuth 2 client credentials with basic authentication, scopes or resources",
        &[
            "django_oauth::basic_authentication_and_scopes_are_understood",
            "django_oauth::a_wrong_secret_is_an_invalid_client_either_way_it_is_sent",
            "oidc_provider::a_token_is_for_the_resource_that_it_was_asked_for",
        ],
    ),
    (
        "the same, if you know only the issuer (RFC 8414, OpenID Connect)",
        &[
            "oidc_provider::the_endpoint_is_found_by_the_name_of_the_issuer",
            "django_oauth::basic_authentication_and_scopes_are_understood",
        ],
    ),
    (
        "a token from the authorization server that its 401 names (RFC 9728), as MCP servers do",
        &[
            "driven_by_apis::the_server_is_the_one_that_the_api_names",
            "driven_by_apis::a_server_that_is_not_allowed_is_asked_for_nothing",
        ],
    ),
    (
        "a token for a person who has logged in before",
        &[
            "django_oauth::a_refresh_token_is_rotated_and_an_old_one_requires_a_login",
            "django_oauth::a_login_that_ends_with_the_cache_is_over_at_the_server_too",
        ],
    ),
    (
        "a JWT that a service account signs (Google)",
        &["authlib::a_service_account_gets_tokens_for_what_it_signs"],
    ),
    (
        "a JWT signed with the client's key or secret (`private_key_jwt`, `client_secret_jwt`)",
        &[
            "oidc_provider::a_client_proves_itself_with_its_key",
            "oidc_provider::a_client_proves_itself_with_its_secret_without_sending_it",
        ],
    ),
    (
        "the identity of a Kubernetes pod, or of another platform that writes a token to a file",
        &[
            "oidc_provider::a_client_is_known_by_the_token_that_its_platform_puts_in_a_file",
            "authlib::a_pod_gets_tokens_for_what_its_platform_puts_in_a_file",
        ],
    ),
    (
        "a token in exchange for another one, for a person or for another service",
        &[
            "authlib::a_token_is_exchanged_for_one_further_on",
            "authlib::a_subject_that_is_good_no_more_is_fetched_anew_and_exchanged",
        ],
    ),
    (
        "a client certificate (mutual TLS), to which tokens are bound",
        &[
            "oidc_logins::a_service_is_known_by_its_certificate",
            "oidc_logins::a_token_that_is_bound_to_a_certificate_is_of_use_with_it_alone",
            "nginx_mtls::a_token_is_bound_to_the_certificate_that_nginx_saw_at_the_token_endpoint",
        ],
    ),
    (
        "a proof of possession with each request (DPoP, RFC 9449)",
        &[
            "oidc_logins::a_token_that_is_bound_to_a_key_is_of_use_with_its_proofs_alone",
            "oidc_logins::a_service_has_its_tokens_bound_to_its_key",
        ],
    ),
    (
        "more scope for some requests, or a newer login (`insufficient_scope`, RFC 9470)",
        &[
            "driven_by_apis::a_token_gets_the_scope_that_the_api_lacks_if_it_may",
            "driven_by_apis::without_a_step_up_the_refusal_is_the_callers_to_see",
            "oidc_logins::an_api_that_wants_a_fresher_login_is_satisfied_by_one_and_by_no_new_token",
        ],
    ),
    (
        "a bearer token that another program rotates in a file or a variable",
        &[
            "django_oauth::a_token_that_somebody_else_rotates_in_a_file_is_read_anew_once_it_is_refused",
        ],
    ),
    (
        "a person who logs in with a browser",
        &[
            "django_oauth::a_person_who_logs_in_with_their_browser_stays_logged_in",
            "oidc_logins::a_person_logs_in_and_the_program_goes_on_without_them",
            "oidc_logins::the_answer_of_a_server_that_was_not_asked_is_refused",
        ],
    ),
    (
        "a person who logs in on another device, for a program without a browser",
        &[
            "django_oauth::a_person_logs_in_on_another_device",
            "django_oauth::a_person_who_says_no_on_the_other_device_denies_access",
        ],
    ),
    (
        "a login in JSON with user name and password, and a refresh token afterwards",
        &[
            "login::fifty_callers_are_one_login_and_at_each_expiry_one_refresh_with_the_newest_refresh_token",
            "login::a_refresh_token_that_is_blacklisted_costs_a_login_and_nobody_sees_it",
        ],
    ),
    (
        "a session cookie from such a login",
        &[
            "session::sessions_that_the_server_forgets_are_one_login_for_all_and_one_replay_each",
            "session::closing_the_cache_ends_the_session_on_the_server",
        ],
    ),
    (
        "an API key in a header or in the query",
        &[
            "api_key::a_key_in_a_file_that_was_replaced_is_read_anew_when_nginx_refuses_the_old_one",
            "api_key::a_key_in_the_query_arrives_behind_the_callers_own_parameters",
        ],
    ),
    (
        "Digest authentication, or another credential that is computed for each request",
        &[
            "digest::the_nonce_is_learned_from_the_first_401_and_used_again",
            "digest::after_the_server_has_forgotten_its_nonces_the_next_request_has_a_new_one",
        ],
    ),
    (
        "a separate credential for each tenant, scope, audience or origin",
        &[
            "driven_by_apis::each_audience_has_a_token_of_its_own",
            "nginx_tenants::each_tenant_sees_its_own_tokens_alone_and_a_revocation_at_one_costs_the_other_nothing",
        ],
    ),
    (
        "anything else",
        &["driven_by_apis::a_closure_asks_the_server_in_a_way_of_its_own"],
    ),
];

/// Returns the first cell of each row.
fn asked_for() -> Vec<&'static str> {
    let (_, table) = GUIDE.split_once(HEAD).unwrap();
    let rows = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap().trim());
    cells.filter(|cell| *cell != "---").collect()
}

#[test]
fn each_row_of_the_guides_table_is_run_against_a_real_server() {
    let rows: Vec<_> = ROWS.iter().map(|(row, _)| *row).collect();
    assert_eq!(asked_for(), rows);
    let tests = tests_in("tests/interop");
    for (row, named) in ROWS {
        assert!(!named.is_empty(), "{row}");
        for name in *named {
            assert!(tests.contains(*name), "{row}: there is no {name}");
        }
    }
}
