//! Events are hints; what really runs is asked every few seconds.

use std::time::Duration;

use super::{Core, Found, Instance, News};

impl Core {
    /// Compares what ran at time `asked` with what should.
    pub(super) fn observed(&mut self, asked: Duration, found: Vec<Found>, now: Duration) {
        let runs = |instance: &Instance| found.iter().any(|f| f.instance == *instance && f.running.is_some());
        let vanished: Vec<_> = self
            .members
            .values()
            .filter(|m| m.is_up() && m.launched < asked && !runs(&m.instance))
            .map(|m| m.instance.id)
            .collect();
        for id in vanished {
            self.flatline(id, "it is no longer there", now);
        }
        // What ended while the runtime was listing may stand in the list, and is nobody's orphan.
        self.ended.retain(|(_, at)| *at >= asked);
        let found =
            found.into_iter().filter(|f| !self.ended.iter().any(|(ended, _)| *ended == f.instance)).collect();
        self.remove_orphans(found);
    }

    /// Stops what carries our label and is no life of anybody's.
    pub(super) fn remove_orphans(&mut self, found: Vec<Found>) {
        for Found { instance, .. } in found {
            // Whole instances: a balancer that died may have used the same incarnation for another.
            let ours = self.members.values().any(|m| m.instance == instance)
                || self.leaving.values().any(|leaving| leaving.instance == instance)
                || self.stopping.iter().any(|(stopping, _)| *stopping == instance)
                || self.stops.iter().any(|(queued, _)| *queued == instance);
            if !ours {
                self.tell(News::Orphan { replica: instance.name.clone() });
                self.stops.push_back((instance, Duration::ZERO));
            }
        }
    }
}
