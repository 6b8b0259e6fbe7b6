//! A licensing server that the world can reach, and what it may be sent; and that nothing which identifies a
//! machine leaves it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use headroom_core::entitlement::{EntitlementKey, RANDOM_BYTES};
use headroom_tests::licensing::{Site, Vendor, path};

/// A request that a machine could have sent, and what an attacker could make of it.
fn hostile(request: &str) -> Vec<(&'static str, String)> {
    let (open, signature) = ("<license-request format=\"1\">", "<signature>");
    let part = request.lines().find(|line| line.contains(signature)).expect("a signature");
    let declared = |what: &str| request.replacen("?>\n", &format!("?>{what}\n"), 1);
    let inside = |what: &str| request.replacen(open, &format!("{open}{what}"), 1);
    let entities: String =
        (0..20).map(|n| format!("<!ENTITY a{} \"{}\">", n + 1, format!("&a{n};").repeat(10))).collect();
    let attributes = |count: usize| (0..count).map(|n| format!(" a{n}=\"\"")).collect::<String>();
    let with =
        |attributes: &str| request.replacen(open, &format!("<license-request format=\"1\"{attributes}>"), 1);
    vec![
        ("a document type", declared("<!DOCTYPE x>")),
        ("an external entity", declared("<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>")),
        ("an entity bomb", declared(&format!("<!DOCTYPE x [<!ENTITY a0 \"x\">{entities}]>"))),
        ("deep nesting", inside(&"<x>".repeat(80_000))),
        ("100 000 attributes", with(&attributes(100_000))),
        ("20 000 attributes", with(&attributes(20_000))),
        ("a signature twice", request.replacen(part, &format!("{part}{part}"), 1)),
        ("a wrapped signature", request.replacen(part, &format!("<wrapped>{part}</wrapped>"), 1)),
        (
            "another machine's signature",
            request.replacen("<signature>A", "<signature>B", 1).replacen("<signature>", "<signature>AAAA", 1),
        ),
        ("another key", request.replacen("<sequence>", "<sequence>9", 1)),
        ("no XML at all", "GIF89a".into()),
        ("nothing", String::new()),
    ]
}

#[test]
fn hostile_requests_are_refused_quickly_with_a_word_and_change_nothing() {
    let vendor = Vendor::start();
    let site = Site::start(&vendor, "02:00:01");
    let key = vendor.sell("call=10");
    site.run(&["license", "add", &key, "--manual"]);
    let genuine = site.export("");
    let request = fs::read_to_string(&genuine).expect("the request");
    let mut slowest = Duration::ZERO;
    for (what, xml) in hostile(&request) {
        let file = vendor.desk().join("hostile.xml");
        fs::write(&file, xml).expect("written");
        let began = Instant::now();
        let error = vendor.fails(&["answer", path(&file)]);
        slowest = slowest.max(began.elapsed());
        assert!(error.contains("document: "), "{what}: {error}");
    }
    println!("the slowest refusal took {slowest:?}, starting the command line included");
    assert!(vendor.run(&["activation", "list"]).contains("No license"));
    site.run(&["license", "complete", path(&vendor.answer(&genuine))]);
    assert_eq!(site.capacity(), 10);
}

