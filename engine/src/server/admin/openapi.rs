//! The OpenAPI document: what every operation has in common. The rest stands beside the handlers.

use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem, Paths};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, Response};

use super::problem::{self, Document};
use crate::model::Scope;

/// The name of the security scheme.
const TOKEN: &str = "token";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Hookmill admin API",
        description = "Modules, dead letters, lanes and events of a running Hookmill engine.\n\nErrors are problem documents (RFC 9457) with the same stable codes as the command line. Health and metrics share the address: `/healthz`, `/readyz`, `/metrics`."
    ),
    tags(
        (name = "modules", description = "The registry of transforms"),
        (name = "dead letters", description = "What could not be delivered"),
        (name = "lanes", description = "What waits where"),
        (name = "events", description = "Where an event is")
    ),
    components(schemas(Document))
)]
struct Base;

/// The document without paths.
pub(super) fn base() -> OpenApi {
    let mut document = Base::openapi();
    let scopes: Vec<&str> = Scope::ALL.iter().map(|(scope, _)| *scope).collect();
    let scheme = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(format!(
            "The value of a `[[token]]` of `hookmill.toml`. Scopes: {}. Where no token is configured, none is needed, but \
             only clients on the same machine are answered.",
            scopes.join(", ")
        )))
        .build();
    let components = document.components.get_or_insert_default();
    components.security_schemes.insert(TOKEN.to_owned(), SecurityScheme::Http(scheme).into());
    document
}

/// Writes down what a guard may say before the route is asked.
pub(super) fn describe_guard(paths: &mut Paths, scope: Scope) {
    for item in paths.paths.values_mut() {
        for operation in operations(item) {
            operation.security = Some(vec![SecurityRequirement::new(TOKEN, [scope.as_str()])]);
            let needs = format!("Needs the scope `{scope}`.");
            let description = operation.description.take();
            operation.description =
                Some(description.map_or_else(|| needs.clone(), |text| format!("{text}\n\n{needs}")));
            for (status, what) in [
                ("400", "The request can't be understood"),
                ("401", "There is no token, or it isn't known"),
                ("403", "The token lacks a scope, or is for other modules"),
                ("406", "`Accept` doesn't allow the answer"),
                ("429", "Too many requests; `Retry-After` says when to go on"),
                (
                    "503",
                    "NATS is out of reach, or too much is under way; `Retry-After` says when to try again",
                ),
            ] {
                let answers = &mut operation.responses.responses;
                answers.entry(status.to_owned()).or_insert_with(|| problem(what));
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, .. } = item;
    [get, put, post, delete].into_iter().flatten()
}

fn problem(what: &str) -> RefOr<Response> {
    let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    Response::builder().description(what).content(problem::MEDIA_TYPE, content).build().into()
}
