//! The pool under test: the story, the contract with a node, and properties over random histories.

mod contract;
mod histories;
mod leases;
mod licenses;
mod revoked;
mod rules;
mod story;

use headroom_core::call::RunningLeg;
use headroom_core::fingerprint::{Fingerprint, Sources};
use headroom_core::license::{LicenseDocument, LicensedFeature, Metric, Nonce as LicenseNonce};
use headroom_core::machine::Bench;
use headroom_core::rating::rate_leg;
use headroom_core::{
    Call, CallId, CallInfo, Charge, DenialReason, Direction, Feature, Interop, LeaseId, Leg, LegId, LegSet,
    LicenseId, Media, Millis, NodeName, Now, Protocol, Service, SourceId, Text, Units,
};

use crate::*;

fn fingerprint(machine: &str) -> Fingerprint {
    let sources = Sources { machine_id: Some(machine.into()), ..Sources::default() };
    Fingerprint::new(&sources).expect("a machine id is enough")
}

fn license(id: &str, feature: &str, quantity: u32, overdraft: u32) -> LicenseDocument {
    LicenseDocument {
        license: LicenseId::new(id).expect("id"),
        sku: Text::default(),
        plan: Text::default(),
        customer: Text::default(),
        features: vec![LicensedFeature {
            feature: Feature::new(feature).expect("feature"),
            metric: Metric::Concurrent,
            quantity: Units(quantity),
            overdraft: Units(overdraft),
            attributes: std::collections::BTreeMap::new(),
        }],
        not_before: Millis(0),
        not_after: None,
        trial: false,
        fingerprint: fingerprint("here"),
        machine_sequence: 0,
        nonce: LicenseNonce([0; 16]),
        issued_at: Millis(0),
        grace_days: None,
    }
}

fn leg(name: &str) -> Leg {
    Leg {
        leg: LegId::new(name).expect("id"),
        participant: Text::default(),
        protocol: Protocol::Sip,
        direction: Direction::In,
        media: Media::AUDIO_VIDEO,
        owner: None,
        replaces: None,
        subjects: Vec::new(),
        needs: Vec::new(),
    }
}

fn call(name: &str, service: Service, legs: Vec<Leg>) -> Call {
    Call {
        info: CallInfo {
            call: CallId::new(name).expect("id"),
            service,
            interop: None,
            conference: Text::default(),
            destination: Text::default(),
            tenant: Text::default(),
            source: SourceId::default(),
        },
        legs,
    }
}

/// A call of one leg in a meeting room; call and leg have the same name.
fn one(name: &str) -> Call {
    call(name, Service::Vmr, vec![leg(name)])
}

/// A call with two gateway legs.
fn gateway(name: &str) -> Call {
    call(name, Service::Gateway, vec![leg(&format!("{name}.in")), leg(&format!("{name}.out"))])
}

fn running(call: &Call) -> Vec<RunningLeg> {
    let legs = call.legs.iter().map(|leg| RunningLeg {
        info: call.info.clone(),
        leg: leg.clone(),
        charge: rate_leg(&call.info, leg),
        admitted_at: Millis(1),
    });
    legs.collect()
}

/// A set of legs as a node counts it.
fn set(legs: &[RunningLeg]) -> LegSet {
    let mut set = LegSet::default();
    for running in legs {
        set.add(&running.leg.leg, &running.info.call, &running.charge);
    }
    set
}

/// A node's side of a session, as simple as can be.
#[derive(Debug, Clone)]
struct Peer {
    caller: CertificateHash,
    name: NodeName,
    nonce: Nonce,
    opened: u64,
    generation: u64,
    session: u64,
    sequence: u64,
    report: u32,
}

struct Fixture {
    bench: Bench<PoolMachine>,
    now: Now,
}

impl Fixture {
    fn new() -> Self {
        let mut fixture =
            Self { bench: Bench::default(), now: Now { wall: Millis(1_000_000), boot: Millis(0) } };
        fixture.start();
        fixture
    }

    /// A pool with ten calls licensed.
    fn with_ten() -> Self {
        let mut fixture = Self::new();
        fixture.install(license("L1", "call", 10, 0)).expect("installs");
        fixture
    }

    fn start(&mut self) {
        let settings = Settings::default();
        self.run(Command::Start { settings, fingerprint: fingerprint("here"), boot_id: BootId([1; 16]) });
    }

    fn run(&mut self, command: Command) -> Reply {
        self.bench.run(self.now, command)
    }

