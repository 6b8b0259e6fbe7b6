//! Requests and answers as XML: an envelope that people and other systems can read.
//!
//! Reading knows exactly one form. There is no document type, no entity but the five that XML itself
//! has, no comment, no processing instruction, nothing twice and nothing unknown; size, depth, elements
//! and attributes are bounded. So nothing can be wrapped around what is signed or hidden beside it.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::{BytesStart, Event};

use super::{Answer, MAX_SUCCESSIONS, Request, Wish};
use crate::license::Nonce;
use crate::signed::{Document, Signed, SignedError, Succession, Verified};
use crate::time::Millis;

/// Largest XML, in bytes.
pub const MAX_XML: usize = 256 * 1024;
const MAX_DEPTH: usize = 3;
const MAX_ELEMENTS: usize = 32 + MAX_SUCCESSIONS;
const MAX_ATTRIBUTES: usize = 1;
const FORMAT: &str = "1";
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";

/// Why bytes are no acceptable XML of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Too large.
    #[error("the XML has {len} bytes, at most {MAX_XML} are allowed")]
    TooLarge {
        /// Bytes given.
        len: usize,
    },
    /// No text.
    #[error("the XML is not UTF-8 from byte {at} on")]
    NotText {
        /// Where it begins not to be.
        at: usize,
    },
    /// Not well-formed.
    #[error("the XML is not well-formed at byte {at}: {why}")]
    Malformed {
        /// Where.
        at: u64,
        /// What the reader says.
        why: String,
    },
    /// Something that XML has and these documents do not.
    #[error("the XML has {what} at byte {at}, which is not allowed")]
    Forbidden {
        /// What.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// Too much of something.
    #[error("the XML has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// Another document.
    #[error("this is no {expected}: its outermost element is {found}")]
    OtherDocument {
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// Written by a newer version.
    #[error("the {what} has format {found}, this version reads format {FORMAT}: update this software")]
    Format {
        /// The document.
        what: &'static str,
        /// Its format.
        found: String,
    },
    /// An element is missing, or another stands in its place.
    #[error("{element}: expected here, found {found}")]
    Missing {
        /// The element.
        element: &'static str,
        /// What stands there.
        found: String,
    },
    /// An element that is not known, or once too often.
    #[error("{element}: not expected here")]
    Unexpected {
        /// The element.
        element: String,
    },
    /// A value that cannot be meant so.
    #[error("{element}: {why}")]
    Value {
        /// The element.
        element: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A signed part that cannot be read.
    #[error("{element}: {why}")]
    Part {
        /// The element.
        element: &'static str,
        /// What is wrong.
        why: SignedError,
    },
}

/// An element with its text or its children.
#[derive(Default)]
struct Element {
    name: String,
    attribute: Option<(String, String)>,
    text: String,
    children: Vec<Element>,
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
    elements: usize,
}

fn parse(xml: &[u8]) -> Result<Element, XmlError> {
    if xml.len() > MAX_XML {
        return Err(XmlError::TooLarge { len: xml.len() });
    }
    let text = std::str::from_utf8(xml).map_err(|error| XmlError::NotText { at: error.valid_up_to() })?;
    let mut reader = Reader::from_str(text.trim());
    reader.config_mut().expand_empty_elements = true;
    let mut parser = Parser { reader, elements: 0 };
    let root = parser.prolog()?;
    parser.epilog()?;
    Ok(root)
}

fn blank(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_whitespace())
}

impl Parser<'_> {
    fn at(&self) -> u64 {
        self.reader.buffer_position()
    }

    fn forbidden(&self, what: &'static str) -> XmlError {
        XmlError::Forbidden { what, at: self.at() }
    }

    fn malformed(&self, why: impl ToString) -> XmlError {
        XmlError::Malformed { at: self.at(), why: why.to_string() }
    }

    /// The next event that these documents may have.
    fn next(&mut self) -> Result<Event<'static>, XmlError> {
        let event = self.reader.read_event().map(Event::into_owned).map_err(|error| self.malformed(error))?;
        match event {
            Event::DocType(_) => Err(self.forbidden("a document type")),
            Event::PI(_) => Err(self.forbidden("a processing instruction")),
            Event::Comment(_) => Err(self.forbidden("a comment")),
            Event::CData(_) => Err(self.forbidden("a CDATA section")),
            event => Ok(event),
        }
    }

    fn prolog(&mut self) -> Result<Element, XmlError> {
        let mut first = true;
        loop {
            match self.next()? {
                Event::Decl(_) if first => {}
                Event::Text(text) if blank(&text) => {}
                Event::Start(start) => return self.element(&start, 1),
                Event::Eof => return Err(self.malformed("there is no element")),
                _ => return Err(self.malformed("an element was expected")),
            }
            first = false;
        }
    }

    fn epilog(&mut self) -> Result<(), XmlError> {
        match self.next()? {
            Event::Eof => Ok(()),
            _ => Err(self.malformed("something follows the document")),
        }
    }

    fn element(&mut self, start: &BytesStart<'_>, depth: usize) -> Result<Element, XmlError> {
        self.elements += 1;
        if depth > MAX_DEPTH {
            return Err(XmlError::TooMany { what: "levels of elements", limit: MAX_DEPTH });
        }
        if self.elements > MAX_ELEMENTS {
            return Err(XmlError::TooMany { what: "elements", limit: MAX_ELEMENTS });
        }
        let mut element = Element {
            name: start.name().as_ref().to_owned(),
            attribute: self.attribute(start)?,
            ..Element::default()
        };
        loop {
            match self.next()? {
                Event::Start(start) => {
                    let child = self.element(&start, depth + 1)?;
                    element.children.push(child);
                }
                Event::End(_) => break,
                Event::Text(text) => element.text.push_str(&text),
                Event::GeneralRef(reference) => {
                    let letter = match reference.as_ref() {
                        "amp" => '&',
                        "lt" => '<',
                        "gt" => '>',
                        "quot" => '"',
                        "apos" => '\'',
                        _ => return Err(self.forbidden("an entity")),
                    };
                    element.text.push(letter);
                }
                _ => return Err(self.malformed("an element's end was expected")),
            }
        }
        // Text between elements is only their layout.
        if !element.children.is_empty() && !blank(&element.text) {
            return Err(self.malformed("text between elements"));
        }
        Ok(element)
    }

    fn attribute(&self, start: &BytesStart<'_>) -> Result<Option<(String, String)>, XmlError> {
        let mut found = None;
        // Their number is checked before each is compared with all others.
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| self.malformed(error))?;
            if found.is_some() {
                return Err(XmlError::TooMany { what: "attributes of an element", limit: MAX_ATTRIBUTES });
            }
            if attribute.value.contains('&') {
                return Err(self.forbidden("an entity"));
            }
            let name = attribute.key.as_ref().to_owned();
            found = Some((name, attribute.value.into_owned()));
        }
        Ok(found)
    }
}

