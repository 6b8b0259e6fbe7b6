//! XML as a small tree, and nothing of XML that a small tree does not need.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::FORMAT;
use crate::activation::MAX_SUCCESSIONS;
use crate::signed::SignedError;

/// Largest XML, in bytes.
pub const MAX_XML: usize = 256 * 1024;
const MAX_DEPTH: usize = 3;
const MAX_ELEMENTS: usize = 32 + MAX_SUCCESSIONS;
const MAX_ATTRIBUTES: usize = 1;

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
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attribute: Option<(String, String)>,
    text: String,
    children: Vec<Element>,
}

struct Parser<'a> {
    reader: Reader<&'a [u8]>,
    elements: usize,
}

pub(super) fn parse(xml: &[u8]) -> Result<Element, XmlError> {
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
pub(super) struct Children {
    children: std::iter::Peekable<std::vec::IntoIter<Element>>,
}

impl Element {
    pub(super) fn children(self) -> Result<Children, XmlError> {
        match self.attribute {
            Some((name, _)) => Err(XmlError::Unexpected { element: format!("{}@{name}", self.name) }),
            None => Ok(Children { children: self.children.into_iter().peekable() }),
        }
    }

    /// The text of an element that has nothing else.
    pub(super) fn value(self) -> Result<String, XmlError> {
        match (self.attribute, self.children.first()) {
            (Some((name, _)), _) => Err(XmlError::Unexpected { element: format!("{}@{name}", self.name) }),
            (_, Some(child)) => Err(XmlError::Unexpected { element: child.name.clone() }),
            _ => Ok(self.text.trim().to_owned()),
        }
    }
}

impl Children {
    pub(super) fn optional(&mut self, name: &str) -> Option<Element> {
        self.children.next_if(|child| child.name == name)
    }

    pub(super) fn element(&mut self, name: &'static str) -> Result<Element, XmlError> {
        let found = self.children.peek().map_or_else(|| "nothing".into(), |child| child.name.clone());
        self.optional(name).ok_or(XmlError::Missing { element: name, found })
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<String, XmlError> {
        self.element(name)?.value()
    }

    pub(super) fn parsed<T: std::str::FromStr>(&mut self, name: &'static str) -> Result<T, XmlError>
    where
        T::Err: std::fmt::Display,
    {
        self.text(name)?
            .parse()
            .map_err(|why: T::Err| XmlError::Value { element: name, why: why.to_string() })
    }

    pub(super) fn end(mut self) -> Result<(), XmlError> {
        match self.children.next() {
            Some(child) => Err(XmlError::Unexpected { element: child.name }),
            None => Ok(()),
        }
    }
}
