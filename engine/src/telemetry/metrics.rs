//! Every metric, declared once, with unit and help.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

/// Renders what was counted.
pub use metrics_exporter_prometheus::PrometheusHandle as Handle;

/// Messages taken from a source, `{pipeline}`.
pub const EVENTS_RECEIVED: &str = "hookmill_events_received_total";
/// Messages dead-lettered for the pipeline as a whole, `{pipeline,reason}`.
pub const EVENTS_REJECTED: &str = "hookmill_events_rejected_total";
/// Events that no subscription wanted, `{pipeline}`.
pub const EVENTS_UNMATCHED: &str = "hookmill_events_unmatched_total";
/// Breaches that the tolerant reading mended, `{pipeline,mend}`.
pub const EVENTS_MENDED: &str = "hookmill_events_mended_total";
/// Events that came with the source and id of an earlier one and other content, under `webhook_id = "event"`, `{pipeline}`.
pub const EVENTS_ID_REUSED: &str = "hookmill_events_id_reused_total";
/// Events that `match` could not judge, because their data can't be read, `{pipeline,subscription}`.
pub const UNJUDGED: &str = "hookmill_match_unjudged_total";
/// Ends, `{pipeline,subscription,outcome}`.
pub const DELIVERIES: &str = "hookmill_deliveries_total";
/// Attempts, `{pipeline,subscription,result}`.
pub const DELIVERY_ATTEMPTS: &str = "hookmill_delivery_attempts_total";
/// Length of an attempt, `{pipeline,subscription}`.
pub const DELIVERY_DURATION: &str = "hookmill_delivery_duration_seconds";
/// Age of an event when it is delivered, `{pipeline,subscription}`: from its own `time`, else (none, or one in the future) from
/// when it was stored.
pub const EVENT_AGE: &str = "hookmill_event_age_seconds";
/// Length of one call of a step, its instance included, `{pipeline,subscription,step}` (from 0).
pub const STEP_DURATION: &str = "hookmill_step_duration_seconds";
/// Failed steps, `{pipeline,subscription,step,kind}`.
pub const STEP_FAILURES: &str = "hookmill_step_failures_total";
/// Modules that took, or did not take, a running one's place, `{pipeline,subscription,step,result}`: `swapped`, or why not:
/// `unresolved`, `unreadable`, `invalid`, `sample`, `refused`.
pub const MODULE_SWAPS: &str = "hookmill_module_swaps_total";
/// Tasks in a lane, `{pipeline,subscription}`.
pub const LANE_BACKLOG: &str = "hookmill_lane_backlog";
/// 0 direct, 1 spilling, 2 open, 3 paused, 4 disabled, 5 unreadable, 6 misconfigured, `{pipeline,subscription}`.
pub const LANE_STATE: &str = "hookmill_lane_state";
/// Messages held by this engine.
pub const IN_FLIGHT: &str = "hookmill_in_flight";
/// Tasks that wait for their next attempt.
pub const WAITING: &str = "hookmill_waiting";
/// Messages in the dead-letter stream.
pub const DEAD_LETTERS: &str = "hookmill_dead_letters";
/// Messages that are held because their dead letter can't be stored in any form, `{pipeline}`.
pub const UNSTORABLE: &str = "hookmill_unstorable";
/// How far the server's clock is ahead of this machine's, in seconds.
pub const CLOCK_OFFSET: &str = "hookmill_clock_offset_seconds";
/// Standing parts of the engine that failed (a panic) and were started again, `{loop}`.
pub const LOOP_RESTARTS: &str = "hookmill_loop_restarts_total";
/// 1 for the file of a pipeline that this engine has loaded, 0 for those that it had before, `{pipeline,revision}`.
pub const CONFIG_INFO: &str = "hookmill_config_info";
/// Times that the files were loaded again, `{result}`: `ok`, or `refused` for those that changed nothing.
pub const CONFIG_RELOADS: &str = "hookmill_config_reloads_total";

/// Age of the oldest dead letter, in seconds; it is removed at 30 days.
pub const DEAD_LETTERS_OLDEST: &str = "hookmill_dead_letters_oldest_seconds";

/// Buckets of durations, in seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

/// Installs the recorder for this process; the handle renders the Prometheus text format. Once only.
pub fn install() -> Handle {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .expect("there are buckets");
    let handle =
        builder.install_recorder().unwrap_or_else(|_| PrometheusBuilder::new().build_recorder().handle());
    describe();
    handle
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(EVENTS_RECEIVED, "messages taken from a source stream");
    describe_counter!(EVENTS_REJECTED, "messages dead-lettered for the pipeline as a whole");
    describe_counter!(EVENTS_UNMATCHED, "events that no subscription wanted");
    describe_counter!(EVENTS_MENDED, "breaches of publishers that the tolerant reading mended");
    describe_counter!(EVENTS_ID_REUSED, "events with the source and id of an earlier one and other content");
    describe_counter!(UNJUDGED, "events that match could not judge");
    describe_counter!(DELIVERIES, "ends of tasks: delivered, filtered, dead_lettered");
    describe_counter!(DELIVERY_ATTEMPTS, "attempts at tasks");
    describe_histogram!(DELIVERY_DURATION, metrics::Unit::Seconds, "length of an attempt");
    describe_histogram!(
        EVENT_AGE,
        metrics::Unit::Seconds,
        "age of an event when it is delivered, from its own time, else from when it was stored"
    );
    describe_histogram!(STEP_DURATION, metrics::Unit::Seconds, "length of one call of a step");
    describe_counter!(STEP_FAILURES, "steps that failed");
    describe_counter!(MODULE_SWAPS, "modules that took, or did not take, a running one's place");
    describe_gauge!(CONFIG_INFO, "1 for the loaded file of a pipeline, 0 for earlier ones");
    describe_gauge!(
        CLOCK_OFFSET,
        metrics::Unit::Seconds,
        "how far the server's clock is ahead of this machine's"
    );
    describe_counter!(
        LOOP_RESTARTS,
        "standing parts of the engine that failed (a panic) and were started again"
    );
    describe_counter!(CONFIG_RELOADS, "times that the files were loaded again: ok, refused");
    describe_gauge!(LANE_BACKLOG, "tasks in a lane");
    describe_gauge!(
        LANE_STATE,
        "0 direct, 1 spilling, 2 open, 3 paused, 4 disabled, 5 unreadable, 6 misconfigured"
    );
    describe_gauge!(IN_FLIGHT, "messages held by this engine");
    describe_gauge!(WAITING, "tasks that wait for their next attempt");
    describe_gauge!(DEAD_LETTERS_OLDEST, metrics::Unit::Seconds, "age of the oldest dead letter");
    describe_gauge!(DEAD_LETTERS, "messages in the dead-letter stream");
    describe_gauge!(UNSTORABLE, "messages held because their dead letter can't be stored in any form");
}
