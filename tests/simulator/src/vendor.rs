//! The licensing server, and the exchange with it: a request is durable and marked before it is sent, the
//! answer is signed, and both are XML on the way.

use headroom_core::activation::{Outcome, Wish, read_answer, write_answer};
use headroom_core::license::Nonce;
use headroom_core::{LicenseId, Millis, Shared};
use licensing_core::{self as vendor, Register};
use management_core::{Command, Installed, LicenseRequest, Mark, Reply};

use crate::dice::Dice;
use crate::disk::Disk;
use crate::fault::Who;
use crate::host::{EPOCH, Host};
use crate::licenses;
use crate::plan::Plan;
use crate::pool::Asker;
use crate::process::{Closing, Process};
use crate::world::{Event, World};

/// What is open is sent again after this time.
const AGAIN: Millis = Millis::SECOND.times(30);

/// The licensing server.
pub struct VendorSide {
    /// Its clocks.
    pub host: Host,
    /// Its register.
    pub disk: Disk,
    /// Its process, when it runs.
    pub process: Option<Process<Register, VendorAsker>>,
    lives: u64,
    /// Requests that the stranger has made.
    strangers: u64,
}

/// Something at the licensing server, or on the way.
pub enum VendorEvent {
    /// The service is started.
    Start,
    /// The committer looks at its queue.
    Wake(u64),
    /// The disk has written.
    Appended(u64),
    /// A request arrives.
    Request(Shared<LicenseRequest>),
    /// An answer arrives at the management node.
    Answer(String),
    /// What is open is sent again.
    Again,
}

/// Who waits for an answer of the register.
pub enum VendorAsker {
    /// Nobody.
    Nobody,
    /// The management node, which returns this license with it.
    Pool(Option<LicenseId>),
}

/// How far an exchange is, seen from the management node.
pub enum LicenseStep {
    /// A request is made or marked: then it is sent.
    Made,
    /// ... or marked: then it is sent.
    Marked,
    /// An answer is applied.
    Applied,
}

/// The site that the management node is.
pub(crate) const SITE: u8 = 0;
/// Another, which has the same keys.
const STRANGER: u8 = 1;

/// The license that a world begins with.
#[must_use]
pub fn from_file(plan: &Plan) -> Installed {
    let not_after = plan.expires.map(|end| Millis(EPOCH + end.0));
    let document = licenses::document(plan.capacity, plan.overdraft, not_after);
    Installed::from_file(document, Vec::new(), Millis(EPOCH))
}

impl VendorSide {
    /// A new register.
    #[must_use]
    pub fn new(dice: &mut Dice) -> Self {
        Self { host: Host::new(2_000), disk: Disk::new(dice.any()), process: None, lives: 0, strangers: 0 }
    }
}

impl World {
    pub(crate) fn at_vendor(&mut self, event: VendorEvent) {
        let life = self.vendor.process.as_ref().map(|process| process.life);
        match event {
            VendorEvent::Start if life.is_none() => self.vendor_start(),
            VendorEvent::Wake(of) if life == Some(of) => self.vendor_wake(),
            VendorEvent::Appended(of) if life == Some(of) => self.vendor_appended(),
            VendorEvent::Request(open) => self.vendor_hears(&open),
            VendorEvent::Answer(xml) => self.answer_arrives(&xml),
            VendorEvent::Again => self.contact_vendor(),
            _ => {}
        }
    }

    pub(crate) fn vendor_start(&mut self) {
        let recovered = match self.vendor.disk.recover::<Register>(false) {
            Ok(recovered) => recovered,
            Err(error) => {
                return self.violate("I11", format!("the licensing server does not start: {error}"));
            }
        };
        self.vendor.lives += 1;
        self.vendor.process = Some(Process::new(self.vendor.lives, recovered));
        if self.vendor.lives > 1 || self.plan.keys == 0 {
            return;
        }
        for command in licenses::stock(self.plan.keys, 2) {
            self.vendor_submit(command, VendorAsker::Nobody);
        }
    }

    pub(crate) fn vendor_crash(&mut self, down: Millis) {
        let Some(process) = self.vendor.process.take() else { return };
        if let Err((promise, text)) = process.die(&mut self.vendor.disk, &mut self.dice) {
            return self.violate(promise, text);
        }
        self.schedule(down, Event::Vendor(VendorEvent::Start));
    }

    fn vendor_submit(&mut self, command: vendor::Command, who: VendorAsker) {
        let Some(process) = &mut self.vendor.process else { return };
        if process.submit(command, who, self.time) {
            let life = process.life;
            self.schedule(Millis(0), Event::Vendor(VendorEvent::Wake(life)));
        }
    }

    fn vendor_wake(&mut self) {
        let now = self.vendor.host.now(self.time);
        let Some(process) = &mut self.vendor.process else { return };
        for (command, who, _) in process.take(usize::MAX) {
            process.decide(now, command, who);
        }
        self.check(self.keys_once());
        self.vendor_close();
    }

    fn vendor_close(&mut self) {
        match self.vendor.process.as_mut().map(Process::close) {
            None | Some(Closing::Busy) => {}
            Some(Closing::Answered(answers)) => self.vendor_answers(answers.answers),
            Some(Closing::Writing) => {
                let takes = self.write_takes(Who::Vendor);
                self.schedule(takes, Event::Vendor(VendorEvent::Appended(self.vendor.lives)));
            }
        }
    }

    fn vendor_appended(&mut self) {
        if self.is_deadly() {
            let down = self.dice.span(10, 5_000);
            return self.vendor_crash(down);
        }
        let Some(process) = &mut self.vendor.process else { return };
        match process.written(&mut self.vendor.disk, u64::MAX) {
            Ok(Some(written)) => self.vendor_answers(written.answers.answers),
            Ok(None) => return,
            Err((promise, text)) => return self.violate(promise, text),
        }
        self.vendor_close();
    }

