//! etcd: a counter that is compared and swapped in one transaction with the leg's key. The few messages it
//! takes are declared here, with the field numbers of etcd's `rpc.proto` and `kv.proto`.

use anyhow::{Context, Result, ensure};
use prost::Message;
use tokio::process::Command;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::server::{Process, free_address, program};
use super::{CAPACITY, Legs};
use crate::measure::{Samples, Worker};

const COUNTER: &[u8] = b"in_use";

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes, tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(bytes, tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes, tag = "1")]
    key: Vec<u8>,
    #[prost(bytes, tag = "2")]
    value: Vec<u8>,
}

/// That the key was last changed in this revision, for which the other fields' defaults stand.
#[derive(Clone, PartialEq, Message)]
struct Compare {
    /// 2 is the revision of the last change.
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes, tag = "3")]
    key: Vec<u8>,
    #[prost(int64, tag = "6")]
    mod_revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RequestOp {
    #[prost(oneof = "Op", tags = "1, 2, 3")]
    op: Option<Op>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Op {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
    /// Asks for the key alone, as a range does.
    #[prost(message, tag = "3")]
    Delete(RangeRequest),
}

#[derive(Clone, PartialEq, Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    failure: Vec<RequestOp>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseOp {
    #[prost(message, optional, tag = "1")]
    range: Option<RangeResponse>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseHeader {
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    responses: Vec<ResponseOp>,
}

pub(super) struct Server(Process);

impl Server {
    pub(super) async fn start() -> Result<Self> {
        let (folder, address, peer) = (tempfile::tempdir()?, free_address()?, free_address()?);
        let mut command = Command::new(program("etcd", "etcd-server")?);
        command.current_dir(folder.path()).args(["--data-dir", "data", "--log-level", "error"]);
        for option in ["--listen-client-urls", "--advertise-client-urls"] {
            command.arg(option).arg(format!("http://{address}"));
        }
        for option in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.arg(option).arg(format!("http://{peer}"));
        }
        command.arg("--initial-cluster").arg(format!("default=http://{peer}"));
        let server = Self(Process::start(command, address, folder).await?);
        let mut first = server.worker(0).await?;
        ensure!(first.swap(Vec::new(), 0).await?, "etcd has a counter already");
        Ok(server)
    }

    async fn worker(&self, worker: usize) -> Result<Counter> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.0.address))?.tcp_nodelay(true);
        let rpc = Grpc::new(endpoint.connect().await?);
        Ok(Counter { rpc, revision: 0, in_use: 0, lost: 0, legs: Legs::of(worker) })
    }

    pub(super) async fn workers(&self, count: usize) -> Result<Vec<Counter>> {
        let mut workers = Vec::with_capacity(count);
        for worker in 0..count {
            workers.push(self.worker(worker).await?);
        }
        Ok(workers)
    }

    /// All that was taken was given back.
    pub(super) async fn check(&self) -> Result<()> {
        let mut last = self.worker(0).await?;
        ensure!(!last.swap(Vec::new(), 0).await?, "etcd has no counter");
        ensure!(last.in_use == 0, "etcd has {} units in use", last.in_use);
        Ok(())
    }
}

pub(super) struct Counter {
    rpc: Grpc<Channel>,
    /// Of the counter, as seen last.
    revision: i64,
    in_use: i64,
    lost: u64,
    legs: Legs,
}

impl Counter {
    /// How often somebody else was first.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Sets the counter if nobody else did meanwhile, and the leg's key with it. Else the counter is read.
    async fn swap(&mut self, leg: Vec<Op>, in_use: i64) -> Result<bool> {
        let put = PutRequest { key: COUNTER.to_vec(), value: in_use.to_string().into_bytes() };
        let success = leg.into_iter().chain([Op::Put(put)]);
        let request = TxnRequest {
            compare: vec![Compare { target: 2, key: COUNTER.to_vec(), mod_revision: self.revision }],
            success: success.map(|op| RequestOp { op: Some(op) }).collect(),
            failure: vec![RequestOp { op: Some(Op::Range(RangeRequest { key: COUNTER.to_vec() })) }],
        };
        self.rpc.ready().await?;
        let path = "/etcdserverpb.KV/Txn".parse()?;
        let codec = ProstCodec::<TxnRequest, TxnResponse>::default();
        let answer = self.rpc.unary(tonic::Request::new(request), path, codec).await?.into_inner();
        if answer.succeeded {
            self.revision = answer.header.context("etcd answers without a header")?.revision;
            self.in_use = in_use;
        } else {
            let read = answer.responses.into_iter().find_map(|response| response.range?.kvs.pop());
            let counter = read.context("etcd has no counter")?;
            self.revision = counter.mod_revision;
            self.in_use = std::str::from_utf8(&counter.value)?.parse()?;
        }
        Ok(answer.succeeded)
    }

    /// Swaps until nobody else was first.
    async fn change(&mut self, leg: impl Fn() -> Op, by: i64) -> Result<()> {
        loop {
            let in_use = self.in_use + by;
            ensure!(in_use <= CAPACITY, "etcd's counter is at its limit");
            if self.swap(vec![leg()], in_use).await? {
                return Ok(());
            }
            self.lost += 1;
        }
    }
}

impl Worker for Counter {
    async fn step(&mut self, samples: &mut Samples) -> Result<()> {
        let key = self.legs.next().into_bytes();
        let put = || Op::Put(PutRequest { key: key.clone(), value: b"sip:leg@example.com".to_vec() });
        samples.time(1, self.change(put, 1)).await?;
        let delete = || Op::Delete(RangeRequest { key: key.clone() });
        samples.time(1, self.change(delete, -1)).await?;
        Ok(())
    }
}
