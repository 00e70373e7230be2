//! What units and their balancer are told beside the topology: the original's `config.json`, and what we add to it.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// How tasks are spread over the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// As few moves as there can be, along the edges.
    #[default]
    Tree,
    /// The original's: each overloaded unit gives one task to the freest.
    Heap,
    /// Idle units take from loaded ones.
    Stealing,
}

impl Strategy {
    /// As the file says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Heap => "heap",
            Self::Stealing => "stealing",
        }
    }
}

/// See the module. Shared by all processes of a topology.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// A unit is overloaded when it has this many percent of its cores in tasks.
    pub max_cpu: u32,
    /// How long a task occupies a core.
    pub task_time: Duration,
    /// How often the balancer balances; none: only when it is asked to.
    pub rebalance_interval: Option<Duration>,
    /// How.
    pub strategy: Strategy,
    /// How long a wave may take, at most [`Config::LONGEST_WAVE`].
    pub wave_deadline: Duration,
    /// How many tasks a unit takes before it refuses.
    pub queue: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default = "max_cpu")]
    max_cpu: f64,
    #[serde(default = "task_time")]
    task_time: f64,
    #[serde(default = "rebalance_interval")]
    rebalance_interval: f64,
    #[serde(default)]
    strategy: Strategy,
    #[serde(default = "wave_deadline")]
    wave_deadline: f64,
    #[serde(default = "queue")]
    queue: usize,
}

const fn max_cpu() -> f64 {
    75.0
}
const fn task_time() -> f64 {
    10.0
}
const fn rebalance_interval() -> f64 {
    5.0
}
const fn wave_deadline() -> f64 {
    1.0
}
const fn queue() -> usize {
    10_000
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is not JSON, or has other keys.
    #[error("not JSON with max_cpu, task_time, rebalance_interval, strategy, wave_deadline, queue")]
    Json(#[source] serde_json::Error),
    /// All values that cannot be.
    #[error("{}", .0.join("; "))]
    Values(Vec<String>),
}

impl Config {
    /// The longest that a wave may take: whoever takes part has to remember it.
    pub const LONGEST_WAVE: Duration = Duration::from_secs(60);

    /// Reads the text of a configuration file. What it does not say is as in the original's.
    ///
    /// # Errors
    /// When it is not JSON of these keys; and all values that cannot be.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        // By way of a map: a list of nothing would be all defaults.
        let map: serde_json::Map<_, _> = serde_json::from_str(text).map_err(ConfigError::Json)?;
        let raw: Raw = serde_json::from_value(map.into()).map_err(ConfigError::Json)?;
        let mut wrong = Vec::new();
        let mut seconds = |key: &str, value: f64, least: f64, most: f64| {
            if (least..=most).contains(&value) {
                Duration::from_secs_f64(value)
            } else {
                wrong.push(format!("{key} is {value}: seconds, {least} to {most}"));
                Duration::from_secs(1)
            }
        };
        let task_time = seconds("task_time", raw.task_time, 0.001, 86_400.0);
        let interval = seconds("rebalance_interval", raw.rebalance_interval, 0.0, 86_400.0);
        let wave_deadline =
            seconds("wave_deadline", raw.wave_deadline, 0.01, Self::LONGEST_WAVE.as_secs_f64());
        let whole = |value: f64| value.fract() == 0.0 && (1.0..=1_000_000.0).contains(&value);
        if !whole(raw.max_cpu) {
            wrong.push(format!("max_cpu is {}: whole percent, at least 1", raw.max_cpu));
        }
        if !(1..=1_000_000).contains(&raw.queue) {
            wrong.push(format!("queue is {}: tasks, 1 to 1000000", raw.queue));
        }
        if !wrong.is_empty() {
            return Err(ConfigError::Values(wrong));
        }
        Ok(Self {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, and within a million"
            )]
            max_cpu: raw.max_cpu as u32,
            task_time,
            rebalance_interval: (!interval.is_zero()).then_some(interval),
            strategy: raw.strategy,
            wave_deadline,
            queue: raw.queue,
        })
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_file_is_read_and_is_what_an_empty_one_means() {
        let original =
            Config::parse(r#"{"max_cpu":75,"task_time":10,"rebalance_interval":5}"#).expect("the original's");
        assert_eq!((original.max_cpu, original.task_time), (75, Duration::from_secs(10)));
        assert_eq!(original.rebalance_interval, Some(Duration::from_secs(5)));
        assert_eq!(original.strategy, Strategy::Tree);
        assert_eq!(Config::parse("{}").expect("all of it has a default"), original);
        let never = Config::parse(r#"{"rebalance_interval":0}"#).expect("nothing at all is no mistake");
        assert_eq!(never.rebalance_interval, None);
    }

    #[test]
    fn every_mistake_is_told() {
        let text = r#"{"max_cpu":0,"task_time":-1,"rebalance_interval":1e99,"wave_deadline":0,"queue":0}"#;
        let error = Config::parse(text).expect_err("five mistakes").to_string();
        for key in ["max_cpu", "task_time", "rebalance_interval", "wave_deadline", "queue"] {
            assert!(error.contains(key), "{key} is not in: {error}");
        }
        for (text, is_right) in
            [("60", true), ("0.01", true), ("60.5", false), ("86400", false), ("0.009", false)]
        {
            let parsed = Config::parse(&format!("{{\"wave_deadline\":{text}}}"));
            assert_eq!(parsed.is_ok(), is_right, "{text}");
            let told = parsed.err().map(|error| error.to_string());
            assert!(told.is_none_or(|told| told.contains("seconds, 0.01 to 60")), "{text}");
        }
        for text in ["", "[]", "{\"max\":1}", "{\"strategy\":\"best\"}", "{\"max_cpu\":1.5}"] {
            assert!(Config::parse(text).is_err(), "{text}");
        }
    }
}
