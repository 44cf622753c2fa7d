//! Runs guest modules in a sandbox.
use crate::model::{Event, Fault, Verdict};
/// Stand-in.
pub struct Step;
impl Step {
    /// Stand-in.
    pub async fn apply(&self, _event: &Event) -> Result<Verdict, Fault> { Ok(Verdict::Keep) }
    /// Stand-in.
    pub fn module_label(&self) -> &str { "" }
}
