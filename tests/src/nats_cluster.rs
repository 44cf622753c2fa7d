//! Several nats-servers on loopback that are one cluster.

use std::time::Duration;

use crate::nats_server::{NatsOptions, NatsServer, free_port};

/// The servers of a cluster, each running, stopped or not started yet. Dropping it kills them all.
#[derive(Debug)]
pub struct NatsCluster {
    /// Where they meet.
    routes: Vec<u16>,
    servers: Vec<Option<NatsServer>>,
}

impl NatsCluster {
    /// So many servers, none of them started.
    pub fn of(size: usize) -> Self {
        Self { routes: (0..size).map(|_| free_port()).collect(), servers: (0..size).map(|_| None).collect() }
    }

    /// All of them, running and with a leader.
    pub async fn start(size: usize) -> Self {
        let mut cluster = Self::of(size);
        for index in 0..size {
            cluster.launch(index).await;
        }
        cluster
    }

    /// Starts one; returns when it takes connections, whether the cluster has a leader or not.
    pub async fn launch(&mut self, index: usize) {
        match &mut self.servers[index] {
            Some(stopped) => stopped.restart().await,
            none => *none = Some(options(&self.routes, index).start().await),
        }
    }

    /// SIGKILL.
    pub async fn kill(&mut self, index: usize) {
        if let Some(server) = &mut self.servers[index] {
            server.kill().await;
        }
    }

    /// One that was started.
    pub fn server(&self, index: usize) -> &NatsServer {
        self.servers[index].as_ref().expect("it was started")
    }

    /// The URLs of all that were started, as `--nats` takes them.
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.servers.iter().flatten().map(NatsServer::url).collect();
        urls.join(",")
    }

    /// How long a cluster may take to have a leader again.
    pub const LEADER_MAX: Duration = Duration::from_secs(30);
}

fn options(routes: &[u16], index: usize) -> NatsOptions {
    let urls: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let (port, urls) = (routes[index], urls.join(", "));
    let cluster = format!(
        "cluster {{ name: mill, listen: \"127.0.0.1:{port}\", no_advertise: true, routes: [{urls}] }}"
    );
    NatsServer::options().extra(&cluster).listens_only()
}
