//! Headers in which the token endpoint reports quotas.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::{Corpus, fuzz_target};
use tower_auth::TokenCache;
use tower_auth::oauth2::ClientCredentials;
use tower_auth_fuzz::{CLIENT_SECRET, is_harmful, response, run, server};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(response) = response(data) else {
        return Corpus::Reject;
    };
    let headers = response.headers().clone();
    let source =
        ClientCredentials::new("https://id.example.com/token", "the-client", CLIENT_SECRET)
            .unwrap()
            .transport(server([response]));
    let status = run(async {
        let cache = TokenCache::new(source);
        drop(cache.token().await);
        cache.status()
    });
    let quotas = status.quotas();
    assert!(quotas.len() <= 8);
    let names: HashSet<_> = quotas.iter().map(|quota| quota.bucket()).collect();
    assert_eq!(names.len(), quotas.len(), "a bucket twice: {quotas:?}");
    for quota in quotas {
        let name = quota.bucket();
        assert!(name.len() <= 64 && !name.contains(is_harmful), "{name:?}");
        assert!(!name.contains(CLIENT_SECRET), "{name:?}");
        let is_sent = |number: u64| {
            let digits = number.to_string();
            headers.values().any(|value| {
                let value = value.as_bytes();
                value
                    .windows(digits.len())
                    .any(|window| window == digits.as_bytes())
            })
        };
        assert!(is_sent(quota.remaining()), "invented: {quota:?}");
        assert!(quota.limit().is_none_or(is_sent), "invented: {quota:?}");
    }
    Corpus::Keep
});
