//! Settings of several subscriptions that can't all be had at once: warnings.

use super::Loaded;
use super::checked::{Pipeline, Target};
use super::report::{Code, Problem};

/// Adds them to what was found: more attempts at once than a subscription gets of what its pipeline takes.
pub(super) fn look(loaded: &mut Loaded) {
    let found = loaded.pipelines.iter().filter_map(too_many).collect::<Vec<_>>();
    loaded.warnings.extend(found);
}

/// One warning a pipeline, at the first subscription that it is true of.
fn too_many(pipeline: &Pipeline) -> Option<Problem> {
    let (room, subscriptions) = (pipeline.source.max_in_flight, pipeline.subscriptions.len());
    let share = (room / 2).max(1);
    let mut wanting = pipeline.subscriptions.iter().filter(|subscription| subscription.concurrency > share);
    let first = wanting.next().filter(|_| subscriptions > 1)?;
    let key = match &first.target {
        Target::Deliver(_) => "deliver.concurrency",
        Target::Publish(_) => "publish.concurrency",
    };
    let others = match wanting.count() {
        0 => String::new(),
        others => format!(" (and of {others} more)"),
    };
    let (line, column) = first.target_places.of("/concurrency").unwrap_or_default();
    let (name, wanted) = (&first.name, first.concurrency);
    let message = format!(
        "{key} of subscription {name}{others} is {wanted}, but of source.max_in_flight = {room} one of {subscriptions} \
         subscriptions gets {share} at most: beyond that its events go through its lane"
    );
    let hint = format!("raise source.max_in_flight to {} or more, or lower {key} to {share}", wanted * 2);
    let file = pipeline.file.display().to_string();
    Some(Problem::new(Code::ShareTooSmall, file, message).at(line, column).key(key).hint(hint).warning())
}

#[cfg(test)]
mod tests {
    use crate::nats::Prefix;

    fn warnings(max_in_flight: usize, subscriptions: &str) -> Vec<String> {
        let text = format!("[source]\nmax_in_flight = {max_in_flight}\n{subscriptions}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("orders.toml"), text).unwrap();
        let loaded = super::super::load(&[folder.path().to_owned()], &Prefix::default());
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        loaded
            .warnings
            .iter()
            .map(|warning| format!("{}:{} {}", warning.line, warning.column, warning.message))
            .collect()
    }

    #[test]
    fn more_attempts_at_once_than_there_is_room_for_are_warned_of() {
        let subscription = |name: &str, more: &str| {
            format!(
                "[[subscription]]\nname = \"{name}\"\n[subscription.deliver]\nurl = \"http://a.example/\"\n{more}"
            )
        };
        let (slow, quick) = (subscription("slow", "concurrency = 200\n"), subscription("quick", ""));
        assert_eq!(warnings(400, &[&*slow, &*quick].concat()), [""; 0]);
        assert_eq!(warnings(64, &slow), [""; 0], "there is no other to leave room to");
        let said = warnings(64, &[slow, quick].concat());
        assert_eq!(
            said,
            [
                "7:15 deliver.concurrency of subscription slow (and of 1 more) is 200, but of source.max_in_flight = 64 one \
              of 2 subscriptions gets 32 at most: beyond that its events go through its lane"
            ]
        );
    }
}
