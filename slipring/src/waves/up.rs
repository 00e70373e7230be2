//! `slipring waves up`: an appliance with no replicas but the units and their balancer.

use std::path::PathBuf;
use std::process::ExitCode;

use slipring_balancer::config::Given;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The tree's file: {"name", "port", "cpu", "children"}, nested.
    topology: PathBuf,
    /// The configuration's file: {"max_cpu", "task_time", "rebalance_interval", "strategy"}.
    config: Option<PathBuf>,
    /// Where the balancer of the waves listens.
    #[arg(long, default_value_t = 7999)]
    port: u16,
    /// The folder in which units write down their tasks.
    #[arg(long, value_name = "FOLDER", default_value = "slipring-waves")]
    state: PathBuf,
    /// process or docker.
    #[arg(long, default_value = "process")]
    runtime: String,
    /// Where the appliance's clients connect.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: String,
    /// Where the appliance's page and administration are.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5001")]
    admin_listen: String,
    /// Any other key of the appliance's configuration.
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::balancer::setting)]
    set: Vec<(String, String)>,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let shown = |path: &PathBuf| path.display().to_string();
    let settings = [
        ("listen", arguments.listen.clone()),
        ("admin.listen", arguments.admin_listen.clone()),
        ("fleet.replicas", "0".to_owned()),
        ("state", String::new()),
        ("pool.waves.routes", "/waves/*".to_owned()),
        ("pool.waves.fleet.runtime", arguments.runtime.clone()),
        ("pool.waves.waves.topology", shown(&arguments.topology)),
        ("pool.waves.waves.config", arguments.config.as_ref().map(shown).unwrap_or_default()),
        ("pool.waves.waves.state", shown(&arguments.state)),
        ("pool.waves.waves.port", arguments.port.to_string()),
    ];
    let mut flags: std::collections::BTreeMap<_, _> =
        settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    flags.extend(arguments.set.iter().cloned());
    let given =
        Given { file: None, flags, overlay: Some(crate::overlay::members), waves: Some(super::members) };
    crate::balancer::start(given, false)
}
