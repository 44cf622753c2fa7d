//! What a process takes of the machine, where there is a `/proc` that says so.

use std::path::Path;
use std::time::Duration;

/// What a process holds in memory, in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Its own.
    pub anonymous: f64,
    /// Of files: the program and what it maps, which the system can drop and read again.
    pub files: f64,
}

/// CPU time of a process so far.
pub fn cpu(pid: i32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (name) state …": user and system time are fields 14 and 15, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks(14)? + ticks(15)?)))
}

/// What a process holds now.
pub fn held(pid: i32) -> Held {
    let path = Path::new("/proc").join(pid.to_string()).join("status");
    let status = std::fs::read_to_string(path).unwrap_or_default();
    let mebibytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kibibytes.unwrap_or(f64::NAN) / 1024.0
    };
    Held { anonymous: mebibytes("RssAnon:"), files: mebibytes("RssFile:") }
}
