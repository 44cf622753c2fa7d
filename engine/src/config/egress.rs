//! The settings of `[egress]`, and the entries of `allow` and `deny`, which subscriptions have too.

use serde_json::{Value as Json, json};

use super::checked::Egress;
use super::kinds::{Choice, FilePath, Flag, List, quoted};
use super::report::Code;
use super::setting::Absent::{Default, Nothing};
use super::setting::{About, Context, Found, Kind, Reported, Section, Setting, Table};
use super::values::{Secret, TextOrReference};
use crate::egress::{Policy, Proxy, Rule, TlsVersion};

pub(super) static EGRESS: Section = Section {
    header: "[egress]",
    label: "egress",
    about: "What deliveries may reach. Loopback, private, link-local and metadata networks are refused unless `allow` \
            here, or of a subscription, names them. [Delivery](delivery.md#which-addresses-may-be-reached) has the rules.",
    keys: &[&ALLOW, &DENY, &CA, &SYSTEM_ROOTS, &TLS_MIN, &PROXY, &PROXY_USER, &PROXY_PASSWORD],
};

static ALLOW: Setting<List<Entry>> = Setting::new(
    "allow",
    List { item: Entry::Allow, max: 1000 },
    Default("[]"),
    "What every endpoint may reach, beside the `allow` of its subscription.",
);
static DENY: Setting<List<Entry>> = Setting::new(
    "deny",
    List { item: Entry::Deny, max: 1000 },
    Default("[]"),
    "What no endpoint reaches, whatever allows it.",
);
static CA: Setting<FilePath> = Setting::new(
    "ca",
    FilePath,
    Nothing("none"),
    "Certificates (PEM) of authorities that are trusted beside the system's. Read at start.",
);
static SYSTEM_ROOTS: Setting<Flag> = Setting::new(
    "system_roots",
    Flag,
    Default("true"),
    "Whether the system's authorities are trusted. `false` needs `ca`: then its authorities are trusted alone.",
);
static TLS_MIN: Setting<Choice<TlsVersion>> = Setting::new(
    "tls_min",
    Choice(&[("1.2", TlsVersion::Tls12), ("1.3", TlsVersion::Tls13)]),
    Default("\"1.2\""),
    "The oldest version of TLS that is spoken.",
);
static PROXY: Setting<ProxyUrl> = Setting::new(
    "proxy",
    ProxyUrl,
    Nothing("deliveries connect directly"),
    "A forward proxy for all deliveries. It resolves the names of endpoints: then only literal addresses can be refused here.",
);
static PROXY_USER: Setting<TextOrReference> = Setting::new(
    "proxy_user",
    TextOrReference,
    Nothing("none"),
    "Needs `proxy` and `proxy_password`. A file is read again when it has changed.",
);
static PROXY_PASSWORD: Setting<Secret> = Setting::new(
    "proxy_password",
    Secret,
    Nothing("none"),
    "Needs `proxy_user`. A file is read again when it has changed.",
);

/// Reads the table. `None` after a problem was reported.
pub(super) fn read(table: &Table<'_>) -> Option<Egress> {
    let allow = table.get(&ALLOW);
    let deny = table.get(&DENY);
    let ca = table.optional(&CA).ok();
    let system_roots = table.get(&SYSTEM_ROOTS);
    let tls_min = table.get(&TLS_MIN);
    let proxy = proxy(table);
    if let (Some(false), None, Some(at)) = (system_roots, table.given(&CA), table.given(&SYSTEM_ROOTS)) {
        let hint = "name the authorities that are trusted instead: ca = \"ca.pem\"";
        table.context(SYSTEM_ROOTS.key()).wrong(Code::Conflict, &at, "is false and there is no ca", hint);
    }
    Some(Egress {
        policy: Policy { allow: allow?, deny: deny? },
        ca: ca?,
        system_roots: system_roots?,
        tls_min: tls_min?,
        proxy: proxy.ok()?,
    })
}

/// The proxy with its credentials, if one is named.
fn proxy(table: &Table<'_>) -> Result<Option<Proxy>, Reported> {
    let proxy = table.optional(&PROXY);
    let user = table.optional(&PROXY_USER);
    let password = table.optional(&PROXY_PASSWORD);
    table.both(&PROXY_USER, &PROXY_PASSWORD);
    if let (None, Some(at)) = (table.given(&PROXY), table.given(&PROXY_USER)) {
        let hint = "name the proxy that it is for, or leave it out";
        table.context(PROXY_USER.key()).wrong(Code::Conflict, &at, "stands without proxy", hint);
    }
    let credentials = user?.zip(password?);
    Ok(proxy?.map(|proxy| Proxy { credentials, ..proxy }))
}

/// A forward proxy.
struct ProxyUrl;

impl Kind for ProxyUrl {
    type Value = Proxy;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Proxy> {
        let proxy = Proxy::parse(context.text(found, self.describe())?);
        // The text itself is not shown: it may hold a password.
        if let Err(error) = &proxy {
            let said = format!("can't be used: {error}");
            context.wrong(Code::BadUrl, &found.span(), said, self.describe());
        }
        proxy.ok()
    }

    fn describe(&self) -> String {
        "a URL such as \"http://proxy.example.com:3128\", without user and password (proxy_user, proxy_password)".to_owned()
    }

    fn schema(&self) -> Json {
        json!({ "type": "string", "pattern": r"^[hH][tT][tT][pP]://[^/?#@\s\\]+/?(#[^\s\\]*)?$" })
    }
}

/// An entry of `allow` or `deny`.
pub(super) enum Entry {
    Allow,
    Deny,
}

impl Kind for Entry {
    type Value = Rule;

    fn read(&self, context: &Context<'_>, found: &Found<'_>) -> Option<Rule> {
        let text = context.text(found, self.describe())?;
        let rule = match self {
            Self::Allow => Rule::allowing(text),
            Self::Deny => text.parse(),
        };
        if let Err(error) = &rule {
            let said = format!("has {}, {error}", quoted(text));
            context.wrong(Code::BadCidr, &found.span(), said, self.describe());
        }
        rule.ok()
    }

    fn describe(&self) -> String {
        let alone = match self {
            Self::Allow => "",
            Self::Deny => ", or a port alone (\":25\")",
        };
        format!(
            "an address or a range (\"10.1.0.0/16\") or a host (\"hooks.example.com\", \"*.example.com\"), with or without a \
             port (\"10.1.0.0/16:8443\", \"[::1]:80\"){alone}"
        )
    }

    fn schema(&self) -> Json {
        let net = r"[0-9a-fA-F.:]+(/[0-9]{1,3})?";
        let named = format!(r"(\[{net}\]|{net}|(\*\.)?[^\s/:*\[\]@%?#\\]+)(:[0-9]{{1,5}})?");
        let pattern = match self {
            Self::Allow => format!("^{named}$"),
            Self::Deny => format!("^({named}|:[0-9]{{1,5}})$"),
        };
        json!({ "type": "string", "pattern": pattern })
    }
}
