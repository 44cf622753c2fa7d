//! The page `/docs`: the OpenAPI document and the codes of problems as HTML. It has no script and fetches nothing.

use std::fmt::Write as _;

use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;

use super::problem::Code;

/// Nothing but this page's own style may be used with it.
pub(super) const HEADERS: [(HeaderName, &str); 3] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;\
background:#fff}code{font:14px ui-monospace,monospace}section{border-top:1px solid #ccc;margin-top:1.5rem}\
table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left;vertical-align:top}\
.method{font-weight:700}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}\
section,td,th{border-color:#555}a{color:#8cf}}";

/// The methods that paths have, in the order in which they are shown.
const METHODS: [&str; 4] = ["get", "put", "post", "delete"];

/// The page.
pub(super) fn render(document: &OpenApi) -> String {
    let document = serde_json::to_value(document).expect("the document is plain data");
    let info = &document["info"];
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title} {version}</h1><p>{about}</p><p>The same for machines: <a href=\"/v1/openapi.json\">\
         <code>/v1/openapi.json</code></a> (OpenAPI {openapi}).</p>",
        title = escaped(text(&info["title"])),
        version = escaped(text(&info["version"])),
        about = prose(text(&info["description"])),
        openapi = escaped(text(&document["openapi"])),
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = text(&tag["name"]);
        let _ = write!(page, "<h2>{}</h2><p>{}</p>", escaped(name), prose(text(&tag["description"])));
        for (path, item) in document["paths"].as_object().into_iter().flatten() {
            for method in METHODS {
                let operation = &item[method];
                if operation["tags"][0] == name {
                    one(&mut page, path, method, operation);
                }
            }
        }
    }
    schemas(&mut page, &document["components"]["schemas"]);
    codes(&mut page);
    page
}

fn one(page: &mut String, path: &str, method: &str, operation: &Value) {
    let _ = write!(
        page,
        "<section><h3><code><span class=\"method\">{}</span> {}</code></h3><p><strong>{}</strong></p><p>{}</p>",
        method.to_ascii_uppercase(),
        escaped(path),
        prose(text(&operation["summary"])),
        prose(text(&operation["description"])),
    );
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        page.push_str("<table><tr><th>parameter<th>in<th>kind<th>meaning</tr>");
        for parameter in parameters {
            let _ = write!(
                page,
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}</tr>",
                escaped(text(&parameter["name"])),
                escaped(text(&parameter["in"])),
                kind(&parameter["schema"]),
                prose(text(&parameter["description"])),
            );
        }
        page.push_str("</table>");
    }
    for (media_type, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        let _ =
            write!(page, "<p>Body: <code>{}</code> {}</p>", escaped(media_type), kind(&content["schema"]));
    }
    page.push_str("<table><tr><th>status<th>body<th>meaning</tr>");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let content = response["content"].as_object().into_iter().flatten().next();
        let body = content.map(|(media_type, content)| {
            format!("<code>{}</code> {}", escaped(media_type), kind(&content["schema"]))
        });
        let meaning = prose(text(&response["description"]));
        let _ = write!(page, "<tr><td>{}<td>{}<td>{meaning}</tr>", escaped(status), body.unwrap_or_default());
    }
    page.push_str("</table></section>");
}

fn schemas(page: &mut String, schemas: &Value) {
    page.push_str("<h2>Bodies</h2>");
    for (name, schema) in schemas.as_object().into_iter().flatten() {
        let name = escaped(name);
        let about = prose(text(&schema["description"]));
        let _ = write!(page, "<section id=\"schema-{name}\"><h3>{name}</h3><p>{about}</p><table>");
        page.push_str("<tr><th>member<th>kind<th>meaning</tr>");
        for (member, schema) in members(schema) {
            let about = prose(text(&schema["description"]));
            let _ =
                write!(page, "<tr><td><code>{}</code><td>{}<td>{about}</tr>", escaped(member), kind(schema));
        }
        for part in schema["allOf"].as_array().into_iter().flatten().filter(|part| part["$ref"].is_string()) {
            let _ = write!(page, "<tr><td>…<td>{}<td>all members of that one as well</tr>", kind(part));
        }
        page.push_str("</table></section>");
    }
}

/// The properties of a schema, those of its parts included.
fn members(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let with_members = std::iter::once(schema).chain(parts);
    with_members.filter_map(|schema| schema["properties"].as_object()).flat_map(Map::iter)
}

/// What kind of value a schema describes, in a few words, with a link to what is described elsewhere.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        let name = escaped(name);
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for of in ["oneOf", "anyOf"] {
        if let Some(any) = schema[of].as_array() {
            return any.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("list of {}", self::kind(&schema["items"])),
        Value::String(kind) => escaped(kind),
        Value::Array(kinds) => {
            escaped(&kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "))
        }
        _ => "any".to_owned(),
    }
}

fn codes(page: &mut String) {
    page.push_str("<h2>Codes of problems</h2><table><tr><th>code<th>title<th>what to know</tr>");
    let of_the_api = |code: &&Code| code.as_str() >= "E200" || **code == Code::ModuleInvalid;
    for code in Code::ALL.iter().filter(of_the_api) {
        let (title, help) = (escaped(code.title()), prose(code.help()));
        let _ = write!(page, "<tr id=\"{code}\"><td>{code}<td>{title}<td>{help}</tr>");
    }
    page.push_str("</table></html>");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text with `code` in it and blank lines between paragraphs.
fn prose(text: &str) -> String {
    let mut html = String::new();
    for (place, part) in escaped(text).split('`').enumerate() {
        let _ = if place % 2 == 1 { write!(html, "<code>{part}</code>") } else { write!(html, "{part}") };
    }
    html.replace("\n\n", "</p><p>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_can_not_become_markup() {
        assert_eq!(prose("a <b> & `c<d>`\n\ne"), "a &lt;b&gt; &amp; <code>c&lt;d&gt;</code></p><p>e");
        assert_eq!(escaped("\"<script>"), "&quot;&lt;script&gt;");
    }
}
