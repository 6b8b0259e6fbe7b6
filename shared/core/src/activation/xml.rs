//! Requests and answers as XML: an envelope that people and other systems can read.
//!
//! Reading knows exactly one form. There is no document type, no entity but the five that XML itself
//! has, no comment, no processing instruction, nothing twice and nothing unknown; size, depth, elements
//! and attributes are bounded. So nothing can be wrapped around what is signed or hidden beside it.

mod tree;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quick_xml::escape::escape;

use super::{Answer, MAX_SUCCESSIONS, Request, Wish};
use crate::license::Nonce;
use crate::signed::{Document, Signed, Succession, Verified};
use crate::time::Millis;

use tree::{Children, parse};
pub use tree::{MAX_XML, XmlError};

const FORMAT: &str = "1";
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";

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
