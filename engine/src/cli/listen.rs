//! `hookmill listen`: a local receiver that verifies and shows webhooks.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::args::{Global, ListenArgs};
use super::run::Signals;
use super::{Failure, output};
use crate::deliver::signature::Key;
use crate::server::receiver::{Received, Receiver, Settings, Signature};

/// How long requests that have come may take to be answered at the end.
const ANSWER_MAX: Duration = Duration::from_secs(1);

pub(crate) async fn listen(global: &Global, args: ListenArgs) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::failed(&error))?;
    let mut keys = Vec::new();
    for secret in &args.secret {
        keys.push(Key::parse(secret).map_err(|error| Failure::Usage(format!("--secret: {error}")))?);
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let settings = Settings { address, keys, status: args.status, fail: args.fail };
    let (receiver, mut received) = Receiver::bind(settings).await.map_err(|error| Failure::failed(&error))?;
    output::say(format_args!("listening on http://{}; stop with Ctrl-C", receiver.address()));
    let stop = CancellationToken::new();
    let serve = receiver.serve(stop.clone());
    tokio::pin!(serve);
    loop {
        tokio::select! {
            one = received.recv() => if let Some(one) = one {
                show(global, &one);
                // To show is what it is for.
                if output::is_lost() {
                    break;
                }
            },
            () = &mut serve => return Ok(()),
            () = signals.next() => break,
        }
    }
    // What is shown may not be answered yet, what is answered may not be shown yet.
    stop.cancel();
    let _ = tokio::time::timeout(ANSWER_MAX, serve).await;
    while let Ok(one) = received.try_recv() {
        show(global, &one);
    }
    Ok(())
}

fn show(global: &Global, one: &Received) {
    output::line(if global.json { as_json(one).to_string() } else { line(one) });
}

fn as_json(one: &Received) -> serde_json::Value {
    json!({
        "time": one.at.to_string(), "webhook_id": one.id, "event_id": one.event_id, "event_type": one.event_type,
        "path": one.path, "times": one.times, "status": one.status.as_u16(), "signature": said(one.signature),
    })
}

/// What is said of a signature.
pub(crate) fn said(signature: Signature) -> String {
    match signature {
        Signature::Verified => "verified".to_owned(),
        Signature::NotChecked => "not checked".to_owned(),
        Signature::Refused(error) => format!("refused: {error}"),
    }
}

fn line(one: &Received) -> String {
    let Received { at, event_id, event_type, path, times, status, signature, .. } = one;
    let (status, signature) = (status.as_u16(), said(*signature));
    format!(
        "{at}  {path}  {event_type}  {event_id}  attempt {times}  answered {status}  signature {signature}"
    )
}
