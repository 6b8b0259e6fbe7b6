//! The life of a license with real processes: each step an administrator takes, with and without a network.

use headroom_tests::licensing::{Site, Vendor, path};

#[test]
fn a_key_is_activated_over_the_network_shown_and_used() {
    let vendor = Vendor::start();
    let site = Site::start(&vendor, "00:00:01");
    let key = vendor.sell("call=10+2");
    let added = site.run(&["license", "add", &key.to_lowercase()]);
    assert!(added.contains("active") && added.contains("call=10+2"), "{added}");
    assert_eq!((site.capacity(), site.licenses()), (10, (vec!["active".into()], vec![])));
    let shown = site.run(&["license", "show", &site.license()]);
    for part in ["10 units, overdraft 2, 0 in use now", &key, "valid from", "valid until", "since"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let check = site.run(&["license", "check"]);
    assert_eq!(check.matches("ok ").count(), 7, "{check}");
    assert!(vendor.run(&["activation", "list"]).contains(&key));
    let again = site.fails(&["license", "add", &key]);
    assert!(again.contains("active here already"), "{again}");
    let wrong = site.fails(&["license", "add", &key[..key.len() - 1]]);
    assert!(wrong.contains("25 characters"), "{wrong}");
}

#[test]
fn without_a_network_the_request_is_stored_exported_answered_as_a_file_and_completed() {
    let mut vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let site = Site::start(&vendor, "00:00:02");
    vendor.kill();
    let stored = site.run(&["license", "add", &key]);
    assert!(stored.contains("is stored") && stored.contains("license export"), "{stored}");
    assert_eq!(site.licenses(), (vec![], vec!["activate".into()]));
    let request = site.export("");
    let xml = std::fs::read_to_string(&request).expect("the request");
    assert!(xml.contains(&key) && xml.contains("<fingerprint>hrfp1-"), "{xml}");
    let answer = vendor.answer(&request);
    let completed = site.run(&["license", "complete", path(&answer)]);
    assert!(completed.contains("active"), "{completed}");
    assert_eq!((site.capacity(), site.licenses()), (10, (vec!["active".into()], vec![])));
}

#[test]
fn a_request_that_is_to_be_carried_is_not_sent_and_can_be_withdrawn() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let site = Site::start(&vendor, "00:00:03");
    site.run(&["license", "add", &key, "--manual"]);
    assert_eq!(site.licenses(), (vec![], vec!["activate".into()]));
    assert!(!vendor.run(&["activation", "list"]).contains(&key));
    site.run(&["license", "cancel", &key]);
    assert_eq!(site.licenses(), (vec![], vec![]));
}

#[test]
fn a_license_is_returned_over_the_network_and_activated_on_another_machine() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let (old, new) = (Site::start(&vendor, "00:00:04"), Site::start(&vendor, "00:00:05"));
    old.run(&["license", "add", &key]);
    let refused = new.fails(&["license", "add", &key]);
    assert!(refused.contains("key_in_use") && refused.contains("active on another machine"), "{refused}");
    old.run(&["license", "return", &old.license()]);
    assert_eq!((old.capacity(), old.licenses()), (0, (vec![], vec![])));
    new.run(&["license", "add", &key]);
    assert_eq!(new.capacity(), 10);
}

#[test]
fn a_license_is_returned_without_a_network_in_two_phases() {
    let mut vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let site = Site::start(&vendor, "00:00:06");
    site.run(&["license", "add", &key]);
    let license = site.license();
    vendor.kill();
    site.run(&["license", "return", &license]);
    assert_eq!(
        (site.capacity(), site.licenses()),
        (0, (vec!["return_pending".into()], vec!["return".into()]))
    );
    let request = site.export(&license);
    let cancelled = site.fails(&["license", "cancel", &license]);
    assert!(cancelled.contains("exported or sent") && cancelled.contains("complete it"), "{cancelled}");
    site.run(&["license", "complete", path(&vendor.answer(&request))]);
    assert_eq!(site.licenses(), (vec![], vec![]));
    vendor.serve();
    let other = Site::start(&vendor, "00:00:07");
    other.run(&["license", "add", &key]);
}

