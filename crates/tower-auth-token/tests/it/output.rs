//! What the program prints: a token, a line for a shell, a credential for kubectl.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tower_auth_test::ScriptedResponse;

use crate::support::World;

#[tokio::test]
async fn the_token_and_a_newline_and_nothing_else() {
    let world = World::new().await;
    assert_eq!(world.program().prints().await, "token-1\n");
}

#[tokio::test]
async fn an_exec_credential_has_the_token_and_its_expiry() {
    let world = World::new().await;
    let before = SystemTime::now();
    let printed = world.program().args(["--exec-credential"]).prints().await;
    let after = SystemTime::now();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let expiry = printed["status"]["expirationTimestamp"].as_str().unwrap();
    assert_eq!(
        printed,
        json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": "token-1", "expirationTimestamp": expiry},
        })
    );
    assert!(expiry.ends_with('Z') && !expiry.contains('.'), "{expiry}");
    let expiry = OffsetDateTime::parse(expiry, &Rfc3339).unwrap();
    let hour = Duration::from_secs(3600);
    let second = Duration::from_secs(1);
    assert!(expiry >= before + hour - second && expiry <= after + hour);

    // The second run takes the token from the store, with the same expiry.
    let again = world.program().args(["--exec-credential"]).prints().await;
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again, printed);
    world.server.assert_tokens_issued(1);
}

#[tokio::test]
async fn an_exec_credential_has_the_version_that_kubectl_asks_for() {
    let world = World::new().await;
    let info = |version: &str| {
        let info = json!({"kind": "ExecCredential", "apiVersion": version, "spec": {}});
        let program = world.program().args(["--exec-credential"]);
        program.env("KUBERNETES_EXEC_INFO", info.to_string())
    };
    for version in ["v1", "v1beta1"] {
        let version = format!("client.authentication.k8s.io/{version}");
        let printed: Value = serde_json::from_str(&info(&version).prints().await).unwrap();
        assert_eq!(printed["apiVersion"], version.as_str());
    }
    let old = info("client.authentication.k8s.io/v1alpha1").run().await;
    old.fails(64, "KUBERNETES_EXEC_INFO");
    let program = world.program().args(["--exec-credential"]);
    let broken = program.env("KUBERNETES_EXEC_INFO", "{").run().await;
    broken.fails(64, "KUBERNETES_EXEC_INFO");
    world.server.assert_tokens_issued(1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_shell_reads_an_exported_token_unchanged() {
    let world = World::new().await;
    for token in ["plain", "it's $HOME `id` \"x\" \\n !! $(id) ;'"] {
        let reply = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
        world
            .server
            .respond_next(ScriptedResponse::json(200, reply));
        let program = world
            .program()
            .args(["--no-store", "--export", "API_TOKEN"]);
        let line = program.prints().await;
        assert!(line.starts_with("export API_TOKEN='"), "{line}");
        let script = "eval \"$1\"; printf %s \"$API_TOKEN\"; env | grep -c ^API_TOKEN=";
        let shell = Command::new("sh")
            .args(["-c", script, "sh", &line])
            .output();
        let shell = String::from_utf8(shell.unwrap().stdout).unwrap();
        assert_eq!(shell, format!("{token}1\n"));
    }
}

#[tokio::test]
async fn only_a_name_of_a_variable_is_exported() {
    let world = World::new().await;
    for name in ["", "1A", "A-B", "A B", "A;id", "A=B", "Ä"] {
        let run = world.program().args(["--export", name]).run().await;
        run.fails(64, "--export");
    }
    let both = ["--export", "A", "--exec-credential"];
    world
        .program()
        .args(both)
        .run()
        .await
        .fails(64, "cannot be used with");
    world.server.assert_tokens_issued(0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_has_its_own_exit_code() {
    let world = World::new().await;
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let run = world.program().stdout(full()).run().await;
    run.fails(74, "could not write the token");
    let run = world.bare().args(["--help"]).stdout(full()).run().await;
    run.fails(74, "could not write the help");
}

#[tokio::test]
async fn version_and_help_are_on_stdout_and_need_no_settings() {
    let world = World::new().await;
    let version = world.bare().args(["--version"]).prints().await;
    assert_eq!(
        version,
        format!("tower-auth-token {}\n", env!("CARGO_PKG_VERSION"))
    );
    let help = world.bare().args(["--help"]).prints().await;
    for part in [
        "CLIENT_SECRET_FILE",
        "--exec-credential",
        "Exit codes:",
        "sealing.key",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(!help.contains("--client-secret "), "{help}");
}
