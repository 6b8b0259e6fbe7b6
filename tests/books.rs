//! The two sides of an activation as pure machines, with real XML between them: messages are lost and
//! repeated, either side dies between any two of its commits, and after the next contact their books agree.

use headroom_core::activation::{Wish, read_answer, write_answer};
use headroom_core::fingerprint::{Fingerprint, Sources};
use headroom_core::license::Nonce;
use headroom_core::machine::Bench;
use headroom_core::{LicenseId, Millis, Now, Shared};
use headroom_simulator::licenses::{delivered, key, machine_key, stock, vendor_key, wanted};
use licensing_core as vendor;
use licensing_core::Register;
use management_core as pool;
use management_core::{BootId, LicenseRequest, Mark, PoolMachine, Settings};
use proptest::prelude::*;

const KEYS: u8 = 2;

fn fingerprint(site: usize, mac: u8) -> Fingerprint {
    let macs = vec![format!("52:54:00:00:{site:02x}:{mac:02x}")];
    let sources = Sources { machine_id: Some(format!("site {site}")), macs, product_uuid: None };
    Fingerprint::new(&sources).expect("a fingerprint")
}

fn number(site: usize) -> u8 {
    u8::try_from(site).expect("few sites")
}

/// Where a run is cut short: how many more commits each side makes before it dies.
#[derive(Debug, Clone, Copy)]
struct Cut {
    site: u32,
    vendor: u32,
}

/// A side died.
#[derive(Debug)]
struct Dead;

struct World {
    register: Bench<Register>,
    sites: Vec<(Bench<PoolMachine>, u8)>,
    now: Now,
    draws: u64,
    cut: Cut,
}

impl World {
    fn new(sites: usize) -> Self {
        let now = Now { wall: Millis(1_000_000), boot: Millis(1_000) };
        let endless = Cut { site: u32::MAX, vendor: u32::MAX };
        let mut world = Self { register: Bench::default(), sites: Vec::new(), now, draws: 0, cut: endless };
        for command in stock(KEYS, 10) {
            world.register.run(now, command);
        }
        for site in 0..sites {
            world.sites.push((Bench::default(), 0));
            world.boot(site);
        }
        world
    }

    /// The site's service starts, on the machine as it is.
    fn boot(&mut self, site: usize) {
        let fingerprint = fingerprint(site, self.sites[site].1);
        let start =
            pool::Command::Start { settings: Settings::default(), fingerprint, boot_id: BootId([1; 16]) };
        self.sites[site].0.run(self.now, start);
    }

    fn draw(&mut self) -> [u8; 16] {
        self.draws += 1;
        let mut random = [0; 16];
        random[..8].copy_from_slice(&self.draws.to_be_bytes());
        random
    }

    /// One commit of a site, unless it dies before it.
    fn commit(&mut self, site: usize, command: pool::Command) -> Result<pool::Reply, Dead> {
        self.cut.site = self.cut.site.checked_sub(1).ok_or(Dead)?;
        self.now.wall = self.now.wall.plus(Millis(1));
        self.now.boot = self.now.boot.plus(Millis(1));
        Ok(self.sites[site].0.run(self.now, command))
    }

    /// One commit of the vendor, unless he dies before it.
    fn decide(&mut self, command: vendor::Command) -> Result<vendor::Reply, Dead> {
        self.cut.vendor = self.cut.vendor.checked_sub(1).ok_or(Dead)?;
        Ok(self.register.run(self.now, command))
    }

    fn restart(&mut self) {
        self.cut = Cut { site: u32::MAX, vendor: u32::MAX };
        self.register.restart();
        for site in 0..self.sites.len() {
            self.sites[site].0.restart();
            self.boot(site);
        }
    }

    fn requested(
        &mut self,
        site: usize,
        command: pool::Command,
    ) -> Result<Option<Shared<LicenseRequest>>, Dead> {
        match self.commit(site, command)? {
            pool::Reply::Requested(requested) => Ok(requested.ok()),
            other => panic!("{other:?}"),
        }
    }

