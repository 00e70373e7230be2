//! Which tasks go where, of what a wave has gathered.

use std::collections::HashMap;

use slipring_waves::balance::{self, Station};

use crate::config::{Config, Strategy};
use crate::gathered::Gathered;

/// One order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) count: u64,
}

/// In an order in which each can be carried out. Nothing, if nobody is overloaded: then all tasks that are there run.
pub(super) fn plan(config: &Config, tree: &Gathered) -> Vec<Planned> {
    let is_overloaded =
        |unit: &Gathered| unit.load > 0 && unit.load * 100 >= u64::from(unit.cpu) * u64::from(config.max_cpu);
    if !tree.all().any(is_overloaded) {
        return Vec::new();
    }
    let stations = stations(tree);
    let moves = match config.strategy {
        Strategy::Tree => balance::tree(&stations),
        Strategy::Heap => balance::heap(&stations, config.max_cpu),
        Strategy::Stealing => balance::stealing(&stations),
    };
    let port = |node: u32| u16::try_from(node).ok();
    let planned = |order: &balance::Move| {
        Some(Planned { from: port(order.from)?, to: port(order.to)?, count: order.count })
    };
    moves.iter().filter_map(planned).collect()
}

/// As the wave found them: a parent is whom a unit told, which need not be the tree's, since orphans hang higher up.
fn stations(tree: &Gathered) -> Vec<Station> {
    let mut places = HashMap::new();
    let mut parents = HashMap::new();
    let mut stations = Vec::new();
    for unit in tree.all() {
        parents.extend(unit.children.iter().map(|child| (child.port, unit.port)));
        let parent = parents.get(&unit.port).and_then(|parent| places.get(parent)).copied();
        places.insert(unit.port, stations.len());
        stations.push(Station {
            id: unit.port.into(),
            parent,
            load: unit.movable,
            cores: u64::from(unit.cpu.max(1)),
        });
    }
    stations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(port: u16, load: u64, cpu: u32, children: Vec<Gathered>) -> Gathered {
        Gathered { port, load, movable: load, cpu, children, ..Gathered::default() }
    }

    #[test]
    fn tasks_go_over_the_links_that_the_wave_went() {
        let config = Config::parse("{}").expect("all of it has a default");
        let tree = unit(1, 0, 2, vec![unit(2, 0, 2, vec![unit(3, 6, 2, vec![])])]);
        let moves = plan(&config, &tree);
        let order = |from, to, count| Planned { from, to, count };
        assert_eq!(moves, [order(3, 2, 4), order(2, 1, 2)]);
    }

    #[test]
    fn nobody_gives_while_nobody_is_overloaded() {
        let config = Config::parse("{}").expect("all of it has a default");
        assert_eq!(plan(&config, &unit(1, 1, 4, vec![unit(2, 0, 4, vec![])])), []);
        assert_ne!(
            plan(&config, &unit(1, 3, 4, vec![unit(2, 0, 4, vec![])])),
            [],
            "three of four is 75 percent"
        );
    }
}
