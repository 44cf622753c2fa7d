//! How speed is measured: the engine against bare loops that do no more than they must, in one run on one machine.
//!
//! | file | what it does |
//! | --- | --- |
//! | `bare` | the two loops that the engine is held against |
//! | `contest` | one run of a loop or of the engine, timed from outside |
//! | `cost` | what a process takes of the machine |
//! | `gaps` | how long each of many lanes goes without a delivery |
//! | `lanes` | thousands of lanes: idle, with a backlog, and after a crash of nats-server |
//! | `many` | a thousand subscriptions with modules of their own |
//! | `pipelines` | the pipeline files that the engine is run with |
//! | `prober` | how fast JetStream answers its API meanwhile |
//! | `server` | the HTTP server of both endpoints |
//! | `sink` | takes webhooks as fast as it can and notes when |
//! | `spinner` | what others keep beside a guest that spins on every event |
//! | `steady` | a steady load, and an endpoint that notes when each event arrives and which module made it |
//! | `table` | medians, and what is printed |
//! | `trouble` | what others keep beside an endpoint that hangs or is slow, and beside retries that wait |
//!
//! The program `measure` puts them together: `ratios` is the table of ratios, `swaps` measures what exchanging a module costs, `many` prints start-up times
//! and memory, `hostile` what strangers' modules do to the others, `trouble` what broken endpoints do. Each contender is a
//! process of its own, so that none shares a runtime with the sink, and each is timed by what arrives, not by what it says.

pub mod bare;
pub mod contest;
pub mod cost;
pub mod gaps;
pub mod lanes;
pub mod many;
pub mod pipelines;
pub mod prober;
pub mod server;
pub mod sink;
pub mod spinner;
pub mod steady;
pub mod table;
pub mod trouble;