    /// As the service does it: the request is durable, marked, sent, answered, applied. `heard` says
    /// whether the answer arrives.
    fn exchange(
        &mut self,
        site: usize,
        open: &LicenseRequest,
        heard: bool,
    ) -> Result<Option<Shared<LicenseRequest>>, Dead> {
        let nonce = open.request.nonce;
        self.requested(site, pool::Command::MarkRequest { nonce, mark: Mark::Sent })?;
        let command = delivered(&open.request, number(site), self.draw());
        let vendor::Reply::Answered(draft) = self.decide(command)? else { panic!("an answer") };
        let xml = write_answer(&draft.sign(&vendor_key()).expect("signs"), &[]);
        if !heard {
            return Ok(None);
        }
        let trusted = vendor_key().public_key().into();
        let answer = Box::new(read_answer(xml.as_bytes(), &trusted).expect("an answer"));
        let again = Nonce(self.draw());
        match self.commit(site, pool::Command::ApplyAnswer { answer, just_now: true, again })? {
            pool::Reply::Applied(applied) => Ok(applied.ok().and_then(|applied| applied.renewed)),
            other => panic!("{other:?}"),
        }
    }

    fn wish(&mut self, site: usize, wish: Wish, heard: bool) -> Result<(), Dead> {
        let nonce = Nonce(self.draw());
        let wanted = wanted(wish, nonce, number(site));
        let Some(open) = self.requested(site, pool::Command::Request(wanted))? else { return Ok(()) };
        self.exchange(site, &open, heard).map(|_| ())
    }

    /// The next contact of a site: what is open is sent again, then a refresh, until nothing is open.
    fn contact(&mut self, site: usize) {
        for _ in 0..8 {
            let open: Vec<_> = self.sites[site].0.state.requests.values().cloned().collect();
            if open.is_empty() {
                break;
            }
            for request in open {
                self.exchange(site, &request, true).expect("nobody dies");
            }
        }
        self.wish(site, Wish::Refresh, true).expect("nobody dies");
    }

    /// What both sides say of a site's licenses.
    fn agreed(&self, site: usize) -> Result<Vec<LicenseId>, String> {
        let pool = &self.sites[site].0.state;
        let here: Vec<_> = pool.licenses.keys().cloned().collect();
        let machine = machine_key(number(site)).public_key().id();
        let active = self.register.state.of_machine(machine).filter(|activation| activation.ended.is_none());
        let there: Vec<_> = active.map(|activation| activation.document.license.clone()).collect();
        let returning = pool.licenses.values().filter(|installed| installed.returning.is_some()).count();
        if here == there && returning == 0 && pool.requests.is_empty() {
            Ok(here)
        } else {
            Err(format!("here {here:?}, there {there:?}, {returning} returning, open {:?}", pool.requests))
        }
    }

    fn license(&self, site: usize) -> Option<LicenseId> {
        self.sites[site].0.state.licenses.keys().next().cloned()
    }
}

