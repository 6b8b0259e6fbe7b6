//! The licensing server as its users meet it: the real binary on a real folder.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use headroom_core::fingerprint::{Fingerprint, Sources};
use headroom_core::license::{PublicKey, SignedLicense, TrustedKeys, VerifiedLicense};
use headroom_shared::endpoints::Endpoints;

const BINARY: &str = env!("CARGO_BIN_EXE_licensing-server");

fn command(state: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--state").arg(state).args(words);
    for variable in ["HEADROOM_STATE", "HEADROOM_LOG", "HEADROOM_LISTEN", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command
}

fn run(state: &Path, words: &[&str]) -> Output {
    command(state, words).output().expect("the binary runs")
}

fn good(state: &Path, words: &[&str]) -> String {
    let output = run(state, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn bad(state: &Path, words: &[&str]) -> String {
    let output = run(state, words);
    assert!(!output.status.success(), "{words:?} was accepted");
    assert!(output.stdout.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).expect("text")
}

fn fingerprint() -> Fingerprint {
    let sources = Sources { machine_id: Some("1234".into()), ..Sources::default() };
    Fingerprint::new(&sources).expect("a fingerprint")
}

fn verified(state: &Path, file: &[u8]) -> VerifiedLicense {
    let text = std::fs::read_to_string(state.join("vendor.pub")).expect("the vendor's key");
    let key: PublicKey = text.parse().expect("a key");
    let signed = SignedLicense::parse(file).expect("a license file");
    signed.verify(&TrustedKeys::from(key)).expect("verifies")
}

fn issue<'a>(fingerprint: &'a str, feature: &'a str, out: &'a str) -> Vec<&'a str> {
    vec!["issue", "--fingerprint", fingerprint, "--feature", feature, "--out", out]
}

#[test]
fn an_issued_license_file_verifies_with_the_vendors_key_and_is_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    good(&state, &["init"]);
    let (machine, out) = (fingerprint(), folder.path().join("site.license"));
    let (text, file) = (machine.to_string(), out.display().to_string());
    let mut words = issue(&text, "call=10+2", &file);
    words.extend(["--feature", "connect.teams=5", "--sku", "HR-10", "--customer", "Example Ltd"]);
    words.extend(["--not-after", "2999-01-01T00:00:00Z"]);
    good(&state, &words);
    let license = verified(&state, &std::fs::read(&out).expect("the file"));
    let document = license.document();
    assert_eq!(document.fingerprint, machine);
    let features: Vec<_> = document
        .features
        .iter()
        .map(|feature| (feature.feature.as_str(), feature.quantity.0, feature.overdraft.0))
        .collect();
    assert_eq!(features, [("call", 10, 2), ("connect.teams", 5, 0)]);
    assert_eq!((document.sku.as_str(), document.customer.as_str()), ("HR-10", "Example Ltd"));
    let listed = good(&state, &["activation", "list", "--json"]);
    assert!(listed.contains(document.license.as_str()) && listed.contains(&text), "{listed}");
    assert!(good(&state, &["activation", "list"]).contains("call=10+2 connect.teams=5"));
    let keys = good(&state, &["signing-key", "list", "--json"]);
    assert!(keys.contains(&license.key().to_string()), "{keys}");
    let again = bad(&state, &words);
    assert!(again.contains("--out") && again.contains("exists already"), "{again}");
}

