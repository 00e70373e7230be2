//! Generates the gRPC services from `../proto`; protox reads the files, so that nobody needs a protoc.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from("../proto");
    println!("cargo::rerun-if-changed={}", folder.display());
    let files = protox::compile(["overlay.proto", "overlay_peer.proto", "waves.proto"], [&folder])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // What reflection answers with.
    std::fs::write(out.join("overlay.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".slipring.overlay.v1.ScanPart.arrow")
        .bytes(".StreamPiece.arrow")
        // HTTP tells them by the contract's names.
        .message_attribute("MetricsResponse", "#[derive(serde::Serialize)]")
        .compile_fds(files)?;
    Ok(())
}
