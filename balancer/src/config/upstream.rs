//! Keys of a pool that say what comes before a request on a connection to one of its replicas: TLS, the PROXY protocol.

use std::path::PathBuf;

use rustls::pki_types::ServerName;

use super::fleet::{FleetConfig, RuntimeChoice};
use super::keys::Effect::AtReload;
use super::parse;
use super::reader::Reader;
use super::runtime::{DockerConfig, ProcessConfig};
use crate::chain;
use crate::proxy::tls::TlsError;
use crate::proxy::tls::roots_of;
use crate::proxy::transport::Transport;
use crate::proxy::upstream_tls::{Identity, Trust, UpstreamTls, roots_of_machine};

/// Where distributions keep the authorities that a machine believes: Debian, Fedora, openSUSE, Alpine.
const MACHINE: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Whether replicas are spoken to over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamSecurity {
    /// In the clear.
    Off,
    /// Over TLS, with whoever has the right certificate.
    On,
    /// Over TLS, with whoever answers.
    Insecure,
}

/// How replicas are spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    /// Over TLS, or not.
    pub security: UpstreamSecurity,
    /// Whose certificates are believed; `None`: as this machine does.
    pub ca: Option<PathBuf>,
    /// What they are called in their certificates; `None`: by their addresses.
    pub name: Option<ServerName<'static>>,
    /// Our own certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// What is made of all that, and of what the files hold.
    pub transport: Transport,
}

pub(super) fn read(r: &mut Reader<'_>) -> UpstreamConfig {
    let security = r.key(
        "proxy.upstream_tls", AtReload,
        "off",
        "off | on | insecure: whether replicas are spoken to over TLS, heartbeats included; `insecure` does not look who answers.",
        parse::security,
    );
    let ca = r.key(
        "proxy.upstream_ca", AtReload,
        "",
        "The authorities that vouch for replicas, PEM, read at each reload; \"\": this machine's (SSL_CERT_FILE, or where its distribution has them).",
        parse::optional_path,
    );
    let name = r.key(
        "proxy.upstream_name", AtReload,
        "",
        "The name that replicas are asked for over TLS (SNI) and must have in their certificates; \"\": the address of each.",
        parse::optional_server_name,
    );
    let certificate = r.key(
        "proxy.upstream_certificate",
        AtReload,
        "",
        "Our own certificate for replicas that want one, its chain as PEM, read at each reload.",
        parse::optional_path,
    );
    let key = r.key("proxy.upstream_key", AtReload, "", "Its key as PEM.", parse::optional_path);
    let says_whose = r.key(
        "proxy.send_proxy_protocol", AtReload,
        "false",
        "Whether a connection to a replica begins with a header of the PROXY protocol, version 2, that says whose it is. Then no two clients share one, so that there are more of them: each ends with its client.",
        parse::truth,
    );
    let given = certificate.is_some() || key.is_some();
    if certificate.is_some() != key.is_some() {
        r.mistake(
            &["proxy.upstream_certificate", "proxy.upstream_key"],
            "proxy.upstream_certificate with proxy.upstream_key, or neither",
        );
    }
    if (ca.is_some() || name.is_some() || given) && !r.is_set_anywhere("proxy.upstream_tls") {
        r.mistake(
            &["proxy.upstream_ca", "proxy.upstream_name", "proxy.upstream_certificate", "proxy.upstream_key"],
            "proxy.upstream_tls = \"on\" beside it: without it replicas are spoken to in the clear",
        );
    }
    if ca.is_some() && security == UpstreamSecurity::Insecure {
        r.mistake(
            &["proxy.upstream_ca", "proxy.upstream_tls"],
            "proxy.upstream_tls = \"on\" with it: `insecure` asks no authority",
        );
    }
    let made = UpstreamConfig { security, ca, name, certificate, key, transport: Transport::default() };
    let tls = made.tls(r);
    UpstreamConfig { transport: Transport::new(tls, says_whose), ..made }
}

impl UpstreamConfig {
    /// Reads the files. `None`: in the clear, or there was a mistake.
    fn tls(&self, r: &mut Reader<'_>) -> Option<UpstreamTls> {
        let trust = match (self.security, &self.ca) {
            (UpstreamSecurity::Off, _) => return None,
            (UpstreamSecurity::Insecure, _) => Ok(Trust::Anyone),
            (UpstreamSecurity::On, Some(path)) => roots_of(path).map(Trust::Roots),
            (UpstreamSecurity::On, None) => roots_of_machine(&machine(r)).map(Trust::Roots),
        };
        let trust = trust.map_err(|error| {
            let expected = format!("authorities of replicas in a PEM file: {}", chain::words(&error));
            r.mistake(&["proxy.upstream_ca", "proxy.upstream_tls"], &expected);
        });
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Identity::load(certificate, key).map(Some),
            _ => Ok(None),
        };
        let (wrong, keys) = (
            |error: &TlsError| format!("a certificate and its key in PEM files: {}", chain::words(error)),
            ["proxy.upstream_certificate", "proxy.upstream_key"],
        );
        let identity = identity.map_err(|error| r.mistake(&keys, &wrong(&error)));
        let made = UpstreamTls::new(trust.ok()?, self.name.clone(), identity.ok()?);
        made.map_err(|error| r.mistake(&keys, &wrong(&self.mismatch(error)))).ok()
    }

    fn mismatch(&self, source: rustls::Error) -> TlsError {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                TlsError::Mismatch { key: key.clone(), certificate: certificate.clone(), source }
            }
            _ => TlsError::Setup(source),
        }
    }

    /// The replicas of our own speak neither.
    pub(super) fn check(
        &self,
        r: &mut Reader<'_>,
        fleet: &FleetConfig,
        process: &ProcessConfig,
        docker: &DockerConfig,
        overlay: bool,
    ) {
        let (program, image) = (!process.command.is_empty() && !overlay, docker.image.is_some() && !overlay);
        let can = match fleet.runtime {
            RuntimeChoice::Static => true,
            RuntimeChoice::Process => program,
            RuntimeChoice::Docker => image,
            RuntimeChoice::Auto => program && image,
        };
        if can {
            return;
        }
        let own = "replicas that speak it (fleet.runtime = \"static\" with fleet.upstreams, or your own in process.command or docker.image): the demonstration replica does not, nor does an overlay";
        if self.security != UpstreamSecurity::Off {
            r.mistake(&["proxy.upstream_tls"], own);
        }
        if self.transport.says_whose() {
            r.mistake(&["proxy.send_proxy_protocol"], own);
        }
    }
}

/// Where this machine's authorities may be.
fn machine(r: &Reader<'_>) -> Vec<PathBuf> {
    match r.variable("SSL_CERT_FILE") {
        Some(path) => vec![path.into()],
        None => MACHINE.map(PathBuf::from).to_vec(),
    }
}
