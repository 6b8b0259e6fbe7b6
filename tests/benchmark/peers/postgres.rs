//! PostgreSQL: one row with the count, a table of legs, and a function for each operation; what is
//! committed is synced.

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::server::{Process, free_address, program, run};
use super::{CAPACITY, Legs};
use crate::measure::{Samples, Worker};

const TABLES: &str = "
CREATE TABLE pool (feature text PRIMARY KEY, in_use bigint NOT NULL, capacity bigint NOT NULL)
    WITH (fillfactor = 10);
CREATE TABLE lease (leg text PRIMARY KEY, participant text NOT NULL, granted_at timestamptz NOT NULL);
CREATE FUNCTION allocate(wanted text, participant text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO lease VALUES (wanted, participant, now()) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN RETURN true; END IF;
    UPDATE pool SET in_use = in_use + 1 WHERE feature = 'call' AND in_use < capacity;
    IF NOT FOUND THEN DELETE FROM lease WHERE leg = wanted; RETURN false; END IF;
    RETURN true;
END $$;
CREATE FUNCTION release(ended text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM lease WHERE leg = ended;
    IF FOUND THEN UPDATE pool SET in_use = in_use - 1 WHERE feature = 'call'; END IF;
END $$;";

pub(super) struct Server(Process);

impl Server {
    pub(super) async fn start() -> Result<Self> {
        const PACKAGE: &str = "postgresql";
        let (folder, address) = (tempfile::tempdir()?, free_address()?);
        let data = folder.path().join("data");
        // It refuses to run as root; its package brings a user for it.
        let user = if rustix::process::geteuid().is_root() { Some(uid("postgres")?) } else { None };
        if let Some(user) = user {
            std::os::unix::fs::chown(folder.path(), Some(user), None)?;
        }
        let command = |name| {
            let mut command = Command::new(program(name, PACKAGE)?);
            command.current_dir(folder.path()).arg("-D").arg(&data);
            if let Some(user) = user {
                command.uid(user);
            }
            anyhow::Ok(command)
        };
        run(command("initdb")?.args(["-A", "trust", "-U", "headroom"])).await?;
        let mut postgres = command("postgres")?;
        postgres.arg("-p").arg(address.port().to_string());
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100"] {
            postgres.arg("-c").arg(setting);
        }
        let server = Self(Process::start(postgres, address, folder).await?);
        let client = server.client().await?;
        client.batch_execute(TABLES).await?;
        client.execute("INSERT INTO pool VALUES ('call', 0, $1)", &[&CAPACITY]).await?;
        Ok(server)
    }

    async fn client(&self) -> Result<Client> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.0.address.port()).user("headroom").dbname("postgres");
        // It listens a moment before it takes anybody.
        let connected = headroom_deploy::wait::until("PostgreSQL", headroom_tests::PATIENCE, async || {
            config.connect(NoTls).await.map_err(|error| error.to_string())
        });
        let (client, connection) = connected.await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub(super) async fn workers(&self, count: usize) -> Result<Vec<Counter>> {
        let mut workers = Vec::with_capacity(count);
        for worker in 0..count {
            let client = self.client().await?;
            let allocate = client.prepare("SELECT allocate($1, $2)").await?;
            let release = client.prepare("SELECT release($1)").await?;
            workers.push(Counter { client, allocate, release, legs: Legs::of(worker) });
        }
        Ok(workers)
    }

    /// All that was taken was given back.
    pub(super) async fn check(&self) -> Result<()> {
        let row = self.client().await?.query_one("SELECT in_use FROM pool", &[]).await?;
        let in_use: i64 = row.try_get(0)?;
        ensure!(in_use == 0, "PostgreSQL has {in_use} units in use");
        Ok(())
    }
}

/// The number of a user of this machine.
fn uid(name: &str) -> Result<u32> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split(':').nth(1));
    Ok(number.with_context(|| format!("this machine has no user {name}"))?.parse()?)
}

pub(super) struct Counter {
    client: Client,
    allocate: Statement,
    release: Statement,
    legs: Legs,
}

impl Worker for Counter {
    async fn step(&mut self, samples: &mut Samples) -> Result<()> {
        let leg = self.legs.next();
        let participant = format!("sip:{leg}@example.com");
        let row = samples.time(1, self.client.query_one(&self.allocate, &[&leg, &participant])).await?;
        ensure!(row.try_get::<_, bool>(0)?, "PostgreSQL did not grant {leg}");
        samples.time(1, self.client.query_one(&self.release, &[&leg])).await?;
        Ok(())
    }
}
