//! The story of a licensed fleet, as golden text.

use std::fmt::Write;

use super::*;

fn line(fixture: &Fixture, out: &mut String, what: &str, verdict: &str) {
    let pool = fixture.pool();
    let over = pool.over_commit();
    let over = if over.is_zero() { String::new() } else { format!(", over-commit {over}") };
    writeln!(out, "{what}: {verdict} [{} of {}{over}]", pool.in_use, pool.capacity).expect("to a string");
}

fn word<T: std::fmt::Debug>(verdict: &Verdict<T>) -> String {
    match verdict {
        Verdict::Granted(_) => "granted".into(),
        Verdict::Denied(reason) => format!("denied {reason}"),
        Verdict::Refused { field, .. } => format!("refused {field}"),
    }
}

#[test]
fn the_story_of_a_licensed_fleet() {
    let mut f = Fixture::with_ten();
    let (mut a, mut b) = (f.node("a"), f.node("b"));
    let mut out = String::new();
    for n in 1..=6 {
        assert!(f.grants(&mut a, one(&format!("a{n}"))));
    }
    for n in 1..=4 {
        assert!(f.grants(&mut b, one(&format!("b{n}"))));
    }
    line(&f, &mut out, "six on a, four on b", "granted");
    for (peer, name) in [(&mut a, "a7"), (&mut b, "b5")] {
        let verdict = f.ask(peer, one(name));
        line(&f, &mut out, "the eleventh", &word(&verdict));
    }
    f.release(&mut a, "a6");
    let verdict = f.ask(&mut b, one("b5"));
    line(&f, &mut out, "one ends, the next", &word(&verdict));
    f.release(&mut b, "b5");
    let verdict = f.ask(&mut a, gateway("g1"));
    line(&f, &mut out, "gateway call with one unit left", &word(&verdict));
    f.release(&mut b, "b4");
    let mut split = gateway("g2");
    split.legs[1].owner = Some(b.name.clone());
    let verdict = f.ask(&mut a, split);
    line(&f, &mut out, "gateway call with two left, legs on a and b", &word(&verdict));
    let verdict = f.ask(&mut b, call("g2", Service::Gateway, vec![leg("g2.out")]));
    line(&f, &mut out, "b claims its leg", &word(&verdict));
    let mut control = one("c1");
    control.legs[0].media = Media::CONTROL_ONLY;
    let verdict = f.ask(&mut a, control);
    line(&f, &mut out, "control only on a full pool", &word(&verdict));
    let verdict = f.update(&mut a, "c1", Media::AUDIO_VIDEO);
    line(&f, &mut out, "it turns video on", &word(&verdict));
    for name in ["x1", "x2", "x3"] {
        f.adopt(&mut b, &one(name));
    }
    line(&f, &mut out, "three legs adopted", "recorded");
    let cause = f.bench.state.usage.get(&Feature::Call).and_then(|usage| usage.over_commit);
    assert_eq!(cause.map(|(cause, _)| cause), Some(OverCommitCause::AdoptedLegs));
    let verdict = f.ask(&mut a, one("a8"));
    line(&f, &mut out, "a new call", &word(&verdict));
    for name in ["x1", "x2", "x3", "b1"] {
        f.release(&mut b, name);
    }
    let verdict = f.ask(&mut a, one("a8"));
    line(&f, &mut out, "back under the limit", &word(&verdict));
    f.restart();
    line(&f, &mut out, "after a restart", "the same");
    f.pass(60);
    f.beat(&b, f.held(&b), Vec::new()).expect("in session");
    f.pass(61);
    line(&f, &mut out, "a silent for the TTL", "its leases lapse");
    let expected = "\
six on a, four on b: granted [10 of 10]
the eleventh: denied insufficient_licenses [10 of 10]
the eleventh: denied insufficient_licenses [10 of 10]
one ends, the next: granted [10 of 10]
gateway call with one unit left: denied insufficient_licenses [9 of 10]
gateway call with two left, legs on a and b: granted [10 of 10]
b claims its leg: granted [10 of 10]
control only on a full pool: granted [10 of 10]
it turns video on: denied insufficient_licenses [10 of 10]
three legs adopted: recorded [13 of 10, over-commit 3]
a new call: denied insufficient_licenses [13 of 10, over-commit 3]
back under the limit: granted [10 of 10]
after a restart: the same [10 of 10]
a silent for the TTL: its leases lapse [3 of 10]
";
    assert_eq!(out, expected);
    assert!(f.bench.state.usage.get(&Feature::Call).is_some_and(|usage| usage.over_commit.is_none()));
    assert_eq!(f.bench.state.usage.get(&Feature::Call).map(|usage| usage.peak), Some(Units(13)));
}
