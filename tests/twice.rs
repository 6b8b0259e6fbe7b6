//! Used twice, never: what somebody could try to have one key's units twice, with real processes. Each
//! attempt ends in a clear refusal, or is found at the next contact; the name of the test says which.

use std::fs;
use std::path::PathBuf;

use headroom_core::activation::read_answer;
use headroom_core::license::{PublicKey, TrustedKeys};
use headroom_tests::faketime;
use headroom_tests::licensing::{Site, Vendor, path};

const DAY: i64 = 86_400;

#[test]
fn one_key_on_two_machines_at_once_is_active_on_one_and_refused_on_the_other() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let sites = [Site::start(&vendor, "01:00:01"), Site::start(&vendor, "01:00:02")];
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let tries = sites.each_ref().map(|site| scope.spawn(|| site.try_run(&["license", "add", &key])));
        tries.map(|tried| tried.join().expect("it ran")).into()
    });
    let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(refused.len(), 1, "{outcomes:?}");
    assert!(refused[0].contains("key_in_use"), "{refused:?}");
    assert_eq!(sites[0].capacity() + sites[1].capacity(), 10);
}

#[test]
fn a_replayed_answer_is_refused_on_the_same_and_on_another_machine() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let (site, other) = (Site::start(&vendor, "01:00:03"), Site::start(&vendor, "01:00:04"));
    site.run(&["license", "add", &key, "--manual"]);
    let answer = vendor.answer(&site.export(""));
    site.run(&["license", "complete", path(&answer)]);
    site.run(&["license", "return", &site.license()]);
    for machine in [&site, &other] {
        let refused = machine.fails(&["license", "complete", path(&answer)]);
        assert!(refused.contains("answers no request that is open here"), "{refused}");
        assert_eq!(machine.capacity(), 0);
    }
    other.run(&["license", "add", &vendor.sell("call=3"), "--manual"]);
    let refused = other.fails(&["license", "complete", path(&answer)]);
    assert!(refused.contains("belongs to another management node"), "{refused}");
}

#[test]
fn a_license_taken_out_of_its_answer_is_refused_as_a_file() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let site = Site::start(&vendor, "01:00:18");
    site.run(&["license", "add", &key, "--manual"]);
    let answer = vendor.answer(&site.export(""));
    site.run(&["license", "complete", path(&answer)]);
    let trusted: TrustedKeys = fs::read_to_string(vendor.state().join("vendor.pub"))
        .expect("the vendor's keys")
        .lines()
        .map(|line| line.parse::<PublicKey>().expect("a key"))
        .collect();
    let answer = read_answer(&fs::read(answer).expect("the answer"), &trusted).expect("an answer");
    let file = site.desk().join("taken.license");
    fs::write(&file, answer.licenses[0].signed().to_file()).expect("written");
    site.run(&["license", "return", &site.license()]);
    let refused = site.fails(&["license", "install", path(&file)]);
    assert!(refused.contains("comes by an activation"), "{refused}");
    assert_eq!(site.capacity(), 0);
}

#[test]
fn an_answer_to_a_request_that_was_cancelled_is_refused() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let site = Site::start(&vendor, "01:00:05");
    site.run(&["license", "add", &key, "--manual"]);
    let answer = vendor.answer(&site.export(""));
    site.run(&["license", "cancel"]);
    site.run(&["license", "add", &key, "--manual"]);
    let refused = site.fails(&["license", "complete", path(&answer)]);
    assert!(refused.contains("answers no request"), "{refused}");
    assert_eq!(site.capacity(), 0);
}

#[test]
fn a_return_that_was_exported_cannot_be_cancelled() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let mut site = Site::start(&vendor, "01:00:06");
    site.run(&["license", "add", &key]);
    let license = site.license();
    site.run(&["license", "return", &license, "--manual"]);
    site.export("");
    site.restart();
    let refused = site.fails(&["license", "cancel", &license]);
    assert!(refused.contains("was exported or sent"), "{refused}");
    assert_eq!(site.capacity(), 0);
}

#[test]
fn a_state_folder_from_before_the_return_is_found_at_the_next_contact() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let (mut site, other) = (Site::start(&vendor, "01:00:07"), Site::start(&vendor, "01:00:08"));
    site.run(&["license", "add", &key]);
    let older = site.desk().join("older");
    site.kill();
    site.copy_state(&older);
    site.serve();
    site.run(&["license", "return", &site.license()]);
    other.run(&["license", "add", &key]);
    site.kill();
    site.take_state(&older);
    site.serve();
    // Offline software cannot know; the next contact does.
    assert_eq!(site.capacity(), 10);
    site.run(&["license", "refresh"]);
    assert_eq!((site.capacity(), other.capacity()), (0, 10));
    let log = site.run(&["support-log"]);
    assert!(log.contains("resynchronized") && log.contains(": returned"), "{log}");
    assert!(vendor.run(&["audit"]).contains("resynchronized"));
}