/// Posts a file as any HTTP client does; the code, what was answered, and a header.
fn post(vendor: &Vendor, file: &Path) -> (String, String, String) {
    let (body, headers) = (vendor.desk().join("body"), vendor.desk().join("headers"));
    let out = Command::new("curl")
        .args(["-sS", "--noproxy", "*", "--cacert", path(&vendor.state().join("authority.pem"))])
        .args(["-o", path(&body), "-D", path(&headers), "-w", "%{http_code}"])
        .args(["--data-binary", &format!("@{}", path(file)), &format!("{}/v1/activations", vendor.url())])
        .output()
        .expect("curl runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    (String::from_utf8(out.stdout).expect("text"), read(body), read(headers).to_ascii_lowercase())
}

#[test]
fn over_https_a_hostile_request_gets_400_one_too_large_413_and_one_too_many_429() {
    let vendor = Vendor::start();
    let site = Site::start(&vendor, "02:00:02");
    let key = vendor.sell("call=10");
    site.run(&["license", "add", &key, "--manual"]);
    let genuine = site.export("");
    let (code, answer, headers) = post(&vendor, &genuine);
    assert_eq!(code, "200", "{answer}");
    assert!(headers.contains("content-type: application/xml"), "{headers}");
    let file = vendor.desk().join("answer.xml");
    fs::write(&file, answer).expect("written");
    site.run(&["license", "complete", path(&file)]);
    let hostile = hostile(&fs::read_to_string(&genuine).expect("the request"));
    let file = vendor.desk().join("hostile.xml");
    let large = "x".repeat(300_000);
    fs::write(&file, large).expect("written");
    assert_eq!(post(&vendor, &file).0, "413");
    let mut refused = 0;
    for (what, xml) in hostile.iter().cycle().filter(|(_, xml)| xml.len() < 250_000).take(12) {
        fs::write(&file, xml).expect("written");
        match post(&vendor, &file) {
            (code, body, _) if code == "400" => {
                assert!(!body.trim().is_empty(), "{what}");
                refused += 1;
            }
            (code, body, headers) => {
                assert_eq!(code, "429", "{what}: {body}");
                assert!(headers.contains("retry-after: "), "{headers}");
            }
        }
    }
    assert_eq!(refused, 10, "ten failures at once, then one a minute");
    assert_eq!(post(&vendor, &genuine).0, "429", "who fails too often is not heard at all");
}

#[test]
fn guessed_keys_are_refused_ten_times_and_then_not_even_looked_at() {
    let vendor = Vendor::start();
    let site = Site::start(&vendor, "02:00:03");
    for guess in 0..10 {
        let key = EntitlementKey::from_random([guess; RANDOM_BYTES]).to_string();
        let refused = site.fails(&["license", "add", &key]);
        assert!(refused.contains("unknown_key"), "{refused}");
    }
    let stored = site.run(&["license", "add", &vendor.sell("call=10")]);
    assert!(stored.contains("429") && stored.contains("come back in"), "{stored}");
    assert_eq!(vendor.run(&["audit", "--json"]).matches("unknown_key").count(), 10);
}

/// Every file under a folder.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let kind = entry.file_type().expect("its kind");
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push((entry.path().display().to_string(), fs::read(entry.path()).expect("read")));
        }
    }
}

#[test]
fn nothing_that_identifies_the_machine_is_in_any_document_log_store_or_answer() {
    let vendor = Vendor::start();
    let mut site = Site::new("02:00:04");
    let (id, mac, uuid) =
        ("feedfacecafebeef0123456789abcdef", "52:54:00:c0:ff:ee", "DEADBEEF-0042-3510-8052-B4C04F564433");
    site.identify(id, mac);
    let product = site.root().join("sys/class/dmi/id/product_uuid");
    fs::create_dir_all(product.parent().expect("a folder")).expect("made");
    fs::write(product, uuid).expect("written");
    site.init(&vendor);
    site.serve();
    let key = vendor.sell("call=10");
    site.run(&["license", "add", &key, "--manual"]);
    let request = site.export("");
    let answer = vendor.answer(&request);
    site.run(&["license", "complete", path(&answer)]);
    site.kill();
    site.identify(id, "52:54:00:c0:ff:ef");
    let mut found = vec![("restore --check".into(), site.run(&["restore", "--check"]).into_bytes())];
    site.serve();
    site.fails(&["license", "check"]);
    site.run(&["license", "repair"]);
    site.run(&["license", "refresh"]);
    for words in [
        &["license", "list", "--json"][..],
        &["license", "check", "--json"],
        &["support-log", "--json"],
        &["pool", "--json"],
        &["alarms", "--cleared", "--json"],
        &["fingerprint"],
    ] {
        found.push((words.join(" "), site.run(words).into_bytes()));
    }
    for words in [&["activation", "list", "--json"][..], &["key", "list", "--json"], &["audit", "--json"]] {
        found.push((words.join(" "), vendor.run(words).into_bytes()));
    }
    found.push(("metrics".into(), metrics(&site)));
    site.kill();
    for file in [&request, &answer] {
        found.push((file.display().to_string(), fs::read(file).expect("read")));
    }
    found.push(("the site's log".into(), site.log().into_bytes()));
    found.push(("the vendor's log".into(), vendor.log().into_bytes()));
    files(&site.state(), &mut found);
    files(&vendor.state(), &mut found);
    assert!(found.len() > 20, "{}", found.len());
    for raw in [id, mac, "52:54:00:c0:ff:ef", uuid] {
        let plain = raw.to_ascii_lowercase();
        let bare: String = plain.chars().filter(char::is_ascii_hexdigit).collect();
        for (what, bytes) in &found {
            let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
            assert!(!text.contains(&plain) && !text.contains(&bare), "{raw} is in {what}");
        }
    }
}

fn metrics(site: &Site) -> Vec<u8> {
    let url = format!("http://{}/metrics", site.metrics());
    let out = Command::new("curl").args(["-sS", "--noproxy", "*", &url]).output().expect("curl runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}
