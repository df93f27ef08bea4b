//! Prints the results of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Run;
use crate::schedule::Spell;
use crate::verdict::Verdict;

pub(crate) fn print(run: &Run, verdict: &Verdict) {
    println!("\n      from  to      server       requests   failed  refused   calls");
    for spell in &run.schedule.spells {
        print_spell(run, spell);
    }
    let failed = run
        .requests
        .iter()
        .filter(|request| request.failure.is_some());
    println!(
        "      {:26} {:9}{:9}{:9}{:8}",
        "all together",
        run.requests.len(),
        failed.count(),
        run.truth.refusals().len(),
        run.calls.len(),
    );
    print_events(run);
    print_failures(run);
    print_latency(run, verdict);

    println!("\nThe maximum number of requests to the authorization server:");
    for line in &verdict.derivation {
        println!("  {line}");
    }
    println!();
    for figure in &verdict.figures {
        println!(
            "  {:36}{:>9}   {:18}{}",
            figure.name,
            figure.value,
            figure.allowed,
            if figure.holds { "ok" } else { "VIOLATED" }
        );
    }
}

/// Prints the counts of one spell. A request belongs to the spell in which the request ends. A
/// refusal or a call belongs to the spell in which it arrives.
fn print_spell(run: &Run, spell: &Spell) {
    let ended = || {
        let requests = run.requests.iter();
        requests.filter(|request| spell.contains(request.end))
    };
    let refusals = run.truth.refusals();
    println!(
        "    {:5.1} – {:4.1} s   {:12} {:9}{:9}{:9}{:8}",
        spell.from.as_secs_f64(),
        spell.until.as_secs_f64(),
        spell.name(),
        ended().count(),
        ended().filter(|request| request.failure.is_some()).count(),
        refusals
            .iter()
            .filter(|time| spell.contains(**time))
            .count(),
        run.calls
            .iter()
            .filter(|call| spell.contains(call.at))
            .count(),
    );
}

fn print_events(run: &Run) {
    let times = |times: &[Duration]| {
        let times = times
            .iter()
            .map(|time| format!("{:.1}", time.as_secs_f64()));
        times.collect::<Vec<_>>().join(", ")
    };
    println!(
        "\nThe keys were rotated at {} s; the current token was revoked at {} s.",
        times(&run.schedule.rotations),
        times(&run.schedule.revocations),
    );
    let mended = run
        .requests
        .iter()
        .filter(|request| request.refusals > 0 && request.failure.is_none());
    println!(
        "{} refused requests were sent again and succeeded.",
        mended.count()
    );
}

fn print_failures(run: &Run) {
    let mut reasons = BTreeMap::<&str, usize>::new();
    for reason in run.requests.iter().filter_map(|request| request.failure) {
        *reasons.entry(reason).or_default() += 1;
    }
    let reasons: Vec<String> = reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    println!("Failures, by error: {}.", reasons.join(", "));
}

fn print_latency(run: &Run, verdict: &Verdict) {
    let mut added: Vec<Duration> = run.requests.iter().map(|request| request.added).collect();
    added.sort();
    let quantile = |permille: usize| {
        let nth = added.len().saturating_sub(1) * permille / 1000;
        added.get(nth).copied().unwrap_or_default()
    };
    println!(
        "Delay of a request: median {:.2?}, p99 {:.2?}, p99.9 {:.2?}; at most {:.2?} \
         while the cache had a valid token.",
        quantile(500),
        quantile(990),
        quantile(999),
        verdict.most_added_with_token,
    );
}
