//! The client's half of kubelet's services, for the kubelet simulator.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = "../host/proto";
    let files = protox::compile(["csi.proto", "registration.proto"], [folder])?;
    tonic_prost_build::configure().build_server(false).compile_fds(files)?;
    println!("cargo::rerun-if-changed={folder}");
    Ok(())
}
