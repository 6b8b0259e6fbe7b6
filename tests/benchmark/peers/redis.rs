//! Redis: a counter and the set of legs, changed together by a script; the file of commands is synced
//! before anything is answered.

use anyhow::{Result, ensure};
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, Client, Script};
use tokio::process::Command;

use super::server::{Process, free_address, program};
use super::{CAPACITY, Legs};
use crate::measure::{Samples, Worker};

const ALLOCATE: &str = "
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 1 end
if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[2]) then return 0 end
redis.call('INCR', KEYS[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1";
const RELEASE: &str = "
if redis.call('HDEL', KEYS[2], ARGV[1]) == 1 then redis.call('DECR', KEYS[1]) end
return 1";
const KEYS: [&str; 2] = ["in_use", "legs"];

pub(super) struct Server(Process, Client);

impl Server {
    pub(super) async fn start() -> Result<Self> {
        let (folder, address) = (tempfile::tempdir()?, free_address()?);
        let mut command = Command::new(program("redis-server", "redis-server")?);
        command.current_dir(folder.path()).arg("--port").arg(address.port().to_string()).args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ]);
        let process = Process::start(command, address, folder).await?;
        let client = Client::open(format!("redis://{address}"))?;
        Ok(Self(process, client))
    }

    pub(super) async fn workers(&self, count: usize) -> Result<Vec<Counter>> {
        let mut workers = Vec::with_capacity(count);
        for worker in 0..count {
            workers.push(Counter {
                redis: self.1.get_multiplexed_async_connection().await?,
                allocate: Script::new(ALLOCATE),
                release: Script::new(RELEASE),
                legs: Legs::of(worker),
            });
        }
        Ok(workers)
    }

    /// All that was taken was given back.
    pub(super) async fn check(&self) -> Result<()> {
        let mut redis = self.1.get_multiplexed_async_connection().await?;
        let in_use: i64 = redis.get(KEYS[0]).await?;
        ensure!(in_use == 0, "Redis at {} has {in_use} units in use", self.0.address);
        Ok(())
    }
}

pub(super) struct Counter {
    redis: MultiplexedConnection,
    allocate: Script,
    release: Script,
    legs: Legs,
}

impl Worker for Counter {
    async fn step(&mut self, samples: &mut Samples) -> Result<()> {
        let leg = self.legs.next();
        let mut allocate = self.allocate.prepare_invoke();
        allocate.key(&KEYS[..]).arg(&leg).arg(CAPACITY).arg(format!("sip:{leg}@example.com"));
        let taken: i64 = samples.time(1, allocate.invoke_async(&mut self.redis)).await?;
        ensure!(taken == 1, "Redis did not grant {leg}");
        let mut release = self.release.prepare_invoke();
        release.key(&KEYS[..]).arg(&leg);
        let _: i64 = samples.time(1, release.invoke_async(&mut self.redis)).await?;
        Ok(())
    }
}
