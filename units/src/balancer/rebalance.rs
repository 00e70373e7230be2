//! Balancing: an Echo wave gathers the tree, a plan is made of it, and units are asked to carry it out, move by move. What
//! cannot be moved now is what the next wave finds.

use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::record::Move;
use super::{Call, Ending, Event, Handle, Order, Refused, Wanted, plan};
use crate::config::Config;
use crate::frame::Algorithm;

/// At an interval, for ever.
pub(super) async fn every(interval: Duration, config: Config, handle: Handle) {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match once(&config, &handle).await {
            Ok(Ok(_)) => {}
            Ok(Err(refused)) => tracing::debug!(%refused, "no balancing"),
            Err(Ending) => return,
        }
    }
}

/// Once: what was moved.
pub(super) async fn once(config: &Config, handle: &Handle) -> Result<Result<Vec<Move>, Refused>, Ending> {
    let wanted = Wanted { algorithm: Algorithm::Echo, initiator: None, purpose: "rebalance".to_owned() };
    let record = match handle.wave(wanted).await? {
        Ok(record) => record,
        Err(refused) => return Ok(Err(refused)),
    };
    let Some(tree) = &record.tree else { return Ok(Ok(Vec::new())) };
    let until = Instant::now() + config.rebalance_interval.unwrap_or(Duration::from_secs(10));
    let mut moves = Vec::new();
    for planned in plan::plan(config, tree) {
        let order = Order::Move { to: planned.to, count: planned.count };
        let (moved, reason) = if Instant::now() < until {
            handle.ask(|answer| Call::Order(planned.from, order, answer)).await?
        } else {
            (0, Some("no time was left".to_owned()))
        };
        moves.push(Move { from: planned.from, to: planned.to, count: planned.count, moved, reason });
    }
    if !moves.is_empty() {
        handle.events.send(Event::Call(Call::Moved(record.id, moves.clone()))).await.map_err(|_| Ending)?;
    }
    Ok(Ok(moves))
}
