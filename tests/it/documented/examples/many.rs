//! Fleets, tenants and outages.

use super::{example, support};

#[cfg(feature = "file")]
#[tokio::test]
async fn fleet_is_eight_processes_and_one_fetch_a_phase() {
    let run = example("fleet").run().await;
    run.succeeded();
    for phase in ["no token yet", "token expired", "token revoked"] {
        let figures = run.line(phase).strip_prefix(phase).unwrap();
        let figures: Vec<&str> = figures.split_whitespace().collect();
        assert_eq!(figures[..3], ["8", "8000", "1"], "{figures:?}");
    }
    run.leaks_nothing(&[support::CLIENT_SECRET]);
}

#[cfg(feature = "fleet")]
#[tokio::test]
async fn fleet_sim_has_a_thousand_processes_fetch_as_often_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("fleet_sim.svg");
    let run = example("fleet_sim")
        .arg("--processes")
        .arg("10,1000")
        .arg("--svg")
        .arg(&svg)
        .run()
        .await;
    run.succeeded();
    let rows: Vec<Vec<&str>> = run
        .stdout
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect())
        .collect();
    let fetches: Vec<_> = rows.iter().map(|row| (row[0], row[1], row[2])).collect();
    let [alone, shared, many_alone, many_shared] = fetches[..] else {
        panic!("{run:?}");
    };
    assert_eq!(
        (alone, many_alone),
        (("10", "none", "80"), ("1000", "none", "8000"))
    );
    assert_eq!(
        (shared, many_shared),
        (("10", "shared", "8"), ("1000", "shared", "8"))
    );
    assert!(
        std::fs::read_to_string(svg)
            .unwrap()
            .contains("Fetches per hour")
    );
    run.leaks_nothing(&["MDEyMzQ1"]);
}

#[cfg(feature = "tenants")]
#[tokio::test]
async fn tenants_are_in_nobodys_way_and_take_little_memory() {
    let run = example("tenants").arg("10000").run().await;
    run.succeeded();
    assert!(run.line("tenant-1").contains("100 requests served"));
    assert!(run.line("refuses:").contains("`invalid_client`"));
    assert!(
        run.line("hangs:")
            .ends_with("still waiting, and no other tenant is")
    );
    let line = run.line("10000 idle tenants");
    let bytes = line.split(' ').rev().nth(2).unwrap();
    assert!(bytes.parse::<usize>().unwrap() < 1_700, "{line}");
    run.leaks_nothing(&[support::CLIENT_SECRET, "issued to"]);
}

#[tokio::test]
async fn chaos_tells_of_a_short_run_and_of_no_token() {
    let run = example("chaos")
        .arg("--seconds")
        .arg("10")
        .arg("--callers")
        .arg("20")
        .run()
        .await;
    // The exit code depends on timing, and this machine may be busy.
    assert!(matches!(run.code, Some(0 | 1)), "{run:?}");
    assert!(run.stdout.lines().count() > 5, "{run:?}");
    run.leaks_nothing(&["-token-"]);
}
