//! What a caller or a callee does, step by step, as sipp reads it.

use std::fmt::Write as _;
use std::time::Duration;

/// What an offer or an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// No description at all.
    None,
    /// Sound and picture.
    AudioVideo,
    /// Sound; the picture is switched off.
    Audio,
    /// Sound and picture on hold.
    Hold,
    /// Floor control alone.
    Control,
}

impl Media {
    fn lines(self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::AudioVideo => {
                "m=audio 6000 RTP/AVP 0\na=rtpmap:0 PCMU/8000\nm=video 6002 RTP/AVP 96\na=rtpmap:96 H264/90000"
            }
            Self::Audio => "m=audio 6000 RTP/AVP 0\na=rtpmap:0 PCMU/8000\nm=video 0 RTP/AVP 96",
            Self::Hold => "m=audio 6000 RTP/AVP 0\na=sendonly\nm=video 6002 RTP/AVP 96\na=inactive",
            Self::Control => "m=application 6004 TCP/BFCP *\na=floorctrl:c-only",
        })
    }
}

/// Steps of one call.
#[derive(Debug, Clone)]
pub struct Scenario {
    steps: String,
    /// CSeq of the last request.
    cseq: u32,
    /// CSeq of the last INVITE.
    invited: u32,
    user: String,
}

/// A request of the caller's, up to its body.
fn request(line: &str, via: &str, from_user: &str, to_more: &str, cseq: &str, more: &str) -> String {
    format!(
        "{line}\nVia: {via}\nFrom: <sip:{from_user}@127.0.0.1>;tag=a[call_number]\n\
         To: <sip:[service]@127.0.0.1>{to_more}\nCall-ID: [call_id]\nCSeq: {cseq}\n\
         Contact: <sip:{from_user}@[local_ip]:[local_port]>\nMax-Forwards: 70\n{more}"
    )
}

const VIA: &str = "SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]";

impl Scenario {
    /// A call by `user`.
    #[must_use]
    pub fn by(user: &str) -> Self {
        Self { steps: String::new(), cseq: 0, invited: 0, user: user.to_owned() }
    }

    fn message(mut self, text: &str, media: Media, retransmitted: bool) -> Self {
        let again = if retransmitted { " retrans=\"500\"" } else { "" };
        let body = media.lines().map_or_else(
            || "Content-Length: 0\n\n".to_owned(),
            |lines| {
                format!(
                    "Content-Type: application/sdp\nContent-Length: [len]\n\nv=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\n\
                     c=IN IP4 127.0.0.1\nt=0 0\n{lines}\n"
                )
            },
        );
        let _ = writeln!(self.steps, "<send{again}><![CDATA[\n\n{text}{body}\n]]></send>");
        self
    }

    fn step(mut self, text: &str) -> Self {
        let _ = writeln!(self.steps, "{text}");
        self
    }

    /// Calls.
    #[must_use]
    pub fn invites(self, media: Media) -> Self {
        self.invites_with(media, "")
    }

    /// Calls, with a further header.
    #[must_use]
    pub fn invites_with(mut self, media: Media, header: &str) -> Self {
        self.cseq += 1;
        self.invited = self.cseq;
        let line = "INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0";
        let cseq = format!("{} INVITE", self.cseq);
        let text = request(line, VIA, &self.user, "", &cseq, header);
        self.message(&text, media, true)
    }

    /// Offers other media within the call.
    #[must_use]
    pub fn offers(self, media: Media) -> Self {
        self.within("INVITE", media, "", true)
    }

    fn within(mut self, method: &str, media: Media, header: &str, retransmitted: bool) -> Self {
        if method != "ACK" {
            self.cseq += 1;
        }
        if method == "INVITE" {
            self.invited = self.cseq;
        }
        let line = format!("{method} [next_url] SIP/2.0");
        let number = if method == "ACK" { self.invited } else { self.cseq };
        let cseq = format!("{number} {method}");
        let text = request(&line, VIA, &self.user, "[peer_tag_param]", &cseq, &format!("[routes]\n{header}"));
        self.message(&text, media, retransmitted)
    }

    /// Acknowledges the answer of a call that goes on.
    #[must_use]
    pub fn acknowledges(self) -> Self {
        self.within("ACK", Media::None, "", false)
    }

    /// Hangs up.
    #[must_use]
    pub fn hangs_up(self) -> Self {
        self.within("BYE", Media::None, "", true).expects(200)
    }

