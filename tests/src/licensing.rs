//! A vendor and his customers' machines: real licensing servers and management nodes, each with a folder,
//! a port and a machine identity of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use headroom_shared::endpoints::Endpoints;
use serde_json::Value;
use tempfile::TempDir;

use crate::{PATIENCE, programs};

/// A service's process. Dropping it ends it.
#[derive(Debug)]
struct Service {
    child: Child,
    log: PathBuf,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // what the test runner captures and shows
            eprintln!("--- {}:\n{}", self.log.display(), fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

fn command(program: &str, state: &Path) -> Command {
    let mut command = Command::new(programs().join(program));
    command.arg("--state").arg(state);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEADROOM_")) {
        command.env_remove(name);
    }
    command.env("NO_PROXY", "*");
    command
}

/// What a command wrote, and whether it was content.
fn outcome(command: &mut Command) -> Result<String, String> {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    if status.success() { Ok(text(stdout)) } else { Err(text(stderr)) }
}

impl Service {
    fn start(mut serve: Command, state: &Path) -> (Self, Endpoints) {
        let _ = fs::remove_file(state.join("endpoints.json"));
        let log = state.with_extension("log");
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let child = serve.stdout(Stdio::null()).stderr(file).spawn().expect("the program runs");
        let mut service = Self { child, log };
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(endpoints) = Endpoints::read(state) {
                return (service, endpoints);
            }
            if let Some(status) = service.child.try_wait().expect("a state") {
                panic!("the service ended: {status}");
            }
            assert!(Instant::now() < until, "the service does not serve");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// A licensing server.
#[derive(Debug)]
pub struct Vendor {
    service: Option<Service>,
    address: String,
    folder: TempDir,
}

impl Vendor {
    /// One that serves, with a customer `Example`.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut vendor = Self { service: None, address: "127.0.0.1:0".into(), folder };
        vendor.run(&["init"]);
        vendor.run(&["customer", "add", "Example"]);
        vendor.serve();
        vendor
    }

    /// Its state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("licensing")
    }

    /// A folder for files that people carry.
    #[must_use]
    pub fn desk(&self) -> &Path {
        self.folder.path()
    }

    /// Where it serves.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Serves, where it served before.
    pub fn serve(&mut self) {
        let mut serve = command("licensing-server", &self.state());
        serve.args(["serve", "--listen", &self.address]);
        let (service, endpoints) = Service::start(serve, &self.state());
        self.address = endpoints.get("grpc").expect("an address").to_owned();
        self.service = Some(service);
    }

    /// Ends at once, as by a power cut.
    pub fn kill(&mut self) {
        self.service = None;
    }

    /// Whether its process still runs.
    pub fn runs(&mut self) -> bool {
        self.service
            .as_mut()
            .is_some_and(|service| service.child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Runs its command line.
    ///
    /// # Panics
    /// When the command fails.
    pub fn run(&self, words: &[&str]) -> String {
        outcome(command("licensing-server", &self.state()).args(words))
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs its command line, which must fail, and gives its words.
    ///
    /// # Panics
    /// When the command is content.
    pub fn fails(&self, words: &[&str]) -> String {
        outcome(command("licensing-server", &self.state()).args(words)).expect_err("refused")
    }

    /// Sells a key for so many calls.
    pub fn sell(&self, feature: &str) -> String {
        self.run(&["key", "create", "--customer", "Example", "--sku", "HR-CALL", "--feature", feature])
            .trim()
            .to_owned()
    }

    /// Answers a request file, as by mail; gives the answer's file.
    pub fn answer(&self, request: &Path) -> PathBuf {
        let answer = request.with_extension("answer.xml");
        fs::write(&answer, self.run(&["answer", path(request)])).expect("written");
        answer
    }

    /// All it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.state().with_extension("log")).unwrap_or_default()
    }
}

/// A path as text.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn path(path: &Path) -> &str {
    path.to_str().expect("a path is text")
}

/// A customer's machine with a management node.
#[derive(Debug)]
pub struct Site {
    service: Option<Service>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    endpoints: Option<Endpoints>,
    folder: TempDir,
}

impl Site {
    /// A machine whose identity is made of `name`, with a management node that knows the vendor.
    #[must_use]
    pub fn start(vendor: &Vendor, name: &str) -> Self {
        let mut site = Self::new(name);
        site.init(vendor);
        site.serve();
        site
    }

    /// A machine without a management node.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let site =
            Self { service: None, flags: Vec::new(), environment: Vec::new(), endpoints: None, folder };
        site.identify(&format!("id-of-{name}"), &format!("52:54:00:{name}"));
        site
    }

    /// Makes its management node.
    pub fn init(&self, vendor: &Vendor) {
        let (key, authority) = (vendor.state().join("vendor.pub"), vendor.state().join("authority.pem"));
        let url = vendor.url();
        self.run(&[
            "init",
            "--vendor-key",
            path(&key),
            "--licensing",
            &url,
            "--licensing-authority",
            path(&authority),
        ]);
    }

    /// Gives the machine an installation and a network card.
    pub fn identify(&self, machine_id: &str, mac: &str) {
        let root = self.root();
        for (file, text) in [
            ("etc/machine-id", machine_id),
            ("sys/class/net/eth0/address", mac),
            ("sys/class/net/eth0/device/uevent", ""),
        ] {
            let file = root.join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            fs::write(file, text).expect("written");
        }
    }

