//! Turns the descriptions of kubelet's two services into Rust, without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/csi.proto", "proto/registration.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        // Requests hold tokens and secrets, so no request can be printed.
        .skip_debug([".csi.v1.NodePublishVolumeRequest"])
        .compile_fds(files)?;
    println!("cargo::rerun-if-changed=proto");
    Ok(())
}
