//! The pipeline files that the engine is run with.

use hookmill_tests::{PipelineFolder, events};

use crate::bare::IN_FLIGHT;

/// Messages that the engine holds at once: those on their way and as many behind them, so that nobody waits for the next.
const HELD: usize = 2 * IN_FLIGHT;

/// The variable that holds the signing secret.
pub const SECRET_VARIABLE: &str = "HOOKMILL_BENCH_SECRET";
/// The secret.
pub const SECRET: &str = "whsec_aG9va21pbGwgYmVuY2htYXJrIHNlY3JldCAzMiBi";

/// What the orders have to fulfil: as much as the example's schema asks for.
pub const SCHEMA: &str = r##"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["order", "total", "items"],
  "properties": {
    "order": { "type": "string", "pattern": "^ord_[A-Za-z0-9]+$" },
    "total": { "type": "number", "minimum": 0 },
    "currency": { "$ref": "#/$defs/currency" },
    "customer": { "type": "object", "properties": { "email": { "type": "string", "minLength": 3 } } },
    "card": {
      "type": "object",
      "required": ["number"],
      "properties": { "number": { "type": "string", "minLength": 12, "maxLength": 19 } }
    },
    "items": {
      "type": "array",
      "minItems": 1,
      "items": {
        "type": "object",
        "required": ["sku", "quantity"],
        "properties": {
          "sku": { "type": "string", "minLength": 1 },
          "quantity": { "type": "integer", "minimum": 1 },
          "unit_price": { "type": "number", "minimum": 0 }
        }
      }
    }
  },
  "$defs": { "currency": { "type": "string", "pattern": "^[A-Z]{3}$" } }
}"##;

/// The settings of the transform, as JSON.
pub const REDACT: &str = r#"{"remove": ["/customer/email"], "mask": ["/card/number"]}"#;

/// Where a pipeline's events go.
#[derive(Clone, Copy, Debug)]
pub enum Target<'t> {
    /// A signed webhook.
    Webhook(&'t str),
    /// A NATS subject.
    Subject(&'t str),
}

/// What a pipeline does on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stages {
    /// Checks each order against [`SCHEMA`].
    pub validate: bool,
    /// Takes an address out and masks a card number.
    pub transform: bool,
    /// Subscriptions beside the one that matches, each for another type.
    pub others: usize,
}

/// A folder with one pipeline called `name` that takes everything from `stream`.
pub fn folder(name: &str, stream: &str, stages: Stages, target: Target<'_>, redact: &[u8]) -> PipelineFolder {
    let ty = events::ORDER_TYPE;
    let mut parts = vec![source(stream)];
    if stages.validate {
        parts.push(format!("[[validate.schema]]\ntypes = [\"{ty}\"]\nfile = \"order.schema.json\"\n"));
    }
    for other in 0..stages.others {
        let (name, ty) = (format!("other-{other}"), format!("com.shop.other.{other}"));
        parts.push(subscription(&name, &ty, false, target));
    }
    parts.push(subscription("orders", ty, stages.transform, target));
    let folder = PipelineFolder::with(name, &parts.join("\n"));
    folder.write("order.schema.json", SCHEMA);
    folder.write("redact.wasm", redact);
    folder
}

/// Where a pipeline takes its events from.
pub fn source(stream: &str) -> String {
    format!("[source]\nstream = \"{stream}\"\nstart = \"all\"\nmax_in_flight = {HELD}\n")
}

/// The step that takes an address out and masks a card number.
pub fn redact_step() -> &'static str {
    r#"
[[subscription.step]]
transform = "./redact.wasm"
settings = { remove = ["/customer/email"], mask = ["/card/number"] }
"#
}

fn subscription(name: &str, ty: &str, transform: bool, target: Target<'_>) -> String {
    let step = if transform { redact_step() } else { "" };
    let target = match target {
        Target::Webhook(url) => format!(
            "[subscription.deliver]\nurl = \"{url}\"\nsign = [{{ env = \"{SECRET_VARIABLE}\" }}]\n\
             allow = [\"127.0.0.0/8\"]"
        ),
        Target::Subject(subject) => format!("[subscription.publish]\nsubject = \"{subject}\""),
    };
    format!(
        "[[subscription]]\nname = \"{name}\"\ntypes = [\"{ty}\"]\n{step}\n{target}\nconcurrency = {IN_FLIGHT}\n"
    )
}
