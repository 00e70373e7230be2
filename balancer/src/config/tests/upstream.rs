//! TLS towards replicas: the files are part of the configuration, and so are the mistakes in them.

use std::path::Path;

use super::*;
use crate::config::UpstreamSecurity;

const STATIC: &str = "fleet.runtime = \"static\"\nfleet.upstreams = [\"10.0.0.1:80\"]\n";

/// A certificate and its key, in files of these names.
fn write(folder: &Path, name: &str) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["replica.test".to_owned()]).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), cert.pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.key")), signing_key.serialize_pem()).unwrap();
}

/// The mistakes of a file whose `@` are this folder.
fn report(folder: &Path, file: &str) -> String {
    let file = format!("{STATIC}{}", file.replace('@', folder.to_str().unwrap()));
    let report = load(&file, &[], &[]).unwrap_err().to_string();
    assert!(report.contains("\n1 mistake in"), "one mistake is told once:\n{report}");
    report
}

#[test]
fn mistakes_in_files_are_told_with_the_file_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a");
    write(folder.path(), "b");
    std::fs::write(folder.path().join("empty.pem"), "nothing\n").unwrap();
    let on = "proxy.upstream_tls = \"on\"\n";
    let ca = "proxy.upstream_ca = \"@/a.pem\"\n";
    for (file, pieces) in [
        (
            format!("{on}proxy.upstream_ca = \"@/none.pem\""),
            &["slipring.toml:4:", "`proxy.upstream_ca`", "/none.pem", "No such file"][..],
        ),
        (
            format!("{on}proxy.upstream_ca = \"@/empty.pem\""),
            &["slipring.toml:4:", "/empty.pem holds no certificate"],
        ),
        (
            format!("{on}{ca}proxy.upstream_certificate = \"@/a.pem\""),
            &["slipring.toml:5:", "with proxy.upstream_key, or neither"],
        ),
        (
            format!("{on}{ca}proxy.upstream_certificate = \"@/a.pem\"\nproxy.upstream_key = \"@/b.key\""),
            &["slipring.toml:5:", "/b.key does not go with", "/a.pem"],
        ),
        (
            format!("{on}{ca}proxy.upstream_certificate = \"@/a.pem\"\nproxy.upstream_key = \"@/none.key\""),
            &["slipring.toml:5:", "/none.key", "No such file"],
        ),
        (ca.to_owned(), &["slipring.toml:3:", "in the clear"]),
        ("proxy.upstream_name = \"replica.test\"".to_owned(), &["slipring.toml:3:", "in the clear"]),
        (
            format!("{on}{ca}proxy.upstream_name = \"replica.test:443\""),
            &["slipring.toml:5:", "without a port"],
        ),
        (format!("proxy.upstream_tls = \"insecure\"\n{ca}"), &["slipring.toml:4:", "asks no authority"]),
        ("proxy.upstream_tls = \"yes\"".to_owned(), &["slipring.toml:3:", "one of off, on, insecure"]),
    ] {
        let report = report(folder.path(), &file);
        for piece in pieces {
            assert!(report.contains(piece), "{piece:?} is missing from the report on\n{file}\n{report}");
        }
    }
}

#[test]
fn the_machines_own_authorities_are_believed_where_no_others_are_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a");
    let file = format!("{STATIC}proxy.upstream_tls = \"on\"\n");
    let load_with = |name: &str| {
        let path = folder.path().join(name).to_str().unwrap().to_owned();
        load(&file, &[("SSL_CERT_FILE", &path)], &[])
    };
    let transport = load_with("a.pem").unwrap().main.forward.upstream.transport;
    assert!(transport.tls().is_some_and(|tls| tls.verifies()));
    // One that nobody can read takes nothing from the others.
    let good = std::fs::read_to_string(folder.path().join("a.pem")).unwrap();
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    std::fs::write(folder.path().join("some.pem"), [broken, &good, broken].concat()).unwrap();
    assert_eq!(load_with("some.pem").unwrap().main.forward.upstream.transport, transport);
    let report = load_with("none.pem").unwrap_err().to_string();
    assert!(report.contains("no file of authorities") && report.contains("/none.pem"), "{report}");
}

#[test]
fn a_demonstration_replica_speaks_neither_tls_nor_the_proxy_protocol() {
    for key in ["proxy.upstream_tls = \"insecure\"", "proxy.send_proxy_protocol = true"] {
        let name = key.split(' ').next().unwrap();
        for (file, right) in [
            ("", false),
            ("fleet.runtime = \"process\"", false),
            ("fleet.runtime = \"process\"\nprocess.command = [\"mine\"]", true),
            ("fleet.runtime = \"docker\"\nprocess.command = [\"mine\"]", false),
            ("fleet.runtime = \"docker\"\ndocker.image = \"mine\"", true),
            ("docker.image = \"mine\"", false),
            ("docker.image = \"mine\"\nprocess.command = [\"mine\"]", true),
            (STATIC, true),
        ] {
            let told = load(&format!("{key}\n{file}"), &[], &[]).map(drop).map_err(|error| error.to_string());
            assert_eq!(told.is_ok(), right, "{key} {file}: {told:?}");
            let mistake = |told: String| told.contains(name) && told.contains("demonstration replica");
            assert!(told.map_or_else(mistake, |()| true));
        }
    }
}

#[test]
fn a_pool_has_its_own_and_inherits_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a");
    let pools = format!(
        "{STATIC}proxy.upstream_tls = \"on\"\nproxy.upstream_ca = \"{}/a.pem\"\n\
         [pool.same]\nroutes = \"/same\"\nfleet.upstreams = [\"10.0.0.2:80\"]\n\
         [pool.named]\nroutes = \"/named\"\nfleet.upstreams = [\"10.0.0.2:80\"]\nproxy.upstream_name = \"replica.test\"\n\
         [pool.clear]\nroutes = \"/clear\"\nfleet.upstreams = [\"10.0.0.2:80\"]\nproxy.upstream_tls = \"off\"\n",
        folder.path().display()
    );
    let config = load(&pools, &[], &[]).unwrap();
    let marks: Vec<_> = config.all_pools().map(|pool| pool.forward.upstream.transport.mark()).collect();
    let [main, clear, named, same] = marks[..] else { panic!("{marks:?}") };
    assert!(main == same && main != named && main != 0 && named != 0 && clear == 0, "{marks:?}");
    assert_eq!(config.pools[0].forward.upstream.security, UpstreamSecurity::Off);
}

#[test]
fn a_file_that_changed_is_a_change_of_the_pool() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a");
    let file = format!(
        "{STATIC}proxy.upstream_tls = \"on\"\nproxy.upstream_ca = \"{}/a.pem\"\n",
        folder.path().display()
    );
    let before = load(&file, &[], &[]).unwrap();
    let same = load(&file, &[], &[]).unwrap();
    assert_eq!(Difference::between(&before, &same), Ok(Difference::default()));
    write(folder.path(), "a");
    let difference = Difference::between(&before, &load(&file, &[], &[]).unwrap()).unwrap();
    assert!(difference.keys.is_empty() && difference.pools.changed == ["default"], "{difference:?}");
}
