//! The leases of a pool, kept small: a million of them is an ordinary size.
//!
//! A lease is one piece of memory, its encoded form, and two orders share it: by holder and leg, and by
//! call. A lease as the machine works with it is many small pieces, several times as large; it is made
//! anew whenever one is looked at.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use equivalent::{Comparable, Equivalent};
use headroom_core::{CallId, Charge, LeaseId, LegId};
use imbl::OrdSet;
use minicbor::encode::Write;
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use triomphe::ThinArc;

use crate::state::{HolderId, Lease, LeaseKey, Origin};

/// What this module encoded, it can decode.
const OWN: &str = "a lease in the books is whole";

/// What stands before an encoded lease: its holder, and where in it the texts are that it is ordered by.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head {
    holder: HolderId,
    leg: Stretch,
    call: Stretch,
}

/// A text within an encoded lease.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stretch {
    begin: u16,
    length: u8,
}

/// What the tallies count of a lease, which is much less than all that it says.
pub(crate) struct Counted<'p> {
    pub(crate) id: LeaseId,
    pub(crate) leg: &'p str,
    pub(crate) call: &'p str,
    pub(crate) charge: Charge,
    pub(crate) origin: Origin,
}

/// A lease and who holds it, encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed(ThinArc<Head, u8>);

impl Packed {
    /// Encodes a lease.
    #[must_use]
    pub fn new(holder: HolderId, lease: &Lease) -> Self {
        let mut bytes = Vec::with_capacity(256);
        // Writing to memory has no errors, and derived encoders have none of their own.
        let _ = minicbor::encode(lease, &mut bytes);
        Self::encoded(holder, lease, &bytes)
    }

    /// Of a lease that is encoded already.
    fn encoded(holder: HolderId, lease: &Lease, bytes: &[u8]) -> Self {
        let leg = find(bytes, lease.leg.leg.as_str());
        let call = find(bytes, lease.info.call.as_str());
        Self(ThinArc::from_header_and_slice(Head { holder, leg, call }, bytes))
    }

    /// Who holds it.
    #[must_use]
    pub fn holder(&self) -> HolderId {
        self.head().holder
    }

    fn head(&self) -> &Head {
        &self.0.header.header
    }

    fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    fn text(&self, stretch: Stretch) -> &[u8] {
        let begin = usize::from(stretch.begin);
        &self.bytes()[begin..begin + usize::from(stretch.length)]
    }

    fn leg(&self) -> &[u8] {
        self.text(self.head().leg)
    }

    fn call(&self) -> &[u8] {
        self.text(self.head().call)
    }

    /// The leg's id.
    #[must_use]
    pub fn leg_name(&self) -> &str {
        std::str::from_utf8(self.leg()).expect(OWN)
    }

    /// The call's id.
    #[must_use]
    pub fn call_name(&self) -> &str {
        std::str::from_utf8(self.call()).expect(OWN)
    }

    pub(crate) fn key(&self) -> LeaseKey {
        LeaseKey { holder: self.holder(), leg: LegId::new(self.leg_name()).expect(OWN) }
    }

    /// The lease.
    #[must_use]
    pub fn lease(&self) -> Lease {
        minicbor::decode(self.bytes()).expect(OWN)
    }

    /// The lease's id, which is its first field.
    fn id(&self) -> u64 {
        let mut decoder = Decoder::new(self.bytes());
        decoder.array().and_then(|_| decoder.u64()).expect(OWN)
    }

    /// What the tallies count of it.
    pub(crate) fn counted(&self) -> Counted<'_> {
        let mut decoder = Decoder::new(self.bytes());
        let mut read = || {
            decoder.array()?;
            Ok::<_, decode::Error>((decoder.decode()?, decoder.decode()?, decoder.decode()?))
        };
        let (id, charge, origin) = read().expect(OWN);
        Counted { id, leg: self.leg_name(), call: self.call_name(), charge, origin }
    }

    fn place(&self) -> Place<'_> {
        Place { holder: self.holder(), leg: self.leg(), call: self.call() }
    }

    fn whole(&self) -> (HolderId, Lease) {
        (self.holder(), self.lease())
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.whole().fmt(f)
    }
}