    /// The folder under which the machine's identity is read.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("pool")
    }

    /// A folder for files that people carry.
    #[must_use]
    pub fn desk(&self) -> &Path {
        self.folder.path()
    }

    /// Further flags of `serve`, from its next start on.
    #[must_use]
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// A variable of the service's environment, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Serves.
    pub fn serve(&mut self) {
        let mut serve = command("management-node", &self.state());
        serve.args(["serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--machine-root"]);
        serve.arg(self.root()).args(&self.flags).envs(self.environment.iter().cloned());
        let (service, endpoints) = Service::start(serve, &self.state());
        (self.service, self.endpoints) = (Some(service), Some(endpoints));
    }

    /// Ends at once, as by a power cut.
    pub fn kill(&mut self) {
        self.service = None;
    }

    /// Ends at once and serves again.
    pub fn restart(&mut self) {
        self.kill();
        self.serve();
    }

    /// Where it serves conferencing nodes.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn address(&self) -> &str {
        self.endpoints.as_ref().and_then(|endpoints| endpoints.get("grpc")).expect("it serves")
    }

    /// Where it serves metrics.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn metrics(&self) -> &str {
        self.endpoints.as_ref().and_then(|endpoints| endpoints.get("metrics")).expect("it serves")
    }

    /// Runs its command line.
    ///
    /// # Errors
    /// The command's words, when it fails.
    pub fn try_run(&self, words: &[&str]) -> Result<String, String> {
        let mut run = command("management-node", &self.state());
        run.args(words);
        if matches!(words.first(), Some(&"fingerprint" | &"restore")) {
            run.arg("--machine-root").arg(self.root());
        }
        outcome(&mut run)
    }

    /// Runs its command line.
    ///
    /// # Panics
    /// When the command fails.
    pub fn run(&self, words: &[&str]) -> String {
        self.try_run(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Runs its command line, which must fail, and gives its words.
    ///
    /// # Panics
    /// When the command is content.
    pub fn fails(&self, words: &[&str]) -> String {
        match self.try_run(words) {
            Ok(text) => panic!("{words:?} was accepted: {text}"),
            Err(error) => error,
        }
    }

    /// A command's answer for machines.
    ///
    /// # Panics
    /// When the command fails.
    pub fn json(&self, words: &[&str]) -> Value {
        let mut words = words.to_vec();
        words.push("--json");
        serde_json::from_str(&self.run(&words)).expect("JSON")
    }

    /// The states of its licenses, and the kinds of its stored requests.
    pub fn licenses(&self) -> (Vec<String>, Vec<String>) {
        let list = self.json(&["license", "list"]);
        let texts = |items: &str, field: &str| {
            let items = list[items].as_array().expect("a list").iter();
            items.map(|item| item[field].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
        };
        (texts("licenses", "state"), texts("requests", "kind"))
    }

    /// Its only license's id.
    ///
    /// # Panics
    /// When it has another number of licenses.
    pub fn license(&self) -> String {
        let list = self.json(&["license", "list"]);
        let licenses = list["licenses"].as_array().expect("a list");
        assert_eq!(licenses.len(), 1, "{list}");
        licenses[0]["license"].as_str().expect("a text").to_owned()
    }

    /// Capacity of its pool of calls.
    pub fn capacity(&self) -> u64 {
        let pools = self.json(&["pool"]);
        let call = pools["pools"].as_array().expect("a list").iter().find(|pool| pool["feature"] == "call");
        call.map_or(0, |pool| pool["capacity"].as_u64().expect("a number"))
    }

    /// Names of the alarms that are on, ordered.
    pub fn alarms(&self) -> Vec<String> {
        let alarms = self.json(&["alarms"]);
        let alarms = alarms["alarms"].as_array().expect("a list").iter();
        let mut names: Vec<_> =
            alarms.map(|alarm| alarm["name"].as_str().expect("a text").to_owned()).collect();
        names.sort();
        names
    }

    /// Exports its only request, or the named one, to a new file.
    pub fn export(&self, name: &str) -> PathBuf {
        let number = fs::read_dir(self.desk()).expect("the desk").count();
        let file = self.desk().join(format!("request-{number}.xml"));
        self.run(&["license", "export", name, "--out", path(&file)]);
        file
    }

    /// Copies its state folder, while it does not serve.
    pub fn copy_state(&self, to: &Path) {
        assert!(self.service.is_none(), "a folder in use is no copy");
        copy(&self.state(), to);
    }

    /// Takes a copied state folder in the place of its own, while it does not serve.
    pub fn take_state(&self, from: &Path) {
        assert!(self.service.is_none(), "a folder in use is not replaced");
        let _ = fs::remove_dir_all(self.state());
        copy(from, &self.state());
    }

    /// All it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.state().with_extension("log")).unwrap_or_default()
    }
}

/// Copies a folder: its files and folders, not its sockets.
///
/// # Panics
/// When something cannot be copied.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder for the copy");
    for entry in fs::read_dir(from).expect("the folder").map(|entry| entry.expect("an entry")) {
        let (kind, target) = (entry.file_type().expect("its kind"), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).expect("a copied file");
        }
    }
}
