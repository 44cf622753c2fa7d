//! What a module says about itself, which is read before anybody trusts it: in `check`, on upload, by `module show`.
//! Read, or refused with words; and a schema that was read can be asked about settings, whatever it asks for.

use hookmill::transform::metadata;
use hookmill_tests::guest::Guest;
use hookmill_tests::hostile::component;
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::mutate;
use crate::run::{TAKEN, Target};

/// What a section may hold.
const SECTIONS: [&str; 8] = [
    r#"{"description":"Masks","settings":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}}"#,
    r#"{"description":"x","samples":[{"name":"one","event":{"specversion":"1.0","id":"1","source":"/s","type":"t"},"settings":{}}]}"#,
    r#"{"limits":{"timeout":"1s","memory":"64MiB","output":"1MiB"}}"#,
    r##"{"settings":{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}}"##,
    r#"{"settings":{"properties":{"a":{"pattern":"^(a+)+$"},"b":{"pattern":"^(a|aa)+\\1$"}}}}"#,
    r#"{"settings":{"$ref":"https://example.com/schema.json"}}"#,
    r#"{"settings":{"anyOf":[{"type":"array","uniqueItems":true},{"type":"number","multipleOf":1e-300}]}}"#,
    "{}",
];

/// Settings that the schemas are asked about.
const SETTINGS: &str = r#"{"a":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab","b":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab","c":[1,1e300]}"#;

/// The target. An input is a whole module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metadata;

impl Target for Metadata {
    fn name(&self) -> &'static str {
        "metadata"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let modules = [Guest::keep().core(), component::honest(), component::nested(3)];
        let with = |section: &&str| {
            modules
                .iter()
                .map(|module| metadata::embed(module, section.as_bytes()).unwrap_or_default())
                .collect()
        };
        SECTIONS.iter().flat_map::<Vec<_>, _>(with).collect()
    }

    fn next(&self, random: &mut StdRng, corpus: &[Vec<u8>]) -> Vec<u8> {
        let input = mutate::pick(random, corpus);
        let other = mutate::pick(random, corpus);
        let section = SECTIONS[random.random_range(0..SECTIONS.len())].as_bytes();
        let strange = match random.random_range(0..4) {
            0 => mutate::by_section(random, input, other),
            1 | 2 => {
                let changed = mutate::bytes(random, section, other);
                metadata::embed(&component::honest(), &changed).ok()
            }
            _ => None,
        };
        strange.unwrap_or_else(|| mutate::bytes(random, input, other))
    }

    fn take(&self, input: &[u8]) -> Result<String, String> {
        match metadata::read(input) {
            Ok(None) => Ok("no metadata".to_owned()),
            Ok(Some(found)) => {
                let settings =
                    SETTINGS.parse().map_err(|error| format!("the settings are no JSON: {error}"))?;
                // However many there are; a schema that never answers is what is looked for.
                let _ = found.objections(&settings);
                let _ = found.summary();
                Ok(TAKEN.to_owned())
            }
            Err(error) => {
                let text = error.to_string();
                if text.is_empty() || text.len() > 4096 {
                    return Err(format!("a refusal of {} bytes", text.len()));
                }
                Ok(text)
            }
        }
    }
}