#[test]
fn an_old_answer_in_an_old_state_folder_counts_until_the_next_contact_only() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let mut site = Site::start(&vendor, "01:00:09");
    site.run(&["license", "add", &key, "--manual"]);
    let answer = vendor.answer(&site.export(""));
    let older = site.desk().join("older");
    site.kill();
    site.copy_state(&older);
    site.serve();
    site.run(&["license", "complete", path(&answer)]);
    site.run(&["license", "return", &site.license()]);
    site.kill();
    site.take_state(&older);
    site.serve();
    site.run(&["license", "complete", path(&answer)]);
    assert_eq!(site.capacity(), 10, "what it is told is signed and it remembers no return");
    site.run(&["license", "refresh"]);
    assert_eq!(site.capacity(), 0);
}

#[test]
fn a_copied_state_folder_is_corrupt_on_another_machine_and_its_repair_ends_the_first_ones_license() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let mut site = Site::start(&vendor, "01:00:10");
    site.run(&["license", "add", &key]);
    let mut clone = Site::new("01:00:11");
    site.kill();
    clone.take_state(&site.state());
    site.serve();
    let beforehand = clone.run(&["restore", "--check"]);
    assert!(beforehand.contains("corrupt") && beforehand.contains("test-mode on"), "{beforehand}");
    clone.serve();
    assert_eq!((site.capacity(), clone.capacity()), (10, 0));
    assert_eq!(clone.licenses().0, ["corrupt"]);
    // To repair it there is to move it there: the first machine hears of it at its next contact.
    clone.run(&["license", "repair"]);
    assert_eq!(clone.capacity(), 10);
    site.run(&["license", "refresh"]);
    assert_eq!((site.capacity(), site.licenses().0), (0, vec!["corrupt".into()]));
}

