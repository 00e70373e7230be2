//! The appliance's own image: its executable alone on an empty base.
//!
//! Nothing is pulled. The executable's digest is a label of the image, so that another build of the same version
//! makes a new image instead of running an old one.

use bollard::Docker;
use bollard::query_parameters::{BuildImageOptionsBuilder, RemoveImageOptions};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use super::RuntimeError;

const DIGEST_LABEL: &str = "slipring.executable";
const DOCKERFILE: &str = "FROM scratch\nCOPY slipring /slipring\nENTRYPOINT [\"/slipring\"]\n";

/// `slipring:<version>`.
pub(super) fn own_image() -> String {
    format!("slipring:{}", env!("CARGO_PKG_VERSION"))
}

/// Builds `image` from this executable unless it is there.
pub(super) async fn ensure_own(docker: &Docker, image: &str) -> Result<(), RuntimeError> {
    if !cfg!(target_feature = "crt-static") {
        return Err(RuntimeError::NotStatic);
    }
    let executable = tokio::fs::read("/proc/self/exe").await.map_err(|source| RuntimeError::Unreadable {
        what: "this executable (/proc/self/exe)".into(),
        source,
    })?;
    let digest: String = Sha256::digest(&executable).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut outdated = None;
    if let Ok(present) = docker.inspect_image(image).await {
        let label = present
            .config
            .and_then(|config| config.labels)
            .and_then(|mut labels| labels.remove(DIGEST_LABEL));
        if label.as_deref() == Some(&digest) {
            return Ok(());
        }
        outdated = label.and(present.id); // what we did not build is not ours to remove
    }
    tracing::info!(image, "building the image from this executable");
    let failed = |message: String| RuntimeError::Build { image: image.to_owned(), message };
    let context = build_context(&executable).map_err(|error| failed(error.to_string()))?;
    let labels = [(DIGEST_LABEL, digest.as_str())].into();
    let options = BuildImageOptionsBuilder::new().t(image).labels(&labels).rm(true).forcerm(true).build();
    let mut steps = docker.build_image(options, None, Some(bollard::body_full(context.into())));
    while let Some(step) = steps.next().await {
        match step {
            Ok(step) => {
                if let Some(detail) = step.error_detail {
                    let message = detail.message.unwrap_or_else(|| "no reason given".into());
                    let full = super::docker::says_disk_full(&message);
                    return Err(if full { RuntimeError::DiskFull { message } } else { failed(message) });
                }
            }
            Err(error) if super::docker::is_disk_full(&error) => {
                return Err(RuntimeError::DiskFull { message: error.to_string() });
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    }
    if let Some(outdated) = outdated
        && let Err(error) = docker.remove_image(&outdated, None::<RemoveImageOptions>, None).await
    {
        tracing::debug!(%error, "the image of an earlier build stays: a container uses it");
    }
    Ok(())
}

fn build_context(executable: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::with_capacity(executable.len() + 4096));
    for (name, content, mode) in
        [("Dockerfile", DOCKERFILE.as_bytes(), 0o644), ("slipring", executable, 0o755)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_cksum();
        archive.append_data(&mut header, name, content)?;
    }
    archive.into_inner()
}