    /// Asks the other side to call somebody else.
    #[must_use]
    pub fn refers_to(self, uri: &str) -> Self {
        let header = format!("Refer-To: <{uri}>\n");
        self.within("REFER", Media::None, &header, true).expects(202)
    }

    /// Hangs up before the answer.
    #[must_use]
    pub fn cancels(self) -> Self {
        // Which of the two comes first is not said.
        self.sends_cancel().step("<recv response=\"200\" optional=\"true\"/>").refused_with(487)
    }

    /// Hangs up before it even rings: a proxy that is still deciding ends the call first.
    #[must_use]
    pub fn cancels_early(self) -> Self {
        self.sends_cancel().refused_with(487).expects(200)
    }

    fn sends_cancel(self) -> Self {
        let text = format!(
            "CANCEL sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n[last_Via:]\n\
             From: <sip:{}@127.0.0.1>;tag=a[call_number]\nTo: <sip:[service]@127.0.0.1>\n\
             Call-ID: [call_id]\nCSeq: {} CANCEL\nMax-Forwards: 70\n",
            self.user, self.invited
        );
        self.message(&text, Media::None, true)
    }

    /// Is refused, and acknowledges that.
    #[must_use]
    pub fn refused_with(self, code: u16) -> Self {
        self.refused_saying(code, &[])
    }

    /// Is refused with headers that match these expressions.
    #[must_use]
    pub fn refused_saying(self, code: u16, headers: &[(&str, &str)]) -> Self {
        let checks: String = headers
            .iter()
            .enumerate()
            .map(|(n, (header, expression))| {
                format!(
                    "<ereg regexp=\"{expression}\" search_in=\"hdr\" header=\"{header}:\" check_it=\"true\" \
                     assign_to=\"{}\"/>",
                    n + 1
                )
            })
            .collect();
        let used: Vec<_> = (1..=headers.len()).map(|n| n.to_string()).collect();
        let cseq = self.invited;
        let action = if checks.is_empty() { String::new() } else { format!("<action>{checks}</action>") };
        let mut scenario = self
            .step("<recv response=\"100\" optional=\"true\"/>")
            .step(&format!("<recv response=\"{code}\">{action}</recv>"));
        if !used.is_empty() {
            scenario = scenario.step(&format!("<Reference variables=\"{}\"/>", used.join(",")));
        }
        let text = format!(
            "ACK sip:[service]@[remote_ip]:[remote_port] SIP/2.0\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n\
             CSeq: {cseq} ACK\nMax-Forwards: 70\n"
        );
        scenario.message(&text, Media::None, false)
    }

    /// Asks whether anybody is there.
    #[must_use]
    pub fn asks_for_options(mut self) -> Self {
        self.cseq += 1;
        let line = "OPTIONS sip:[remote_ip]:[remote_port] SIP/2.0";
        let text = request(line, VIA, &self.user, "", &format!("{} OPTIONS", self.cseq), "");
        self.message(&text, Media::None, true).expects(200)
    }

    /// Hears that it rings.
    #[must_use]
    pub fn rings(self) -> Self {
        self.step("<recv response=\"100\" optional=\"true\"/>").expects(180)
    }

    /// Hears an answer to an INVITE within the call and acknowledges it.
    #[must_use]
    pub fn answered_again(self) -> Self {
        self.step("<recv response=\"100\" optional=\"true\"/>").expects(200).acknowledges()
    }

    /// Hears the answer after it rang and acknowledges it.
    #[must_use]
    pub fn answers_come(self) -> Self {
        self.step("<recv response=\"200\" rrs=\"true\"/>").acknowledges()
    }

    /// Hears an answer to its INVITE and acknowledges it.
    #[must_use]
    pub fn answered(self) -> Self {
        self.step("<recv response=\"100\" optional=\"true\"/>")
            .step("<recv response=\"180\" optional=\"true\"/>")
            .step("<recv response=\"200\" rrs=\"true\"/>")
            .acknowledges()
    }

    /// Hears this answer.
    #[must_use]
    pub fn expects(self, code: u16) -> Self {
        self.step(&format!("<recv response=\"{code}\"/>"))
    }

    /// Does nothing for a while.
    #[must_use]
    pub fn waits(self, span: Duration) -> Self {
        self.step(&format!("<pause milliseconds=\"{}\"/>", span.as_millis()))
    }

