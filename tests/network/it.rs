//! The shells keep what the machines promise: the pool's own gRPC service and the node's own uplink, with
//! TLS, HTTP/2, time-outs and reconnection as they serve, on a network that is simulated. See [`world`].

mod fault;
mod ledger;
mod media;
mod node;
mod outages;
mod pool;
mod random;
mod wire;
mod world;
