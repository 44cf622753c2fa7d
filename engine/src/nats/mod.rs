//! Everything that talks to NATS. The only place that names its client.
