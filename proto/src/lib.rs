//! The wire contracts of Headroom, compiled from the `.proto` files of this folder.
//!
//! Nothing here is used beyond the edge of a service: each service converts to its own types.
#![allow(missing_docs, clippy::all, unreachable_pub)]

// The generated code refers between packages by their nesting, so the modules nest likewise.
mod headroom {
    pub mod common {
        pub mod v1 {
            tonic::include_proto!("headroom.common.v1");
        }
    }
    pub mod lease {
        pub mod v1 {
            tonic::include_proto!("headroom.lease.v1");
        }
    }
    pub mod admission {
        pub mod v1 {
            tonic::include_proto!("headroom.admission.v1");
        }
    }
    pub mod admin {
        pub mod v1 {
            tonic::include_proto!("headroom.admin.v1");
        }
    }
    pub mod licensing {
        pub mod v1 {
            tonic::include_proto!("headroom.licensing.v1");
        }
    }
}

pub use headroom::admin::v1 as admin;
pub use headroom::admission::v1 as admission;
pub use headroom::common::v1 as common;
pub use headroom::lease::v1 as lease;
pub use headroom::licensing::v1 as licensing;

/// The descriptors of all packages, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/headroom.bin"));