#[test]
fn a_second_init_refuses_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path();
    good(state, &["init", "--json"]);
    let read = |name: &str| std::fs::read(state.join(name)).expect("a file");
    let before = (read("vendor.pub"), read("signing.key"));
    let error = bad(state, &["init"]);
    assert!(error.contains("initialised already"), "{error}");
    assert_eq!(before, (read("vendor.pub"), read("signing.key")));
    for secret in ["signing.key", "server.key", "authority.key"] {
        let mode = std::fs::metadata(state.join(secret)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    std::fs::remove_file(state.join("vendor.pub")).expect("removed");
    let error = bad(state, &["init"]);
    assert!(error.contains("interrupted") && error.contains("signing.key"), "{error}");
}

#[test]
fn bad_input_names_the_flag_and_the_limit_and_issues_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path();
    let machine = fingerprint().to_string();
    let error = bad(state, &issue(&machine, "call=1", "-"));
    assert!(error.contains("init"), "{error}");
    good(state, &["init"]);
    let long = format!("{}=1", "x".repeat(64));
    for (feature, part) in [
        ("call=0", "from 1 to 4294967295"),
        ("call=many", "from 1 to 4294967295"),
        ("call", "call=10"),
        (long.as_str(), "at most 63"),
    ] {
        let error = bad(state, &issue(&machine, feature, "-"));
        assert!(error.contains("--feature") && error.contains(part), "{feature}: {error}");
    }
    let error = bad(state, &issue("hrfp1-00", "call=1", "-"));
    assert!(error.contains("--fingerprint"), "{error}");
    let mut twice = issue(&machine, "call=1", "-");
    twice.extend(["--feature", "call=2"]);
    let error = bad(state, &twice);
    assert!(error.contains("features[1].feature") && error.contains("given twice"), "{error}");
    let mut never = issue(&machine, "call=1", "-");
    never.extend(["--not-before", "2030-01-01", "--not-after", "2029-01-01"]);
    assert!(bad(state, &never).contains("not_after"), "ends before it begins");
    assert_eq!(good(state, &["activation", "list", "--json"]).trim(), r#"{"activations":[]}"#);
    let error = Command::new(BINARY)
        .args(["activation", "list"])
        .env_remove("HEADROOM_STATE")
        .output()
        .expect("runs");
    assert!(String::from_utf8_lossy(&error.stderr).contains("--state"));
}

struct Service(Child);

impl Service {
    fn start(state: &Path) -> (Self, Endpoints) {
        let mut child = command(state, &["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Ok(endpoints) = Endpoints::read(state) {
                return (Self(child), endpoints);
            }
            if child.try_wait().expect("a state").is_some() || Instant::now() > until {
                let _ = child.kill();
                let mut text = String::new();
                let _ = child.stderr.take().expect("a pipe").read_to_string(&mut text);
                panic!("the service does not serve: {text}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self) {
        let ended = Command::new("kill").arg("-TERM").arg(self.0.id().to_string()).status();
        assert!(ended.expect("kill runs").success());
        let status = self.0.wait().expect("it ends");
        let mut text = String::new();
        self.0.stderr.take().expect("a pipe").read_to_string(&mut text).expect("its log");
        assert!(status.success(), "{status}: {text}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_service_issues_on_its_socket_and_shows_strangers_the_keys_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path();
    good(state, &["init"]);
    let machine = fingerprint().to_string();
    let before = good(state, &issue(&machine, "call=1", "-"));
    let (service, endpoints) = Service::start(state);
    let during = good(state, &issue(&machine, "call=2", "-"));
    for (file, units) in [(&before, 1), (&during, 2)] {
        let license = verified(state, file.as_bytes());
        assert_eq!(license.document().features[0].quantity.0, units);
        assert!(good(state, &["activation", "list"]).contains(license.document().license.as_str()));
    }
    let second = bad(state, &["serve", "--listen", "127.0.0.1:0"]);
    assert!(second.contains("already runs"), "{second}");
    strangers(state, endpoints.get("grpc").expect("an address"));
    service.end();
    for gone in ["endpoints.json", "licensing-server.sock"] {
        assert!(!state.join(gone).exists(), "{gone}");
    }
    assert_eq!(good(state, &["activation", "list", "--json"]).matches("\"license\":").count(), 2);
}

fn strangers(state: &Path, address: &str) {
    use headroom_proto::licensing::activation_service_client::ActivationServiceClient;
    use headroom_proto::licensing::licensing_service_client::LicensingServiceClient;
    use headroom_proto::licensing::{ListActivationsRequest, ListSigningKeysRequest};
    headroom_shared::tls::install_provider();
    let authority = std::fs::read_to_string(state.join("authority.pem")).expect("the authority");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{address}"))
            .expect("an address")
            .tls_config(headroom_shared::tls::client(&authority, "licensing-server", None))
            .expect("a configuration");
        let channel = endpoint.connect().await.expect("connects");
        let mut public = ActivationServiceClient::new(channel.clone());
        let keys = public.list_signing_keys(ListSigningKeysRequest {}).await;
        assert_eq!(keys.expect("an answer").into_inner().keys.len(), 1);
        let mut vendor = LicensingServiceClient::new(channel);
        let refused = vendor.list_activations(ListActivationsRequest {}).await.expect_err("not served");
        assert_eq!(refused.code(), tonic::Code::Unimplemented);
    });
}

#[test]
fn keys_are_sold_to_known_customers_changed_and_revoked_and_each_step_is_audited() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path();
    good(state, &["init"]);
    let create = ["key", "create", "--customer", "Example Ltd", "--feature", "call=10+2"];
    let error = bad(state, &create);
    assert!(error.contains("no customer Example Ltd"), "{error}");
    good(state, &["customer", "add", "Example Ltd", "--reference", "4711"]);
    assert!(good(state, &["customer", "list"]).contains("4711"));
    let key = good(state, &create).trim().to_owned();
    assert!(good(state, &["key", "list"]).contains(&format!("{key}  free")), "{key}");
    let (first, rest) = key.split_at(1);
    let wrong = format!("{}{rest}", if first == "7" { "8" } else { "7" });
    let error = bad(state, &["key", "revoke", &wrong]);
    assert!(error.contains("a character is wrong or two are exchanged"), "{error}");
    let changed = good(
        state,
        &["key", "change", &key, "--feature", "call=50", "--not-after", "2999-01-01", "--grace-days", "7"],
    );
    assert!(changed.contains("call=50") && changed.contains("2999-01-01 00:00Z + 7 d"), "{changed}");
    let error = bad(state, &["activation", "replace", &key, "--reason", "burnt"]);
    assert!(error.contains("active on no machine"), "{error}");
    good(state, &["key", "revoke", &key, "--reason", "not paid"]);
    let error = bad(state, &["key", "revoke", &key]);
    assert!(error.contains("revoked before"), "{error}");
    let audit = good(state, &["audit"]);
    for entry in ["key create", "key change", "key revoke"] {
        assert!(audit.contains(entry), "{audit}");
    }
    assert!(!audit.contains(&key), "the whole key is not for the audit: {audit}");
}

#[test]
fn a_rotated_signing_key_signs_from_then_on_and_a_license_signed_before_stays_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path();
    good(state, &["init"]);
    let machine = fingerprint().to_string();
    let before = good(state, &issue(&machine, "call=1", "-"));
    let rotated = good(state, &["signing-key", "rotate", "--json"]);
    let after = good(state, &issue(&machine, "call=2", "-"));
    let keys: TrustedKeys = std::fs::read_to_string(state.join("vendor.pub"))
        .expect("the vendor's keys")
        .lines()
        .map(|line| line.parse::<PublicKey>().expect("a key"))
        .collect();
    let [old, new] = [before, after].map(|file| {
        SignedLicense::parse(file.as_bytes())
            .expect("a file")
            .verify(&keys)
            .expect("verifies")
            .key()
            .to_string()
    });
    assert_ne!(old, new);
    assert!(rotated.contains(&new), "{rotated}");
    let secrets = std::fs::read_to_string(state.join("signing.key")).expect("the secret key");
    assert!(secrets.contains(&new) && !secrets.contains(&old), "the old secret key is gone");
}

#[test]
fn what_is_no_request_of_a_machine_gets_no_answer_and_a_word_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path();
    good(state, &["init"]);
    let file = folder.path().join("request.xml");
    std::fs::write(&file, "<!DOCTYPE x><x/>").expect("written");
    let error = bad(state, &["answer", &file.display().to_string()]);
    assert!(error.contains("document type"), "{error}");
    assert!(good(state, &["audit"]).contains("rejected"));
}
