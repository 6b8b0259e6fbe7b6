//! Disks that are full or fail, under a real management node: it stops with the reason and acknowledges
//! nothing that is not durable; once the disk is well again it starts with exactly what it acknowledged.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use headroom_deploy::fleet::{Fleet, Options};
use headroom_tests::peer::{Peer, connect, granted, one_leg};
use headroom_tests::{Bundle, Deployment, libfiu, until};

/// Calls in one request.
const CALLS: usize = 64;

/// A file system of its own in memory, as small as is wanted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// # Panics
    /// When this user may not mount anything.
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).expect("a folder to mount on");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o"]).arg(format!("size={size}")).args(["tmpfs".as_ref(), at]);
        let mounted = mount.output().expect("mount runs");
        assert!(mounted.status.success(), "mount, which needs root: {mounted:?}");
        Self(at.to_owned())
    }

    /// Takes all that is free but so many KiB.
    fn fill_up(&self, leave: u64) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = fs::File::create(&ballast).expect("a file on the small disk");
        let block = [0; 4096];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().expect("its length").len();
        file.set_len(length.saturating_sub(leave * 1024)).expect("a shorter file");
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: at a failing test a service may still have its files open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn large(options: Options) -> Options {
    Options { nodes: Vec::new(), capacity: "1000000".into(), session_ttl: Some("1h".into()), ..options }
}

/// A node of the test's own.
async fn node(fleet: &Fleet) -> Peer {
    let bundle = Bundle::read(&fleet.enrol("peer").await.expect("the node is enrolled"));
    let channel = connect(fleet.management_address(), bundle.tls()).await.expect("a connection");
    Peer::open(channel).await.expect("a session")
}

/// Asks for calls until nobody answers; gives the calls that were granted, and those of the last request.
async fn until_silence(peer: &mut Peer) -> (Vec<String>, Vec<String>) {
    let mut held = Vec::new();
    for round in 0.. {
        let names: Vec<_> = (0..CALLS).map(|call| format!("call-{round:06}-{call:03}")).collect();
        match peer.allocate(names.iter().map(|name| one_leg(name)).collect()).await {
            Ok(answer) => {
                assert_eq!(granted(&answer).count(), CALLS);
                held.extend(names);
            }
            Err(_) => return (held, names),
        }
    }
    unreachable!("rounds are without end")
}

/// The pool holds what was granted, and at most the request in flight besides.
async fn exact(fleet: &Fleet, held: &[String], in_flight: &[String]) {
    let mut found: Vec<_> =
        fleet.pool().legs().await.expect("the legs").into_iter().map(|leg| leg.leg).collect();
    found.sort();
    let with = [held, in_flight].concat();
    assert!(found == held || found == with, "{} legs, {} were granted", found.len(), held.len());
    eprintln!("{} granted, {} found, 0 lost, 0 invented", held.len(), found.len());
}

/// Waits until the management node has ended by itself; gives what it said last.
async fn ended(deployment: &mut Deployment) -> String {
    until("the end of the management node", async || {
        let ended = deployment.ended();
        if ended == ["management"] { Ok(()) } else { Err(format!("{ended:?}")) }
    })
    .await;
    fs::read_to_string(deployment.layout().log("management")).expect("its log")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_pool_with_the_reason_and_with_space_again_it_starts_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = SmallDisk::mount(&folder.path().join("disk"), "48m");
    let state = disk.0.join("state");
    let mut deployment = Deployment::start_with(|options| large(Options { state, ..options })).await;
    let mut peer = node(&deployment).await;

    let ballast = disk.fill_up(1024);
    let (held, in_flight) = until_silence(&mut peer).await;
    let log = ended(&mut deployment).await;
    assert!(log.contains("No space left on device"), "{log}");
    assert!(log.contains("the store failed; nothing more is answered"), "{log}");

    // Without space it either starts or says why not; it never starts with less.
    match deployment.start_management().await {
        Ok(()) => exact(&deployment, &held, &in_flight).await,
        Err(error) => assert!(error.to_string().contains("No space left on device"), "{error}"),
    }
    deployment.kill_management().await;
    fs::remove_file(ballast).expect("space again");
    deployment.start_management().await.expect("it starts with space");
    exact(&deployment, &held, &in_flight).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_fails_ends_the_pool_with_the_reason_and_is_not_tried_again() {
    let mut deployment = Deployment::start_with(large).await;
    let fifo = deployment.layout().root().join("fiu");
    let libraries: Vec<_> = libfiu().into_iter().map(PathBuf::into_os_string).collect();
    deployment.kill_management().await;
    deployment.management_env = vec![
        ("LD_PRELOAD".into(), libraries.join(&OsString::from(" "))),
        ("FIU_CTRL_FIFO".into(), fifo.clone().into()),
        ("FIU_ENABLE".into(), OsString::new()),
    ];
    deployment.start_management().await.expect("it starts");
    let mut peer = node(&deployment).await;
    let held: Vec<_> = (0..CALLS).map(|call| format!("call-{call:03}")).collect();
    peer.allocate(held.iter().map(|name| one_leg(name)).collect()).await.expect("granted");

    // From now on the real program's real fdatasync answers with an error of the disk.
    let pid = deployment.management_pid().expect("it runs");
    let mut control = Command::new("fiu-ctrl");
    control.args(["-c", "enable name=posix/io/sync/fdatasync,failinfo=5", "-f"]).arg(&fifo);
    let told = control.arg(pid.to_string()).output().expect("fiu-ctrl runs");
    assert!(told.status.success() && told.stdout.is_empty(), "{told:?}");
    let in_flight = vec!["unsure".to_owned()];
    peer.allocate(vec![one_leg("unsure")]).await.expect_err("what is not durable is not acknowledged");
    let log = ended(&mut deployment).await;
    assert!(log.contains("cannot sync"), "{log}");
    assert!(log.contains("Input/output error"), "{log}");

    deployment.management_env.clear();
    deployment.start_management().await.expect("it starts on a disk that is well again");
    exact(&deployment, &held, &in_flight).await;
    deployment.stop().await;
}
