//! How much memory a process takes, as the system sees it. Linux only: elsewhere nobody knows.

use std::fs;

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// The most since it was started or since [`forget_peak`].
    pub peak: u64,
}

/// Of the process alone, without what it started.
pub fn of_process(pid: i32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    };
    Some(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// Of a process and of those that it started, now.
pub fn of_family(pid: i32) -> Option<u64> {
    let own = of_process(pid)?.now;
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let children = tasks.flatten().flat_map(|task| {
        let list = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
    });
    Some(own + children.filter_map(of_family).sum::<u64>())
}

/// The peak starts anew from what it is now.
pub fn forget_peak(pid: i32) {
    // Where that isn't allowed, the peak stays that of the whole run: more than it was, never less.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// `1234567890` as `1177`: mebibytes.
pub fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}
