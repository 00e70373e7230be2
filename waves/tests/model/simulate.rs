//! Seeded runs of a wave, where there are too many states to explore them all: the simulator delivers and repeats as its
//! seed says, and the same must hold as in the exploration.

use libtest_mimic::Failed;
use slipring_waves::sim::{Conditions, Network};

use crate::wave::{Subject, Wave, bits, mask};

const RUNS: u64 = 500;

/// How many runs there were.
pub(crate) fn check<P: Subject>(wave: &Wave<P>) -> Result<usize, Failed> {
    for seed in 0..RUNS {
        let conditions = Conditions { repeated: 40, is_causal: true, ..Conditions::new(seed) };
        let (outcome, processes) =
            Network::new(wave.processes.clone(), conditions).run(bits(wave.initiators));
        let nodes = wave.graph.nodes().len();
        let most = wave.messages.unwrap_or(2 * nodes * wave.graph.arc_count());
        let mut deciders: Vec<_> = outcome.decided.iter().map(|decided| decided.node).collect();
        deciders.sort_unstable();
        let is_counted = wave.messages.is_none_or(|messages| outcome.sent == messages as u64);
        let is_sound = outcome.decided.iter().all(|decided| {
            let preceding = wave.preceding[decided.node as usize];
            mask(decided.preceded_by.iter()) & preceding == preceding
                && (wave.is_right)(wave, decided.node, &decided.decision)
        });
        if !is_sound
            || !is_counted
            || outcome.sent > most as u64
            || deciders != bits(wave.deciders).collect::<Vec<_>>()
        {
            let arcs: Vec<_> = wave.graph.arcs().collect();
            return Err(format!("seed {seed}, arcs {arcs:?}: {outcome:?}, {processes:?}").into());
        }
    }
    Ok(RUNS as usize)
}