    /// Hears that it rings, and goes to a mark with this chance, from 0 to 1.
    #[must_use]
    pub fn rings_or_goes_to(self, chance: f64, mark: u32) -> Self {
        self.step("<recv response=\"100\" optional=\"true\"/>")
            .step(&format!("<recv response=\"180\" next=\"{mark}\" chance=\"{chance}\"/>"))
    }

    /// Goes to a mark.
    #[must_use]
    pub fn goes_to(self, mark: u32) -> Self {
        self.step(&format!("<nop next=\"{mark}\"/>"))
    }

    /// A place to go to.
    #[must_use]
    pub fn mark(self, mark: u32) -> Self {
        self.step(&format!("<label id=\"{mark}\"/>"))
    }

    /// What this one does, and then what the other does.
    #[must_use]
    pub fn then(self, other: &Self) -> Self {
        self.step(&other.steps)
    }

    // What a callee does.

    /// Is called.
    #[must_use]
    pub fn is_called(self) -> Self {
        self.step("<recv request=\"INVITE\" rrs=\"true\"/>")
    }

    /// Hears a request.
    #[must_use]
    pub fn hears(self, method: &str) -> Self {
        self.step(&format!("<recv request=\"{method}\"/>"))
    }

    /// Hears a request and goes to a mark, or does not and goes on.
    #[must_use]
    pub fn may_hear(self, method: &str, mark: u32) -> Self {
        self.step(&format!("<recv request=\"{method}\" optional=\"true\" next=\"{mark}\"/>"))
    }

    /// Answers the last request.
    #[must_use]
    pub fn says(self, line: &str, media: Media) -> Self {
        let text = format!(
            "SIP/2.0 {line}\n[last_Via:]\n[last_Record-Route:]\n[last_From:]\n[last_To:];tag=b[call_number]\n\
             [last_Call-ID:]\n[last_CSeq:]\nContact: <sip:callee@[local_ip]:[local_port]>\n"
        );
        // What ends an INVITE is repeated until it is acknowledged.
        self.message(&text, media, !line.starts_with('1'))
    }

    /// Answers the last request, which came within the call.
    #[must_use]
    pub fn says_within(self, line: &str, media: Media) -> Self {
        let text = format!(
            "SIP/2.0 {line}\n[last_Via:]\n[last_Record-Route:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n\
             Contact: <sip:callee@[local_ip]:[local_port]>\n"
        );
        self.message(&text, media, false)
    }

    /// Is hung up on.
    #[must_use]
    pub fn is_hung_up_on(self) -> Self {
        self.hears("BYE").says_within("200 OK", Media::None)
    }

    /// Rings for a while and talks, unless the caller hangs up before. Uses the marks 1 and 2.
    #[must_use]
    pub fn rings_and_talks(self, after: Duration, media: Media) -> Self {
        let rings = after.as_millis();
        // What ends the INVITE goes back the way that came, whatever was heard since: two hops.
        let hop = |n| {
            format!(
                "<ereg regexp=\".*\" search_in=\"hdr\" header=\"Via:\" occurrence=\"{n}\" assign_to=\"{n}\"/>"
            )
        };
        self.step(&format!("<recv request=\"INVITE\" rrs=\"true\"><action>{}{}</action></recv>", hop(1), hop(2)))
            .says("180 Ringing", Media::None)
            .step(&format!("<recv request=\"CANCEL\" timeout=\"{rings}\" ontimeout=\"1\"/>"))
            .says_within("200 OK", Media::None)
            .step(
                "<send retrans=\"500\"><![CDATA[\n\nSIP/2.0 487 Request Terminated\nVia:[$1]\nVia:[$2]\n[last_From:]\n\
                 [last_To:];tag=b[call_number]\n[last_Call-ID:]\nCSeq: 1 INVITE\nContent-Length: 0\n\n]]></send>",
            )
            .hears("ACK")
            .goes_to(2)
            .mark(1)
            .says("200 OK", media)
            .hears("ACK")
            .is_hung_up_on()
            .mark(2)
    }

    /// The same with another tag of the caller's.
    #[must_use]
    pub fn tagged(mut self, tag: &str) -> Self {
        self.steps = self.steps.replace("tag=a[call_number]", &format!("tag={tag}[call_number]"));
        self
    }

    /// The file that sipp reads.
    #[must_use]
    pub fn xml(&self) -> String {
        format!("<?xml version=\"1.0\"?>\n<scenario name=\"{}\">\n{}</scenario>\n", self.user, self.steps)
    }
}