#[test]
fn a_copied_container_is_found_by_the_vendor_as_books_that_fall_back_again_and_again() {
    let vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let identity = ["--machine-identity", "kept"];
    let mut site = Site::new("01:00:12").with(&identity);
    site.init(&vendor);
    site.serve();
    site.run(&["license", "add", &key]);
    let mut clone = Site::new("01:00:13").with(&identity);
    site.kill();
    clone.take_state(&site.state());
    site.serve();
    clone.serve();
    // The id is part of what was copied: both count it, and every contact of one puts the other behind.
    for _ in 0..3 {
        site.run(&["license", "refresh"]);
        clone.run(&["license", "refresh"]);
    }
    let list = vendor.run(&["activation", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let resynchronized = list["activations"][0]["resynchronized"].as_u64().expect("a number");
    assert!(resynchronized >= 3, "{list}");
    assert!(clone.run(&["support-log"]).contains("resynchronized"));
}

/// The service sees its clocks shifted; `boot` says whether the boot clock is too, as when the time had passed.
fn shift(site: &mut Site, seconds: i64, boot: bool) {
    site.set("LD_PRELOAD", path(&faketime()));
    site.set("FAKETIME", &format!("{seconds:+}"));
    site.set("FAKETIME_DONT_FAKE_MONOTONIC", if boot { "0" } else { "1" });
    site.restart();
}

fn expiring(vendor: &Vendor, site: &Site, days: i64) -> PathBuf {
    let end = jiff_date(days);
    let file = site.desk().join("site.license");
    let fingerprint = site.run(&["fingerprint"]);
    let words = ["issue", "--fingerprint", fingerprint.trim(), "--feature", "call=10", "--not-after", &end];
    vendor.run(&[&words[..], &["--out", path(&file)]].concat());
    file
}

/// The date in so many days, as `date` says it.
fn jiff_date(days: i64) -> String {
    let out =
        std::process::Command::new("date").args(["-u", "-d", &format!("{days} days"), "+%Y-%m-%d"]).output();
    String::from_utf8(out.expect("date runs").stdout).expect("text").trim().to_owned()
}

#[test]
fn a_clock_set_back_past_the_end_revives_no_license() {
    let vendor = Vendor::start();
    let mut site = Site::new("01:00:14");
    site.init(&vendor);
    shift(&mut site, 0, true);
    site.run(&["license", "install", path(&expiring(&vendor, &site, 20))]);
    assert_eq!(site.licenses().0, ["active"]);
    shift(&mut site, 30 * DAY, true);
    site.run(&["pool"]);
    wait_for(|| site.capacity() == 0);
    shift(&mut site, 0, false);
    assert_eq!((site.capacity(), site.licenses().0), (0, vec!["expired".into()]));
    let check = site.fails(&["license", "check"]);
    assert!(check.contains("failed"), "{check}");
}

#[test]
fn a_minute_with_the_clock_ten_years_ahead_expires_nothing_not_even_meanwhile() {
    let vendor = Vendor::start();
    let mut site = Site::new("01:00:15");
    site.init(&vendor);
    shift(&mut site, 0, false);
    site.run(&["license", "install", path(&expiring(&vendor, &site, 200))]);
    shift(&mut site, 3650 * DAY, false);
    assert_eq!((site.capacity(), site.licenses().0), (10, vec!["active".into()]));
    assert!(site.run(&["license", "check"]).contains("apart from the machine's clock"));
    shift(&mut site, 0, false);
    assert_eq!((site.capacity(), site.licenses().0), (10, vec!["active".into()]));
}

#[test]
fn test_mode_ends_after_eight_hours_whatever_the_clock_says_and_a_restart_prolongs_nothing() {
    let vendor = Vendor::start();
    let mut site = Site::new("01:00:16");
    site.init(&vendor);
    shift(&mut site, 0, true);
    site.run(&["test-mode", "on"]);
    shift(&mut site, 7 * 3600, true);
    let left = site.run(&["test-mode", "status"]);
    assert!(left.contains("for 60 more minutes") || left.contains("for 59 more minutes"), "{left}");
    shift(&mut site, 8 * 3600 + 60, true);
    wait_for(|| site.run(&["test-mode", "status"]).contains("is off"));
    assert!(site.run(&["support-log"]).contains("its 8 hours are over"));
}

fn wait_for(mut so: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + headroom_tests::PATIENCE;
    while !so() {
        assert!(std::time::Instant::now() < until, "not within {:?}", headroom_tests::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Both sides die again and again in the middle of activations and returns. After the next contact they say
/// the same, and the key can be used.
#[test]
fn killed_in_the_middle_of_activations_and_returns_both_sides_agree_at_the_next_contact() {
    let mut vendor = Vendor::start();
    let key = vendor.sell("call=10");
    let mut site = Site::start(&vendor, "01:00:17");
    let mut interrupted = 0;
    for round in 0..24_u64 {
        let state = site.json(&["license", "list"]);
        let license = state["licenses"][0]["license"].as_str().map(str::to_owned);
        let words: Vec<String> = match &license {
            Some(license) => ["license", "return", license].map(str::to_owned).into(),
            None => ["license", "add", &key].map(str::to_owned).into(),
        };
        let asking = {
            let mut run = std::process::Command::new(headroom_tests::programs().join("management-node"));
            run.arg("--state").arg(site.state()).args(&words).stdout(std::process::Stdio::null());
            run.stderr(std::process::Stdio::null()).spawn().expect("it runs")
        };
        // Different moments of the few milliseconds that an exchange takes.
        std::thread::sleep(std::time::Duration::from_micros(3_000 + round * 900));
        if round % 2 == 0 {
            site.kill()
        } else {
            vendor.kill()
        }
        let status = asking.wait_with_output().expect("it ends").status;
        interrupted += u32::from(!status.success());
        site.kill();
        vendor.kill();
        vendor.serve();
        site.serve();
        settle(&site);
        let here = site.json(&["license", "list"]);
        let here: Vec<_> =
            here["licenses"].as_array().expect("a list").iter().map(|l| l["license"].clone()).collect();
        let there: serde_json::Value =
            serde_json::from_str(&vendor.run(&["activation", "list", "--json"])).expect("JSON");
        let there: Vec<_> = there["activations"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|activation| activation["state"] == "active")
            .map(|activation| activation["license"].clone())
            .collect();
        assert_eq!(here, there, "round {round}, {words:?}");
    }
    println!(
        "24 kills in the middle of activations and returns, {interrupted} seen as failures; the books agree"
    );
}

/// The next contact: what is stored is sent again by asking for the same, then a refresh.
fn settle(site: &Site) {
    let list = site.json(&["license", "list"]);
    for request in list["requests"].as_array().expect("a list") {
        let text = |field: &str| request[field].as_str().expect("a text").to_owned();
        match text("kind").as_str() {
            "activate" => drop(site.try_run(&["license", "add", &text("key")])),
            "return" => drop(site.try_run(&["license", "return", &text("license")])),
            _ => {}
        }
    }
    // One that was sent may be answered as resynchronized, which asks again by itself.
    site.run(&["license", "refresh"]);
    assert_eq!(
        site.licenses().1,
        Vec::<String>::new(),
        "{:?}",
        fs::read_to_string(site.desk().join("pool.log"))
    );
}
