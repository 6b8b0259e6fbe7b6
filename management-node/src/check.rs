//! The check-up: what can be wrong with licenses, looked at in the order in which people ask, each step
//! with what to do.

use headroom_core::fingerprint::Fingerprint;
use headroom_core::{Feature, Millis, Units};
use headroom_proto::admin as pb;
use management_core::{Installed, LicenseState, Pool};

fn step(step: &str, result: pb::CheckResult, text: impl Into<String>, advice: &str) -> pb::CheckStep {
    pb::CheckStep { step: step.into(), result: result.into(), text: text.into(), advice: advice.into() }
}

fn ok(name: &str, text: impl Into<String>) -> pb::CheckStep {
    step(name, pb::CheckResult::Ok, text, "")
}

/// The steps, `reached` saying whether the licensing server could be.
pub(crate) fn steps(
    state: &Pool,
    licensing: Option<&str>,
    reached: &Result<(), String>,
    at: Millis,
) -> Vec<pb::CheckStep> {
    vec![
        present(state),
        valid(state, at),
        bound(state, at),
        counted(state, at),
        requests(state),
        reachable(state, licensing, reached),
        clock(state, at),
    ]
}

fn in_state(state: &Pool, at: Millis, wanted: &[LicenseState]) -> Vec<String> {
    let its = |installed: &Installed| wanted.contains(&state.license_state(installed, at));
    state.licenses.iter().filter(|(_, installed)| its(installed)).map(|(id, _)| id.to_string()).collect()
}

fn present(state: &Pool) -> pb::CheckStep {
    match state.licenses.len() {
        0 => {
            let advice = "type a key: `license add KEY`; or install a file: `license install FILE`; or try a \
                          product: `license fetch`";
            step("present", pb::CheckResult::Failed, "no license is installed", advice)
        }
        count => ok("present", format!("{count} licenses are installed")),
    }
}

fn valid(state: &Pool, at: Millis) -> pb::CheckStep {
    let over = in_state(state, at, &[LicenseState::Expired]);
    let early = in_state(state, at, &[LicenseState::NotYetValid]);
    let grace = in_state(state, at, &[LicenseState::Grace]);
    if !over.is_empty() {
        let text = format!("expired: {}", over.join(", "));
        return step("valid", pb::CheckResult::Failed, text, "renew them, then `license refresh`");
    }
    if !grace.is_empty() {
        let text = format!("expired, in their days of grace: {}", grace.join(", "));
        return step("valid", pb::CheckResult::Warning, text, "renew them, then `license refresh`");
    }
    if !early.is_empty() {
        let text = format!("not valid yet: {}", early.join(", "));
        return step(
            "valid",
            pb::CheckResult::Warning,
            text,
            "wait for their begin, or look at the machine's clock",
        );
    }
    ok("valid", "every license is within its time")
}

fn bound(state: &Pool, at: Millis) -> pb::CheckStep {
    let Some(here) = &state.fingerprint else {
        return step(
            "bound",
            pb::CheckResult::Failed,
            "this machine is not identified",
            "restart the service",
        );
    };
    let corrupt = |(_, installed): &(_, &headroom_core::Shared<Installed>)| {
        state.license_state(installed, at) == LicenseState::Corrupt
    };
    let Some((id, installed)) = state.licenses.iter().find(corrupt) else {
        return ok("bound", "every license matches this machine");
    };
    let text = format!("{id} is bound to another machine; what differs: {}", differences(installed, here));
    let advice = if installed.activated() {
        "`license repair`; until then `test-mode on` serves for 8 hours"
    } else {
        "have it issued anew for `management-node fingerprint`; until then `test-mode on` serves for 8 hours"
    };
    step("bound", pb::CheckResult::Failed, text, advice)
}

/// What of this machine differs from the one that a license is bound to.
pub(crate) fn differences(installed: &Installed, here: &Fingerprint) -> String {
    let differ = installed.document.fingerprint.differences(here);
    differ.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn counted(state: &Pool, at: Millis) -> pb::CheckStep {
    if state.test_mode.on() {
        let text = "test mode is on: nothing is counted";
        return step("counted", pb::CheckResult::Warning, text, "`test-mode off` when the test is over");
    }
    let pool = state.instant(&Feature::Call, at);
    let text = format!(
        "{} calls in use of {}, overdraft {}, over-commit {}",
        pool.in_use,
        pool.capacity,
        pool.overdraft,
        pool.over_commit()
    );
    if pool.limit() == Units::ZERO {
        let advice = "no license with calls counts now: see the steps above";
        return step("counted", pb::CheckResult::Failed, text, advice);
    }
    if pool.in_use >= pool.limit() {
        let advice = "all units are in use: wait for calls to end, or add licenses";
        return step("counted", pb::CheckResult::Warning, text, advice);
    }
    ok("counted", text)
}

fn requests(state: &Pool) -> pb::CheckStep {
    match state.requests.len() {
        0 => ok("requests", "no request awaits an answer"),
        count => {
            let text = format!("{count} requests await their answers");
            let advice =
                "`license export`, have the file answered, `license complete FILE`; see `license list`";
            step("requests", pb::CheckResult::Warning, text, advice)
        }
    }
}

fn reachable(state: &Pool, licensing: Option<&str>, reached: &Result<(), String>) -> pb::CheckStep {
    let Some(address) = licensing else {
        let text = "no licensing server is configured: requests are carried as files";
        return ok("reachable", text);
    };
    let answered = state.site.answered_at.map_or_else(
        || "it never answered".into(),
        |at| format!("it answered last at {}", crate::output::time(at.0)),
    );
    match reached {
        Ok(()) => ok("reachable", format!("{address} answers; {answered}")),
        Err(why) => {
            let advice = "look at network, firewall (HTTPS to that port), `proxy` and `licensing_authority`; \
                          until then carry requests as files";
            step("reachable", pb::CheckResult::Warning, format!("{address}: {why}; {answered}"), advice)
        }
    }
}

fn clock(state: &Pool, at: Millis) -> pb::CheckStep {
    let apart = state.license_time(at).0 - at.0;
    if apart.abs() <= Millis::MINUTE.0 {
        return ok("clock", "license time is the machine's clock");
    }
    let text = format!("license time is {} minutes apart from the machine's clock", apart / Millis::MINUTE.0);
    let advice = "set the machine's clock; with a right clock, `license refresh` brings license time in line";
    step("clock", pb::CheckResult::Warning, text, advice)
}