#[test]
fn a_return_that_nobody_saw_is_withdrawn_and_the_license_counts_again() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let site = Site::start(&vendor, "00:00:08");
    site.run(&["license", "add", &key]);
    site.run(&["license", "return", &site.license(), "--manual"]);
    assert_eq!(site.capacity(), 0);
    site.run(&["license", "cancel"]);
    assert_eq!(site.capacity(), 10);
}

#[test]
fn a_changed_machine_finds_its_license_corrupt_and_repairs_it() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let mut site = Site::start(&vendor, "00:00:09");
    site.run(&["license", "add", &key]);
    site.kill();
    site.identify("id-of-00:00:09", "52:54:00:99:99:09");
    let beforehand = site.run(&["restore", "--check"]);
    assert!(beforehand.contains("corrupt") && beforehand.contains("MAC addresses"), "{beforehand}");
    site.serve();
    assert_eq!((site.capacity(), site.licenses().0), (0, vec!["corrupt".into()]));
    let check = site.fails(&["license", "check"]);
    assert!(check.contains("steps of the check failed"), "{check}");
    assert!(site.run(&["license", "list"]).contains("repair it"));
    let refused = site.fails(&["license", "add", &vendor.sell("call=5")]);
    assert!(refused.contains("machine_changed"), "{refused}");
    site.run(&["license", "repair"]);
    assert_eq!((site.capacity(), site.licenses().0), (10, vec!["active".into()]));
    assert!(vendor.run(&["activation", "list"]).contains("active"));
}

#[test]
fn quantity_renewal_and_revocation_are_heard_with_the_next_refresh_also_by_file() {
    let mut vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let site = Site::start(&vendor, "00:00:10");
    site.run(&["license", "add", &key]);
    vendor.run(&[
        "key",
        "change",
        &key,
        "--feature",
        "call=40+4",
        "--not-after",
        "2999-01-01",
        "--grace-days",
        "7",
    ]);
    assert_eq!(site.capacity(), 10, "not before it is heard");
    let refreshed = site.run(&["license", "refresh"]);
    assert!(refreshed.contains("call=40+4") && refreshed.contains("2999-01-01"), "{refreshed}");
    assert_eq!(site.capacity(), 40);
    vendor.run(&["key", "change", &key, "--feature", "call=50"]);
    vendor.kill();
    let unreachable = site.fails(&["license", "refresh"]);
    assert!(unreachable.contains("cannot be reached"), "{unreachable}");
    site.run(&["license", "refresh", "--manual"]);
    site.run(&["license", "complete", path(&vendor.answer(&site.export("")))]);
    assert_eq!(site.capacity(), 50);
    vendor.serve();
    vendor.run(&["key", "revoke", &key, "--reason", "not paid"]);
    site.run(&["license", "refresh"]);
    assert_eq!(site.licenses(), (vec![], vec![]));
    assert!(site.run(&["support-log"]).contains("revoked by the vendor"));
}

#[test]
fn a_daily_refresh_and_stored_requests_go_by_themselves() {
    let mut vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let mut site = Site::new("00:00:11").with(&["--license-refresh", "1s"]);
    site.init(&vendor);
    vendor.kill();
    site.serve();
    site.run(&["license", "add", &key]);
    vendor.serve();
    wait("the stored request is sent", || site.capacity() == 10);
    vendor.run(&["key", "change", &key, "--feature", "call=20"]);
    wait("the change is heard", || site.capacity() == 20);
}

fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + headroom_tests::PATIENCE;
    while !so() {
        assert!(std::time::Instant::now() < until, "{what}: not within {:?}", headroom_tests::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// A proxy that leads to where it is asked to, and says where that was.
fn proxy() -> (String, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let (asked, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { return };
            let mut reader = BufReader::new(client.try_clone().expect("a stream"));
            let mut first = String::new();
            let _ = reader.read_line(&mut first);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let Some(target) = first.split(' ').nth(1).map(str::to_owned) else { continue };
            let Ok(server) = TcpStream::connect(&target) else { continue };
            let _ = client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n");
            if asked.send(first).is_err() {
                return;
            }
            for (mut from, mut to) in [(&client, &server), (&server, &client)]
                .map(|(from, to)| (from.try_clone().expect("a stream"), to.try_clone().expect("a stream")))
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (address, heard)
}

#[test]
fn the_licensing_server_is_reached_through_a_proxy_where_one_is_set() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let (address, asked) = proxy();
    let mut site = Site::new("00:00:17").with(&["--proxy", &address]);
    site.init(&vendor);
    site.serve();
    site.run(&["license", "add", &key]);
    assert_eq!(site.capacity(), 10);
    let first = asked.recv_timeout(headroom_tests::PATIENCE).expect("the proxy was asked");
    assert!(
        first.starts_with(&format!("CONNECT {} ", vendor.url().trim_start_matches("https://"))),
        "{first}"
    );
}

#[test]
fn what_is_assigned_is_fetched_and_a_product_is_tried_once_per_machine() {
    let vendor = Vendor::start();
    let mut site = Site::start(&vendor, "00:00:12");
    let fingerprint = site.run(&["fingerprint"]);
    vendor.run(&[
        "key",
        "create",
        "--customer",
        "Example",
        "--feature",
        "call=7",
        "--assign",
        fingerprint.trim(),
    ]);
    vendor.run(&["trial", "offer", "HR-TRY", "--feature", "call=20"]);
    let fetched = site.run(&["license", "fetch"]);
    assert!(fetched.contains("call=7") && fetched.contains("can be tried: HR-TRY"), "{fetched}");
    let tried = site.run(&["license", "fetch", "--trial", "HR-TRY"]);
    assert!(tried.contains("active (trial)"), "{tried}");
    assert_eq!(site.capacity(), 27);
    // The machine is installed anew: another machine id, an empty folder, the same network card.
    site.kill();
    std::fs::remove_dir_all(site.state()).expect("the folder goes");
    site.identify("another-installation", "52:54:00:00:00:12");
    site.init(&vendor);
    site.serve();
    let refused = site.fails(&["license", "fetch", "--trial", "HR-TRY"]);
    assert!(refused.contains("trial_used"), "{refused}");
}

#[test]
fn a_lost_machines_key_is_replaced_by_the_vendor_and_the_machine_loses_it_should_it_live() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let (lost, new) = (Site::start(&vendor, "00:00:13"), Site::start(&vendor, "00:00:14"));
    lost.run(&["license", "add", &key]);
    let error = vendor.fails(&["activation", "replace", &key]);
    assert!(error.contains("--reason"), "{error}");
    vendor.run(&["activation", "replace", &key, "--reason", "ticket 4711: burnt"]);
    new.run(&["license", "add", &key]);
    lost.run(&["license", "refresh"]);
    assert_eq!((lost.capacity(), new.capacity()), (0, 10));
    assert!(vendor.run(&["audit"]).contains("ticket 4711"));
    assert!(lost.run(&["support-log"]).contains("given to another machine"));
}

#[test]
fn a_rotated_signing_key_is_learned_with_the_next_answer() {
    let vendor = Vendor::start();
    let (one, two) = (vendor.sell("call=10"), vendor.sell("call=5"));
    let mut site = Site::start(&vendor, "00:00:15");
    site.run(&["license", "add", &one]);
    vendor.run(&["signing-key", "rotate"]);
    vendor.run(&["signing-key", "rotate"]);
    site.run(&["license", "add", &two]);
    site.restart();
    assert_eq!(site.capacity(), 15);
    let fingerprint = site.run(&["fingerprint"]);
    let file = site.desk().join("site.license");
    vendor.run(&["issue", "--fingerprint", fingerprint.trim(), "--feature", "call=1", "--out", path(&file)]);
    site.run(&["license", "install", path(&file)]);
    assert_eq!(site.capacity(), 16);
}

#[test]
fn test_mode_serves_without_a_license_is_shown_loudly_and_survives_a_restart() {
    let vendor = Vendor::start();
    let mut site = Site::start(&vendor, "00:00:16");
    assert!(site.run(&["test-mode", "status"]).contains("off"));
    let on = site.run(&["test-mode", "on"]);
    assert!(on.contains("480 more minutes"), "{on}");
    site.restart();
    let pool = site.run(&["pool"]);
    assert!(pool.contains("*** TEST MODE"), "{pool}");
    wait("the alarm", || site.alarms().contains(&"test_mode".to_owned()));
    let again = site.fails(&["test-mode", "on"]);
    assert!(again.contains("on already"), "{again}");
    site.run(&["test-mode", "off"]);
    assert!(site.run(&["support-log"]).contains("test mode is off: by command"));
}