    fn vendor_answers(&mut self, answers: Vec<(VendorAsker, vendor::Reply)>) {
        for (who, reply) in answers {
            if let (VendorAsker::Pool(returned), vendor::Reply::Answered(draft)) = (who, reply) {
                if draft.outcome == Outcome::Done {
                    self.check(self.is_returned(returned.as_ref()));
                }
                let Ok(signed) = draft.sign(&licenses::vendor_key()) else {
                    self.violate("I10", "an answer of the register cannot be signed".into());
                    return;
                };
                let xml = write_answer(&signed, &[]);
                for delay in self.deliveries() {
                    self.schedule(delay, Event::Vendor(VendorEvent::Answer(xml.clone())));
                }
            }
        }
    }

    fn vendor_hears(&mut self, open: &Shared<LicenseRequest>) {
        let command = licenses::delivered(&open.request, SITE, self.dice.bytes());
        let returned = match &open.request.wish {
            Wish::Return(license) => Some(license.clone()),
            _ => None,
        };
        self.vendor_submit(command, VendorAsker::Pool(returned));
    }

    /// Something is wanted of the licensing server.
    pub(crate) fn ask_vendor(&mut self, what: u64) {
        let Some(process) = self.pool.process.as_ref().filter(|_| self.plan.keys > 0) else { return };
        let activated: Vec<_> = process
            .shown
            .licenses
            .values()
            .filter(|installed| installed.activated())
            .map(|installed| installed.document.license.clone())
            .collect();
        let number = u8::try_from(self.dice.below(u64::from(self.plan.keys))).unwrap_or(0);
        let wish = match what {
            0 | 1 => Wish::Activate(licenses::key(number)),
            2 if !activated.is_empty() => Wish::Return(self.dice.pick(&activated).clone()),
            _ => Wish::Refresh,
        };
        self.wish(wish);
        self.schedule(AGAIN, Event::Vendor(VendorEvent::Again));
        if self.plan.unruly() {
            self.stranger_asks();
        }
    }

    /// Somebody with another machine has the keys too, and uses or returns what he got for them.
    fn stranger_asks(&mut self) {
        let number = u8::try_from(self.dice.below(u64::from(self.plan.keys))).unwrap_or(0);
        let machine = licenses::machine_key(STRANGER).public_key().id();
        let active = self.vendor.process.as_ref().and_then(|process| {
            let mut active = process.state().of_machine(machine).filter(|license| license.ended.is_none());
            active.next().map(|activation| activation.document.license.clone())
        });
        let wish = match active {
            Some(license) => Wish::Return(license),
            None => Wish::Activate(licenses::key(number)),
        };
        self.count("request of a stranger");
        self.vendor.strangers += 1;
        let nonce = Nonce(self.dice.bytes());
        let request = licenses::request(wish, nonce, STRANGER, self.vendor.strangers);
        let command = licenses::delivered(&request, STRANGER, self.dice.bytes());
        self.vendor_submit(command, VendorAsker::Nobody);
    }

    fn wish(&mut self, wish: Wish) {
        let nonce = Nonce(self.dice.bytes());
        let wanted = licenses::wanted(wish, nonce, SITE);
        self.pool_submit(Command::Request(wanted), Asker::License(LicenseStep::Made));
    }

    /// Everything open is sent again, and again until there is nothing. Then the books are compared.
    pub(crate) fn contact_vendor(&mut self) {
        let Some(process) = &self.pool.process else {
            return self.schedule(AGAIN, Event::Vendor(VendorEvent::Again));
        };
        if self.plan.keys == 0 {
            return;
        }
        let open: Vec<_> = process.shown.requests.keys().copied().collect();
        let agreed = self.vendor_at_rest().is_ok();
        if open.is_empty() && !agreed && !self.is_active() {
            self.wish(Wish::Refresh);
        }
        for nonce in open.iter().copied() {
            let mark = Command::MarkRequest { nonce, mark: Mark::Sent };
            self.pool_submit(mark, Asker::License(LicenseStep::Marked));
        }
        if !open.is_empty() || (!agreed && !self.is_active()) {
            self.schedule(AGAIN, Event::Vendor(VendorEvent::Again));
        }
    }

    /// The management node goes on with an exchange.
    pub(crate) fn license_step(&mut self, step: LicenseStep, reply: Reply) {
        match (step, reply) {
            (LicenseStep::Made, Reply::Requested(Ok(open))) => {
                let mark = Command::MarkRequest { nonce: open.request.nonce, mark: Mark::Sent };
                self.pool_submit(mark, Asker::License(LicenseStep::Marked));
            }
            (LicenseStep::Marked, Reply::Requested(Ok(open))) => {
                for delay in self.deliveries() {
                    let request = VendorEvent::Request(Shared::clone(&open));
                    self.schedule(delay, Event::Vendor(request));
                }
            }
            (LicenseStep::Applied, Reply::Applied(applied)) => {
                if let Ok(applied) = *applied
                    && let Some(renewed) = applied.renewed
                {
                    self.license_step(LicenseStep::Made, Reply::Requested(Ok(renewed)));
                }
            }
            _ => {}
        }
    }

    fn answer_arrives(&mut self, xml: &str) {
        let Ok(answer) = read_answer(xml.as_bytes(), &licenses::vendor_key().public_key().into()) else {
            return self.violate("I10", "an answer of the licensing server cannot be read".into());
        };
        let again = Nonce(self.dice.bytes());
        let apply = Command::ApplyAnswer { answer: Box::new(answer), just_now: true, again };
        self.pool_submit(apply, Asker::License(LicenseStep::Applied));
    }
}