/// An element's children, taken in their order.
struct Children {
    children: std::iter::Peekable<std::vec::IntoIter<Element>>,
}

impl Element {
    fn children(self) -> Result<Children, XmlError> {
        match self.attribute {
            Some((name, _)) => Err(XmlError::Unexpected { element: format!("{}@{name}", self.name) }),
            None => Ok(Children { children: self.children.into_iter().peekable() }),
        }
    }

    /// The text of an element that has nothing else.
    fn value(self) -> Result<String, XmlError> {
        match (self.attribute, self.children.first()) {
            (Some((name, _)), _) => Err(XmlError::Unexpected { element: format!("{}@{name}", self.name) }),
            (_, Some(child)) => Err(XmlError::Unexpected { element: child.name.clone() }),
            _ => Ok(self.text.trim().to_owned()),
        }
    }
}

impl Children {
    fn optional(&mut self, name: &str) -> Option<Element> {
        self.children.next_if(|child| child.name == name)
    }

    fn element(&mut self, name: &'static str) -> Result<Element, XmlError> {
        let found = self.children.peek().map_or_else(|| "nothing".into(), |child| child.name.clone());
        self.optional(name).ok_or(XmlError::Missing { element: name, found })
    }

    fn text(&mut self, name: &'static str) -> Result<String, XmlError> {
        self.element(name)?.value()
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &'static str) -> Result<T, XmlError>
    where
        T::Err: std::fmt::Display,
    {
        self.text(name)?
            .parse()
            .map_err(|why: T::Err| XmlError::Value { element: name, why: why.to_string() })
    }

    fn end(mut self) -> Result<(), XmlError> {
        match self.children.next() {
            Some(child) => Err(XmlError::Unexpected { element: child.name }),
            None => Ok(()),
        }
    }
}

/// The children of a document of the expected kind and format.
fn open(xml: &[u8], what: &'static str) -> Result<Children, XmlError> {
    let mut root = parse(xml)?;
    if root.name != what {
        return Err(XmlError::OtherDocument { expected: what, found: root.name });
    }
    match root.attribute.take() {
        Some((name, value)) if name == "format" => match value.as_str() {
            FORMAT => root.children(),
            _ => Err(XmlError::Format { what, found: value }),
        },
        _ => Err(XmlError::Format { what, found: "none".into() }),
    }
}

/// Decodes base 64; blanks and line ends, which mails add, make no difference.
fn base64(element: &'static str, text: &str) -> Result<Vec<u8>, XmlError> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(text).map_err(|why| XmlError::Value { element, why: why.to_string() })
}

fn signature(element: &'static str, text: &str) -> Result<[u8; 64], XmlError> {
    let bytes = base64(element, text)?;
    let len = bytes.len();
    bytes.try_into().map_err(|_| XmlError::Value { element, why: format!("{len} bytes, a signature has 64") })
}

fn signed<T: Document>(element: &'static str, text: &str) -> Result<Signed<T>, XmlError> {
    Signed::from_bytes(base64(element, text)?).map_err(|why| XmlError::Part { element, why })
}

fn hex_bytes<const N: usize>(element: &'static str, text: &str) -> Result<[u8; N], XmlError> {
    let mut bytes = [0; N];
    match hex::decode_to_slice(text, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => {
            let why = format!("{} hexadecimal digits were expected: {error}", 2 * N);
            Err(XmlError::Value { element, why })
        }
    }
}

const REQUEST: &str = "license-request";
const ANSWER: &str = "license-answer";

fn wish(request: &mut Children) -> Result<Wish, XmlError> {
    let kind = request.text("kind")?;
    let product = |request: &mut Children| match request.optional("product") {
        None => Ok(None),
        Some(element) => {
            let product = element.value()?.parse();
            product.map(Some).map_err(|why| XmlError::Value { element: "product", why: format!("{why}") })
        }
    };
    match kind.as_str() {
        "activate" => Ok(Wish::Activate(request.parsed("entitlement-key")?)),
        "return" => Ok(Wish::Return(request.parsed("license")?)),
        "repair" => Ok(Wish::Repair),
        "refresh" => Ok(Wish::Refresh),
        "fetch" => Ok(Wish::Fetch(product(request)?)),
        other => Err(XmlError::Value { element: "kind", why: format!("unknown: {other}") }),
    }
}

pub(super) fn parse_request(xml: &[u8]) -> Result<(Request, [u8; 64]), XmlError> {
    let mut root = open(xml, REQUEST)?;
    let mut request = root.element("request")?.children()?;
    let mut machine = root.element("machine")?.children()?;
    let parsed = Request {
        wish: wish(&mut request)?,
        sequence: request.parsed("sequence")?,
        revision: request.parsed("revision")?,
        nonce: Nonce(hex_bytes("nonce", &request.text("nonce")?)?),
        created_at: Millis(request.parsed("created-ms")?),
        software: request.parsed("software")?,
        fingerprint: machine.parsed("fingerprint")?,
        machine: machine.parsed("public-key")?,
        certificate: match machine.optional("certificate") {
            None => None,
            Some(element) => Some(signed("certificate", &element.value()?)?),
        },
    };
    request.end()?;
    machine.end()?;
    let signature = signature("signature", &root.text("signature")?)?;
    root.end()?;
    Ok((parsed, signature))
}

pub(super) fn parse_answer(xml: &[u8]) -> Result<(Signed<Answer>, Vec<Signed<Succession>>), XmlError> {
    let mut root = open(xml, ANSWER)?;
    let mut keys = root.element("keys")?.children()?;
    let mut successions = Vec::new();
    while let Some(element) = keys.optional("succession") {
        if successions.len() == MAX_SUCCESSIONS {
            return Err(XmlError::TooMany { what: "successions", limit: MAX_SUCCESSIONS });
        }
        successions.push(signed("succession", &element.value()?)?);
    }
    keys.end()?;
    let answer = signed("payload", &root.text("payload")?)?;
    root.end()?;
    Ok((answer, successions))
}

/// Writes elements with their layout.
struct Writer {
    xml: String,
    depth: usize,
}

impl Writer {
    fn line(&mut self, line: &str) {
        let indent = "  ".repeat(self.depth);
        let _ = writeln!(self.xml, "{indent}{line}");
    }

