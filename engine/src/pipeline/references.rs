//! What the target of a subscription refers to.

use super::{Subscription, Target};
use crate::model::{Findings, Timestamp};

impl Subscription {
    /// How the references of its target stand.
    pub fn look_at_references(&self, now: Timestamp) -> Findings {
        match &self.target {
            Target::Webhook(endpoint) => endpoint.look_at_references(now),
            // It names a subject, and nothing that stands elsewhere.
            Target::Publish(_) => Findings::default(),
        }
    }

    /// Takes over what an earlier version of it knows of the same references, such as their last good values.
    pub fn take_after(&self, other: &Self) {
        if let (Target::Webhook(endpoint), Target::Webhook(other)) = (&self.target, &other.target) {
            endpoint.take_after(other);
        }
    }
}
