//! The licensing server, and the exchange with it: a request is durable and marked before it is sent, the
//! answer is signed, and both are XML on the way.

use headroom_core::activation::{Wish, read_answer, write_answer};
use headroom_core::license::Nonce;
use headroom_core::{Millis, Shared};
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
    /// The management node.
    Pool,
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
const SITE: u8 = 0;

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
        Self { host: Host::new(2_000), disk: Disk::new(dice.any()), process: None, lives: 0 }
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
        if process.submit(command, who) {
            let life = process.life;
            self.schedule(Millis(0), Event::Vendor(VendorEvent::Wake(life)));
        }
    }

    fn vendor_wake(&mut self) {
        let now = self.vendor.host.now(self.time);
        let Some(process) = &mut self.vendor.process else { return };
        for (command, who) in process.take(usize::MAX) {
            process.decide(now, command, who);
        }
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
            if let (VendorAsker::Pool, vendor::Reply::Answered(draft)) = (who, reply) {
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
        let command = licenses::delivered(open, SITE, self.dice.bytes());
        self.vendor_submit(command, VendorAsker::Pool);
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

    /// I10: the register and the pool agree on which licenses are this machine's, each once.
    pub(crate) fn vendor_at_rest(&self) -> Result<(), String> {
        if self.plan.keys == 0 {
            return Ok(());
        }
        let Some(register) = &self.vendor.process else { return Err("the licensing server is down".into()) };
        let Some(pool) = &self.pool.process else { return Err("the pool is down".into()) };
        let machine = licenses::machine_key(SITE).public_key().id();
        let active = register.state().of_machine(machine).filter(|activation| activation.ended.is_none());
        let there: Vec<_> = active.map(|activation| activation.document.license.clone()).collect();
        let here: Vec<_> =
            pool.state().licenses.values().filter(|installed| installed.activated()).cloned().collect();
        let mut keys: Vec<_> = here.iter().filter_map(|installed| installed.key).collect();
        let here: Vec<_> = here.iter().map(|installed| installed.document.license.clone()).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() < count {
            return Err(format!("a key is activated twice: {keys:?}"));
        }
        if here != there || !pool.state().requests.is_empty() {
            return Err(format!("licenses here {here:?}, at the licensing server {there:?}"));
        }
        Ok(())
    }
}
