//! Stamps orders with a region and drops test orders. Change it to what you need.

use hookmill_transform::{Event, Failure, Transform, Verdict, export_transform, log};
use serde::Deserialize;

/// What the pipeline file says under `settings`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    region: String,
}

/// The transform.
#[derive(Debug)]
pub struct Stamp {
    region: String,
}

impl Transform for Stamp {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, String> {
        if settings.region.is_empty() {
            return Err("region is empty; give it a name such as \"eu\"".to_owned());
        }
        Ok(Self { region: settings.region })
    }

    fn apply(&mut self, mut event: Event) -> Result<Verdict, Failure> {
        let order: serde_json::Value = event.json()?;
        if order["test"] == true {
            return Ok(Verdict::Drop("a test order".to_owned()));
        }
        log::debug(format!("stamped with {}", self.region));
        event.set_extension("region", self.region.as_str());
        Ok(event.into())
    }
}

export_transform!(Stamp, metadata = "../metadata.json");

#[cfg(test)]
mod tests {
    use hookmill_transform::testing::{configure, take_log};
    use serde_json::json;

    use super::*;

    fn order(data: serde_json::Value) -> Event {
        let mut event = Event::new("1", "/shop", "com.shop.order.created");
        event.set_json(&data).unwrap();
        event
    }

    #[test]
    fn orders_are_stamped_and_test_orders_dropped() {
        let mut stamp: Stamp = configure(json!({"region": "eu"})).unwrap();
        let Ok(Verdict::Replace(output)) = stamp.apply(order(json!({"total": 9}))) else { panic!("a new event") };
        assert_eq!(output.event.extension("region"), Some(&"eu".into()));
        assert_eq!(take_log().len(), 1);
        assert!(matches!(stamp.apply(order(json!({"test": true}))), Ok(Verdict::Drop(_))));
    }

    #[test]
    fn an_empty_region_is_refused() {
        assert!(configure::<Stamp>(json!({"region": ""})).unwrap_err().starts_with("region is empty"));
    }
}
