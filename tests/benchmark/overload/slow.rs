//! A process that gets only a part of the time, as on a machine that is so much slower.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use headroom_deploy::process::signal;
use rustix::process::{Pid, Signal, setpriority_process};

/// How often the process runs for a part of the time: short beside everything that the lease contract waits
/// for, long beside what the kernel needs to stop a process.
const TURN: Duration = Duration::from_millis(20);

/// Niceness of whoever comes before all others.
const FIRST: i32 = -20;

/// Stops a process for a part of each turn, until it is dropped.
pub(crate) struct Slow {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Slow {
    /// Lets a process run for so many percent of the time.
    pub(crate) fn down(pid: u32, percent: u8) -> Self {
        // In its short time nobody else is to be in its way. Only root may arrange that; without it, what is
        // measured depends more on what else the machine does.
        for thread in threads(pid) {
            let _ = setpriority_process(Some(thread), FIRST);
        }
        let over = Arc::new(AtomicBool::new(false));
        // A thread, because this must go on however busy the tasks here are.
        let thread = std::thread::spawn({
            let (over, runs) = (Arc::clone(&over), TURN * u32::from(percent) / 100);
            move || {
                let _ = setpriority_process(None, FIRST);
                while !over.load(Ordering::Relaxed) {
                    signal(pid, Signal::STOP);
                    std::thread::sleep(TURN.saturating_sub(runs));
                    signal(pid, Signal::CONT);
                    std::thread::sleep(runs);
                }
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It ends with the process running.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The threads of a process.
fn threads(pid: u32) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| task.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok().and_then(Pid::from_raw)).collect()
}
