//! `slipring client`: one call with an exit code, and the prompt.

use serde_json::Value;
use slipring_tests::{Setup, run};

const SLIPRING: &str = env!("CARGO_BIN_EXE_slipring");
const TOKEN: &str = "0123456789abcdef";

fn setup() -> Setup {
    Setup::new(SLIPRING)
}

/// Runs `slipring client` against a balancer: exit code, standard output, standard error.
async fn client(url: &str, arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let arguments: Vec<_> = ["client", "--url", url].iter().chain(arguments).copied().collect();
    let output = run(SLIPRING, &arguments, &[], input).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the client prints text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_makes_one_call_and_its_exit_code_says_what_came_of_it() {
    let balancer = setup().start().await;
    let url = format!("http://{}", balancer.main.address);
    let call = async |arguments: &[&str]| client(&url, arguments, "").await;

    let rep = r#"{"message":{"N":3,"replicas":["Server-1","Server-2","Server-3"]},"status":"successful"}"#;
    assert_eq!(call(&["rep"]).await, (Some(0), format!("{rep}\n"), String::new()));
    let (code, output, _) = call(&["add", "2", "S4", "S5"]).await;
    assert_eq!(code, Some(0));
    assert_eq!(balancer.names().await, ["Server-1", "Server-2", "Server-3", "S4", "S5"], "{output}");
    for verb in ["rm", "del"] {
        assert_eq!(call(&[verb, "1", if verb == "rm" { "S4" } else { "S5" }]).await.0, Some(0));
    }
    assert_eq!(balancer.names().await.len(), 3);
    let (code, output, _) = call(&["get", "/home"]).await;
    assert!(code == Some(0) && output.contains("Hello from Server: "), "{output}");
    let (_, output, _) = call(&["--json", "get", "home"]).await;
    let answer: Value = serde_json::from_str(&output).expect("one JSON object");
    assert_eq!(answer["status"], 200);
    assert!(answer["replica"].as_str().is_some_and(|name| name.starts_with("Server-")), "{answer}");
    assert_eq!(answer["body"]["status"], "successful");

    let (code, output, _) = call(&["get", "/other"]).await;
    assert!(code == Some(1) && output.contains("endpoint does not exist"), "refused: {code:?} {output}");
    let (code, output, _) = call(&["rm", "9"]).await;
    assert!(code == Some(1) && output.contains("<Error>"), "refused: {code:?} {output}");
    for mistake in [&["add"][..], &["add", "x"], &["rm", "-1"], &["nonsense"], &["get"]] {
        assert_eq!(call(mistake).await.0, Some(2), "{mistake:?}");
    }
    assert_eq!(client("ftp://nowhere", &["rep"], "").await.0, Some(2));
    balancer.stop().await;
    let (code, output, error) = call(&["rep"]).await;
    assert_eq!((code, output.as_str()), (Some(3), ""), "nobody answers");
    assert!(error.contains("no balancer answers"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clients_prompt_prints_body_and_code() {
    let balancer = setup().start().await;
    let url = format!("http://{}", balancer.main.address);
    let input = "rep\nadd 2 S4 S5\n\ndel 1 S4\n/other\nheartbeat\n/home\nadd\nquit\nrep\n";
    let (code, output, error) = client(&url, &[], input).await;
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let lines: Vec<_> = output.lines().collect();
    let rep = |names: &str| {
        format!(
            r#"{{"message":{{"N":{},"replicas":[{names}]}},"status":"successful"}}"#,
            names.split(',').count()
        )
    };
    let first = r#""Server-1","Server-2","Server-3""#;
    assert_eq!(lines[0..2], [rep(first), "200".into()]);
    assert_eq!(lines[2..4], [rep(&format!(r#"{first},"S4","S5""#)), "200".into()]);
    assert_eq!(lines[4..6], [rep(&format!(r#"{first},"S5""#)), "200".into()]);
    assert!(lines[6].contains("'/other' endpoint does not exist in server replicas"), "{output}");
    assert_eq!(lines[7..10], ["400", "", "200"], "{output}");
    assert!(lines[10].contains("Hello from Server: "), "{output}");
    assert_eq!(lines[11], "200");
    assert!(lines[12].contains("add N"), "what can be said: {output}");
    assert_eq!(lines.len(), 13, "nothing after quit: {output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_sends_its_token() {
    let balancer = setup().set("admin.token", TOKEN).start().await;
    let url = format!("http://{}", balancer.main.address);
    assert_eq!(client(&url, &["--token", TOKEN, "rep"], "").await.0, Some(0));
    let (code, output, _) = client(&url, &["--token", "fedcba9876543210", "rep"], "").await;
    assert!(code == Some(1) && output.contains("token is wrong"), "{code:?} {output}");
    let output =
        run(SLIPRING, &["client", "--url", &url, "rep"], &[("SLIPRING_ADMIN_TOKEN", "fedcba9876543210")], "")
            .await;
    assert_eq!(output.status.code(), Some(1), "also from the environment");
}