impl<C> Encode<C> for Packed {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(2)?.u32(self.holder().0)?;
        e.writer_mut().write_all(self.bytes()).map_err(encode::Error::write)
    }
}

impl<'b, C> Decode<'b, C> for Packed {
    fn decode(d: &mut Decoder<'b>, context: &mut C) -> Result<Self, decode::Error> {
        if d.array()? != Some(2) {
            return Err(decode::Error::message("a lease has a holder and what it says"));
        }
        let holder = HolderId(d.u32()?);
        let begin = d.position();
        let lease = Lease::decode(d, context)?;
        Ok(Self::encoded(holder, &lease, &d.input()[begin..d.position()]))
    }
}

/// Where a text stands in an encoded lease that has it. The same text may stand there twice, for example
/// as call and as leg; either will do.
fn find(encoded: &[u8], text: &str) -> Stretch {
    let text = text.as_bytes();
    // The first byte alone rules out most places.
    let begin =
        encoded.windows(text.len()).position(|there| there[0] == text[0] && there == text).expect(OWN);
    // Texts have at most 255 bytes, and what stands before these two is a dozen of such fields at most.
    Stretch { begin: u16::try_from(begin).expect(OWN), length: u8::try_from(text.len()).expect(OWN) }
}

/// What entries are ordered by: of an entry, or of one that is looked for.
#[derive(Clone, Copy)]
struct Place<'p> {
    holder: HolderId,
    leg: &'p [u8],
    call: &'p [u8],
}

impl<'p> Place<'p> {
    /// Where a lease stands by its leg.
    fn leg(key: &'p LeaseKey) -> Self {
        Self { holder: key.holder, leg: key.leg.as_str().as_bytes(), call: &[] }
    }

    /// Before all leases of a holder, by leg.
    fn holder(holder: HolderId) -> Self {
        Self { holder, leg: &[], call: &[] }
    }

    /// Before all leases of a call, by call.
    fn call(call: &'p str) -> Self {
        Self { holder: HolderId(0), leg: &[], call: call.as_bytes() }
    }
}

trait Order: Clone {
    fn compare(one: Place<'_>, other: Place<'_>) -> Ordering;
}

#[derive(Clone)]
struct ByLeg;
impl Order for ByLeg {
    fn compare(one: Place<'_>, other: Place<'_>) -> Ordering {
        (one.holder, one.leg).cmp(&(other.holder, other.leg))
    }
}

#[derive(Clone)]
struct ByCall;
impl Order for ByCall {
    fn compare(one: Place<'_>, other: Place<'_>) -> Ordering {
        (one.call, one.holder, one.leg).cmp(&(other.call, other.holder, other.leg))
    }
}

/// An entry in an order.
#[derive(Clone)]
struct In<O>(Packed, PhantomData<O>);

impl<O: Order> In<O> {
    fn new(entry: Packed) -> Self {
        Self(entry, PhantomData)
    }
}
impl<O: Order> PartialEq for In<O> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl<O: Order> Eq for In<O> {}
impl<O: Order> PartialOrd for In<O> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<O: Order> Ord for In<O> {
    fn cmp(&self, other: &Self) -> Ordering {
        O::compare(self.0.place(), other.0.place())
    }
}

impl<O: Order> Equivalent<In<O>> for Place<'_> {
    fn equivalent(&self, entry: &In<O>) -> bool {
        self.compare(entry).is_eq()
    }
}
impl<O: Order> Comparable<In<O>> for Place<'_> {
    fn compare(&self, entry: &In<O>) -> Ordering {
        O::compare(*self, entry.0.place())
    }
}

/// Leases by holder and leg, and by call.
#[derive(Clone, Default)]
pub struct Leases {
    by_leg: OrdSet<In<ByLeg>>,
    by_call: OrdSet<In<ByCall>>,
}