/// Activation, return and repair, each cut short before every commit of either side.
#[test]
fn after_a_power_cut_between_any_two_commits_the_books_agree_at_the_next_contact() {
    let mut cuts = 0;
    for what in ["activate", "return", "repair"] {
        for (site, vendor) in (0..6).flat_map(|n| [(n, u32::MAX), (u32::MAX, n), (n, n)]) {
            for heard in [true, false] {
                let mut world = World::new(2);
                if what != "activate" {
                    world.wish(0, Wish::Activate(key(0)), true).expect("activates");
                }
                let wish = match what {
                    "activate" => Wish::Activate(key(0)),
                    "return" => Wish::Return(world.license(0).expect("a license")),
                    _ => {
                        world.sites[0].1 = 9;
                        world.boot(0);
                        Wish::Repair
                    }
                };
                world.cut = Cut { site, vendor };
                let ended = world.wish(0, wish, heard);
                cuts += u32::from(ended.is_err());
                world.restart();
                world.contact(0);
                let case = format!("{what}, cut {site}/{vendor}, heard {heard}");
                world.agreed(0).unwrap_or_else(|error| panic!("{case}: {error}"));
                // Whatever it came to, the key is nowhere twice, and can be moved.
                if let Some(license) = world.license(0) {
                    world.wish(0, Wish::Return(license), true).expect("returns");
                }
                world.contact(0);
                world.wish(1, Wish::Activate(key(0)), true).expect("activates");
                assert_eq!(world.agreed(1).map(|held| held.len()), Ok(1), "{case}");
                assert_eq!(world.agreed(0).map(|held| held.len()), Ok(0), "{case}");
            }
        }
    }
    assert!(cuts >= 30, "only {cuts} runs were cut short");
    println!("{cuts} power cuts between commits; after each the books agree");
}

#[derive(Debug, Clone)]
enum Step {
    Wish { site: usize, what: u8, key: u8, heard: bool, cut: Option<(u32, u32)> },
    Change { site: usize, mac: u8 },
    Save { site: usize },
    Restore { site: usize },
    Contact { site: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let site = 0..2_usize;
    let cut = prop::option::weighted(0.3, (0..5_u32, 0..3_u32));
    let wish = (site.clone(), 0..4_u8, 0..KEYS, prop::bool::weighted(0.8), cut)
        .prop_map(|(site, what, key, heard, cut)| Step::Wish { site, what, key, heard, cut });
    prop::collection::vec(
        prop_oneof![
            8 => wish,
            1 => (site.clone(), any::<u8>()).prop_map(|(site, mac)| Step::Change { site, mac }),
            1 => site.clone().prop_map(|site| Step::Save { site }),
            1 => site.clone().prop_map(|site| Step::Restore { site }),
            1 => site.prop_map(|site| Step::Contact { site }),
        ],
        1..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Any history: wishes with messages lost and power cuts, machines that change, folders restored from
    /// older copies. After the next contact the books agree, and no key counts on two machines.
    #[test]
    fn after_any_history_the_books_agree_at_the_next_contact_and_no_key_counts_twice(steps in steps()) {
        let mut world = World::new(2);
        let mut saved = [0, 0];
        for step in steps {
            match step {
                Step::Wish { site, what, key: number, heard, cut } => {
                    if let Some((site, vendor)) = cut {
                        world.cut = Cut { site, vendor };
                    }
                    let wish = match (what, world.license(site)) {
                        (0 | 1, _) => Wish::Activate(key(number)),
                        (2, Some(license)) => Wish::Return(license),
                        (3, _) => Wish::Repair,
                        _ => Wish::Refresh,
                    };
                    if world.wish(site, wish, heard).is_err() {
                        world.restart();
                    }
                    world.cut = Cut { site: u32::MAX, vendor: u32::MAX };
                }
                Step::Change { site, mac } => {
                    world.sites[site].1 = mac;
                    world.boot(site);
                }
                Step::Save { site } => saved[site] = world.sites[site].0.events.len(),
                Step::Restore { site } => {
                    let bench = &mut world.sites[site].0;
                    bench.events.truncate(saved[site]);
                    bench.restart();
                    world.boot(site);
                }
                Step::Contact { site } => world.contact(site),
            }
        }
        for site in 0..2 {
            world.contact(site);
        }
        let mut held = Vec::new();
        for site in 0..2 {
            match world.agreed(site) {
                Ok(licenses) => held.extend(licenses),
                Err(error) => prop_assert!(false, "site {site}: {error}"),
            }
        }
        let mut keys: Vec<_> = held
            .iter()
            .filter_map(|license| world.register.state.activations.get(license)?.key)
            .collect();
        let count = keys.len();
        keys.sort();
        keys.dedup();
        prop_assert_eq!(keys.len(), count, "a key counts twice");
    }
}
