//! Those of a team who wait: its clients take turns, and none of them has more of the queue than it needs to.

use std::collections::VecDeque;

use tokio::sync::oneshot::Sender;

/// Requests that wait, by client; whose turn is next comes first. A client is a digest of its name: names are as long as
/// clients like.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<(u64, VecDeque<Sender<()>>)>);

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(_, waiting)| waiting.len()).sum()
    }

    fn of(&self, client: u64) -> usize {
        self.0.iter().find(|(other, _)| *other == client).map_or(0, |(_, waiting)| waiting.len())
    }

    /// Which one a further request of a client would be that is let in, from 1.
    pub(super) fn place_of(&self, client: u64) -> usize {
        let own = self.of(client) + 1;
        let others = self.0.iter().filter(|(other, _)| *other != client);
        own + others.map(|(_, waiting)| waiting.len().min(own)).sum::<usize>()
    }

    pub(super) fn push(&mut self, client: u64, turn: Sender<()>) {
        match self.0.iter_mut().find(|(other, _)| *other == client) {
            Some((_, waiting)) => waiting.push_back(turn),
            None => self.0.push_back((client, VecDeque::from([turn]))),
        }
    }

    /// The next one, of the client whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Sender<()>> {
        let (client, mut waiting) = self.0.pop_front()?;
        let turn = waiting.pop_front();
        if !waiting.is_empty() {
            self.0.push_back((client, waiting));
        }
        turn
    }

    /// Sends away the newest one of the client that has most, unless `client` itself would have as many: whether there is
    /// room now.
    pub(super) fn make_room(&mut self, client: u64) -> bool {
        let own = self.of(client) + 1;
        let most = self.0.iter_mut().max_by_key(|(_, waiting)| waiting.len());
        let Some((_, waiting)) = most.filter(|(_, waiting)| waiting.len() > own) else { return false };
        drop(waiting.pop_back());
        true
    }

    /// Takes out those who have gone.
    pub(super) fn forget_closed(&mut self) {
        self.0.iter_mut().for_each(|(_, waiting)| waiting.retain(|turn| !turn.is_closed()));
        self.0.retain(|(_, waiting)| !waiting.is_empty());
    }
}