impl Leases {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_leg.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_leg.is_empty()
    }

    /// Whether a leg has one.
    #[must_use]
    pub fn contains(&self, key: &LeaseKey) -> bool {
        self.by_leg.contains(&Place::leg(key))
    }

    /// A leg's lease.
    #[must_use]
    pub fn get(&self, key: &LeaseKey) -> Option<Lease> {
        self.by_leg.get(&Place::leg(key)).map(|found| found.0.lease())
    }

    /// All as they are kept, by holder and leg.
    pub fn packed(&self) -> impl Iterator<Item = &Packed> {
        self.by_leg.iter().map(|found| &found.0)
    }

    /// All, by holder and leg.
    pub fn iter(&self) -> impl Iterator<Item = (LeaseKey, Lease)> {
        self.by_leg.iter().map(|found| (found.0.key(), found.0.lease()))
    }

    /// Those of a holder, by leg.
    pub fn of_holder(&self, holder: HolderId) -> impl Iterator<Item = (LeaseKey, Lease)> {
        self.by_leg
            .range(Place::holder(holder)..)
            .take_while(move |found| found.0.holder() == holder)
            .map(|found| (found.0.key(), found.0.lease()))
    }

    fn packed_of_call<'a>(&'a self, call: &str) -> impl Iterator<Item = &'a Packed> + use<'a> {
        let mut found = self.by_call.range(Place::call(call)..).map(|found| &found.0).peekable();
        let first = found.peek().map(|first| first.call()).filter(|first| *first == call.as_bytes());
        found.take_while(move |found| first == Some(found.call()))
    }

    /// Whether a call has any.
    #[must_use]
    pub fn has_call(&self, call: &str) -> bool {
        self.packed_of_call(call).next().is_some()
    }

    /// What a call's legs hold, on every node.
    pub fn charges_of_call<'a>(&'a self, call: &str) -> impl Iterator<Item = Charge> + use<'a> {
        self.packed_of_call(call).map(|packed| packed.counted().charge)
    }

    /// The legs of a call that have one, on every node.
    pub fn keys_of_call<'a>(&'a self, call: &CallId) -> impl Iterator<Item = LeaseKey> + use<'a> {
        self.packed_of_call(call.as_str()).map(Packed::key)
    }

    /// Those of a call, on every node.
    pub fn of_call<'a>(&'a self, call: &CallId) -> impl Iterator<Item = (HolderId, Lease)> + use<'a> {
        self.packed_of_call(call.as_str()).map(Packed::whole)
    }

    /// All by call, or those of the calls after one.
    pub fn by_call<'a>(
        &'a self,
        after: Option<&CallId>,
    ) -> impl Iterator<Item = (HolderId, Lease)> + use<'a> {
        let skip = after.cloned();
        let begin = after.map_or(Place::holder(HolderId(0)), |call| Place::call(call.as_str()));
        self.by_call
            .range(begin..)
            .skip_while(move |found| skip.as_ref().is_some_and(|skip| found.0.call_name() == skip.as_str()))
            .map(|found| found.0.whole())
    }

    /// The one that was granted last.
    #[must_use]
    pub fn newest(&self) -> Option<(HolderId, Lease)> {
        self.by_leg.iter().max_by_key(|found| found.0.id()).map(|found| found.0.whole())
    }

    /// Puts a lease in, instead of the one its leg had.
    pub(crate) fn insert(&mut self, entry: Packed) {
        // Not replaced in place: the lease before may have been of another call.
        if let Some(before) = self.by_leg.insert(In::new(entry.clone())) {
            self.by_call.remove(&before.0.place());
        }
        self.by_call.insert(In::new(entry));
    }

    /// Takes a leg's lease out.
    pub(crate) fn remove(&mut self, key: &LeaseKey) -> Option<Packed> {
        let entry = self.by_leg.remove(&Place::leg(key))?.0;
        self.by_call.remove(&entry.place());
        Some(entry)
    }
}

impl PartialEq for Leases {
    fn eq(&self, other: &Self) -> bool {
        // In an order, entries are equal by their places alone; leases are by all that they say.
        self.packed().eq(other.packed())
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
