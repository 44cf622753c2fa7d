//! The page `docs/pipeline-reference.md`, made from the definitions of the settings.

use std::fmt::Write as _;

use super::keys::PIPELINE;
use super::process::PROCESS;
use super::setting::{Absent, Row, Section};
use super::suite::SUITE;

/// A whole file, to begin with. A test checks it.
pub(super) const SAMPLE: &str = r#"name = "orders"

[source]
stream = "HOOKMILL_EVENTS"
subjects = ["events.shop.>"]

[validate]
unknown = "accept"

[[validate.schema]]
types = ["com.shop.order.*"]
file = "../schemas/events/order.schema.json"

[[subscription]]
name = "warehouse"
types = ["com.shop.order.created"]
match = { required = ["total"], properties = { total = { minimum = 10 } } }

[subscription.deliver]
url = "https://warehouse.example.com/hooks"
headers = { "x-shop" = "eu", authorization = { env = "WAREHOUSE_TOKEN", prefix = "Bearer " } }
sign = [{ env = "WAREHOUSE_SECRET" }]

[subscription.retry]
schedule = ["5s", "5m", "30m"]
give_up_on = [400, 422]

[[subscription]]
name = "analytics"

[subscription.publish]
subject = "analytics.{type}"
"#;

const HEAD: &str = "# The pipeline file

<!-- Generated from engine/src/config. Rewrite it with: HOOKMILL_BLESS=1 cargo test -p hookmill --lib config:: -->

One TOML file is one pipeline. A folder means its `*.toml` files, not those below it, and not `*.test.toml`.
`hookmill check` reports every problem of every file in one run; [errors.md](errors.md) explains the codes. Unknown
keys are errors. Durations (`\"15s\"`) and sizes (`\"64MiB\"`) are strings with units. Paths start at the folder of the
file that they stand in. Values that must not be in a file are named: `{ env = \"NAME\" }` or `{ file = \"path\" }`, each
with an optional `prefix` that is put before the value; both are read at every use.

";

/// The page as Markdown.
pub fn reference_page() -> String {
    let mut page = format!("{HEAD}```toml\n{SAMPLE}```\n\n");
    sections(&mut page, &PIPELINE);
    page.push_str(
        "# The process file\n\n`hookmill.toml` holds what belongs to the process and not to a pipeline. `--config` names another file.\n\n",
    );
    sections(&mut page, &PROCESS);
    page.push_str(
        "# The test file\n\n`orders.test.toml` holds the tests of `orders.toml` beside it; [testing-pipelines.md](testing-pipelines.md) shows how.\n\n",
    );
    sections(&mut page, &SUITE);
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn sections(page: &mut String, root: &'static Section) {
    for section in root.all() {
        if !section.header.is_empty() {
            let _ = writeln!(page, "## `{}`\n", section.header);
        }
        let _ = writeln!(page, "{}\n", section.about);
        table(page, section);
    }
}

fn table(page: &mut String, section: &Section) {
    page.push_str("| key | value | default | meaning |\n| --- | --- | --- | --- |\n");
    for about in section.keys {
        let key = about.key();
        let _ = match about.row() {
            Row::Setting { kind, absent, about, .. } => {
                writeln!(page, "| `{key}` | {} | {} | {about} |", escaped(&kind), default(absent))
            }
            Row::Section { section, .. } => writeln!(page, "| `{key}` | `{}` | | below |", section.header),
            Row::Later(about) => writeln!(page, "| `{key}` | | | *not available in this version: {about}* |"),
        };
    }
    page.push('\n');
}

fn default(absent: Absent) -> String {
    match absent {
        Absent::Missing => "required".to_owned(),
        Absent::Default(text) => format!("`{text}`"),
        Absent::Nothing(meaning) => meaning.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*").replace('>', "\\>").replace('<', "\\<")
}
