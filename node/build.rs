//! Generates the server of the forward stream; its messages are prost structs of ours,
//! so no .proto file and no protoc are needed.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let exchange = Method::builder()
        .name("exchange")
        .route_name("Exchange")
        .input_type("crate::forward::frames::Request")
        .output_type("crate::forward::frames::Response")
        .codec_path("tonic_prost::ProstCodec")
        .client_streaming()
        .server_streaming()
        .build();
    let forward = Service::builder()
        .name("Forward")
        .package("duet.node.v1")
        .method(exchange)
        .build();
    Builder::new().build_client(false).compile(&[forward]);
    println!("cargo::rerun-if-changed=build.rs");
}