    fn value(&mut self, name: &str, value: impl std::fmt::Display) {
        let value = value.to_string();
        self.line(&format!("<{name}>{}</{name}>", escape(value.as_str())));
    }

    fn inside(&mut self, name: &str, children: impl FnOnce(&mut Self)) {
        self.line(&format!("<{name}>"));
        self.depth += 1;
        children(self);
        self.depth -= 1;
        self.line(&format!("</{name}>"));
    }

    fn document(name: &str, children: impl FnOnce(&mut Self)) -> String {
        let mut writer = Self { xml: format!("{DECLARATION}\n<{name} format=\"{FORMAT}\">\n"), depth: 1 };
        children(&mut writer);
        let _ = writeln!(writer.xml, "</{name}>");
        writer.xml
    }
}

pub(super) fn write_request(verified: &Verified<Request>) -> String {
    let asked = verified.document();
    Writer::document(REQUEST, |root| {
        root.inside("request", |request| {
            request.value("kind", asked.wish.word());
            match &asked.wish {
                Wish::Activate(key) => request.value("entitlement-key", key),
                Wish::Return(license) => request.value("license", license),
                Wish::Fetch(Some(product)) => request.value("product", product),
                Wish::Fetch(None) | Wish::Repair | Wish::Refresh => {}
            }
            request.value("sequence", asked.sequence);
            request.value("revision", asked.revision);
            request.value("nonce", hex::encode(asked.nonce.0));
            request.value("created-ms", asked.created_at.0);
            request.value("software", &asked.software);
        });
        root.inside("machine", |machine| {
            machine.value("fingerprint", &asked.fingerprint);
            machine.value("public-key", asked.machine);
            if let Some(certificate) = &asked.certificate {
                machine.value("certificate", STANDARD.encode(certificate.as_bytes()));
            }
        });
        root.value("signature", STANDARD.encode(verified.signature()));
    })
}

pub(super) fn write_answer(answer: &Verified<Answer>, successions: &[Signed<Succession>]) -> String {
    Writer::document(ANSWER, |root| {
        root.inside("keys", |keys| {
            for succession in successions {
                keys.value("succession", STANDARD.encode(succession.as_bytes()));
            }
        });
        root.value("payload", STANDARD.encode(answer.signed().as_bytes()));
    })
}
