//! The clocks of this machine, and what tells whether they can be believed.

use std::io;
use std::path::Path;

use headroom_core::time::{Clock, Millis, Now};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Where Linux tells which boot this is.
pub const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// Files that time services leave once they have set the clock.
const SYNCHRONIZED_MARKS: [&str; 1] = ["/run/systemd/timesync/synchronized"];

/// The wall clock and `CLOCK_BOOTTIME`, which goes on while the machine sleeps and never jumps.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Now {
        Now { wall: millis(clock_gettime(ClockId::Realtime)), boot: millis(clock_gettime(ClockId::Boottime)) }
    }
}

fn millis(time: Timespec) -> Millis {
    Millis(time.tv_sec.saturating_mul(1_000).saturating_add(time.tv_nsec / 1_000_000))
}

/// The random identity of this boot, from [`BOOT_ID_PATH`] or, in tests, another file.
///
/// # Errors
/// When the file cannot be read or holds no UUID.
pub fn boot_id(path: &Path) -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string(path)?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let mut id = [0; 16];
    hex::decode_to_slice(digits, &mut id).map_err(|error| {
        let why = format!("{} holds no boot id: {error}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, why)
    })?;
    Ok(id)
}

/// Whether a time service says that it has set the wall clock since boot.
///
/// The kernel's own flag (`adjtimex`) cannot be read without unsafe code, so this looks for the
/// mark that systemd's time service leaves, which other services can be made to leave too. Where
/// none does, the answer is no, and callers fall back to waiting.
#[must_use]
pub fn synchronized() -> bool {
    SYNCHRONIZED_MARKS.iter().any(|mark| Path::new(mark).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_never_goes_back_and_the_wall_clock_is_after_2020() {
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(second.boot >= first.boot);
        assert!(first.wall > Millis(1_577_836_800_000));
    }

    #[test]
    fn a_boot_id_is_read_and_anything_else_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "00112233-4455-6677-8899-aabbccddeeff\n").expect("written");
        let id = boot_id(file.path()).expect("a boot id");
        assert_eq!(hex::encode(id), "00112233445566778899aabbccddeeff");
        for bad in
            ["", "0011", "00112233-4455-6677-8899-aabbccddeeff00", "zz112233-4455-6677-8899-aabbccddeeff"]
        {
            std::fs::write(file.path(), bad).expect("written");
            let error = boot_id(file.path()).expect_err("no boot id");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bad:?}");
        }
    }
}
