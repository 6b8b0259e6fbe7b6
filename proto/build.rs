//! Compiles the .proto files with a compiler written in Rust, so that no `protoc` is needed.

use prost::Message;

const FILES: [&str; 6] = [
    "headroom/common/v1/common.proto",
    "headroom/lease/v1/lease.proto",
    "headroom/admission/v1/admission.proto",
    "headroom/admin/v1/admin.proto",
    "headroom/admin/v1/license.proto",
    "headroom/licensing/v1/licensing.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("headroom.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