    fn install(&mut self, document: LicenseDocument) -> Result<(), Refusal> {
        let signed = document.license.as_str().as_bytes().to_vec();
        match self.run(Command::InstallLicense(Box::new(Installed::from_file(
            document,
            signed,
            self.now.wall,
        )))) {
            Reply::Installed(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn restart(&mut self) {
        self.bench.restart();
        self.start();
    }

    /// Lets time pass in ticks of a second.
    fn pass(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.now.wall = self.now.wall.plus(Millis::SECOND);
            self.now.boot = self.now.boot.plus(Millis::SECOND);
            self.run(Command::Tick { around: Vec::new() });
        }
    }

    fn node(&mut self, name: &str) -> Peer {
        let number = u8::try_from(self.bench.state.certificates.len()).expect("few nodes") + 1;
        let caller = CertificateHash([number; 32]);
        let node = NodeName::new(name).expect("name");
        match self.run(Command::AddNode { node: node.clone(), certificate: caller }) {
            Reply::NodeAdded(Ok(())) => {}
            other => panic!("{other:?}"),
        }
        let mut peer = Peer {
            caller,
            name: node,
            nonce: Nonce([number; 16]),
            opened: 0,
            generation: 0,
            session: 0,
            sequence: 0,
            report: 1,
        };
        let opened = self.open(&mut peer, None, LegSet::default()).expect("opens");
        assert!(!opened.report_required);
        peer
    }

    fn open(&mut self, peer: &mut Peer, predecessor: Option<Nonce>, legs: LegSet) -> Result<Opened, Refusal> {
        peer.opened += 1;
        let request = OpenRequest { nonce: peer.nonce, predecessor, open_number: peer.opened, legs };
        let opened = match self.run(Command::Open { caller: peer.caller, request }) {
            Reply::Opened(result) => result?,
            other => panic!("{other:?}"),
        };
        (peer.generation, peer.session) = (self.bench.volatile.renewed.unwrap_or(0), opened.session);
        peer.sequence = 0;
        peer.report = 1;
        Ok(opened)
    }

    fn speak(&mut self, peer: &Peer, request: Request) -> Reply {
        let Peer { caller, generation, session, .. } = *peer;
        self.run(Command::Speak { caller, generation, session, request })
    }

    fn mutate(&mut self, peer: &mut Peer, change: Change) -> Result<Mutation, Refusal> {
        let sequence = peer.sequence + 1;
        let mutation = self.mutate_as(peer, sequence, change)?;
        peer.sequence = sequence;
        Ok(mutation)
    }

    fn mutate_as(&mut self, peer: &Peer, sequence: u64, change: Change) -> Result<Mutation, Refusal> {
        match self.speak(peer, Request::Mutate { sequence, change }) {
            Reply::Mutated(result) => result.map(|(mutation, _)| (*mutation).clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Asks for one call.
    fn ask(&mut self, peer: &mut Peer, call: Call) -> Verdict<Vec<Leased>> {
        match self.mutate(peer, Change::Allocate(vec![call])).expect("in session") {
            Mutation::Allocated(mut answers) => answers.remove(0).verdict,
            other => panic!("{other:?}"),
        }
    }

    fn grants(&mut self, peer: &mut Peer, call: Call) -> bool {
        matches!(self.ask(peer, call), Verdict::Granted(_))
    }

    fn update(&mut self, peer: &mut Peer, name: &str, media: Media) -> Verdict<Leased> {
        let leg = LegId::new(name).expect("id");
        match self.mutate(peer, Change::Update(vec![(leg, media)])).expect("in session") {
            Mutation::Updated(mut answers) => answers.remove(0).verdict,
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, peer: &mut Peer, name: &str) {
        let leg = LegId::new(name).expect("id");
        self.mutate(peer, Change::Release(vec![leg])).expect("in session");
    }

    fn adopt(&mut self, peer: &mut Peer, call: &Call) -> (Vec<Leased>, Vec<LegId>) {
        match self.mutate(peer, Change::Adopt(running(call))).expect("in session") {
            Mutation::Adopted(leases, revoked) => (leases, revoked),
            other => panic!("{other:?}"),
        }
    }

    fn report(
        &mut self,
        peer: &Peer,
        chunk: u32,
        legs: Vec<RunningLeg>,
        total: Option<LegSet>,
    ) -> Result<Reported, Refusal> {
        match self.speak(peer, Request::Report { report: peer.report, chunk, legs, total }) {
            Reply::Reported(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn beat(&mut self, peer: &Peer, legs: LegSet, told: Vec<LegId>) -> Result<Beat, Refusal> {
        let sequence = peer.sequence;
        let heartbeat = Heartbeat { sequence, legs, told, past: Vec::new(), optimistic: 0 };
        match self.speak(peer, Request::Heartbeat(heartbeat)) {
            Reply::Beat(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn force(&mut self, peer: &Peer, name: &str) -> Result<Charge, Refusal> {
        let (node, leg) = (peer.name.clone(), LegId::new(name).expect("id"));
        match self.run(Command::ForceRelease { node, leg }) {
            Reply::Forced(result) => result,
            other => panic!("{other:?}"),
        }
    }

    fn pool(&self) -> PoolInstant {
        self.bench.state.instant(&Feature::Call, self.now.wall)
    }

    fn in_use(&self) -> u32 {
        self.pool().in_use.0
    }

    fn held(&self, peer: &Peer) -> LegSet {
        let holder = self.bench.state.holder_of(&peer.name).expect("enrolled");
        self.bench.state.holders.get(&holder).expect("enrolled").set
    }
}
