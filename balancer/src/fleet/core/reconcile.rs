//! Events are hints; what really runs is asked every few seconds.

use std::time::Duration;

use super::{Core, Found, News};

impl Core {
    /// Compares what ran at time `asked` with what should.
    pub(super) fn observed(&mut self, asked: Duration, found: Vec<Found>, now: Duration) {
        let mut lost = Vec::new();
        for member in self.members.values().filter(|m| m.is_up() && m.launched < asked) {
            let seen = found.iter().find(|f| f.instance == member.instance).and_then(|f| f.running.as_ref());
            match seen {
                None => lost.push((member.instance.id, "it is no longer there")),
                // Its old address may be anybody's by now.
                Some(_) if seen != member.running.as_ref() => {
                    lost.push((member.instance.id, "it is no longer where it was"));
                }
                Some(_) => {}
            }
        }
        for (id, why) in lost {
            self.flatline(id, why, now);
        }
        // What ended while the runtime was listing may stand in the list, and is nobody's orphan.
        self.ended.retain(|(_, at)| *at >= asked);
        let left = |f: &Found| !self.ended.iter().any(|(ended, _)| *ended == f.instance);
        let found: Vec<_> = found.into_iter().filter(left).collect();
        self.stop_again_if_seen(asked, &found);
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
