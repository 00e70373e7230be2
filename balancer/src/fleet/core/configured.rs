//! Other settings while the fleet runs: what is due sooner by them is due sooner, and members follow the list.

use std::time::Duration;

use super::member::Phase;
use super::{Command, Core, Settings, Ticket};

impl Core {
    /// Members that are listed no more leave as after a `/rm`, those with another weight take another share, and those
    /// that are new in the list join; one that was removed by a `/rm` stays away for as long as it stays in the list.
    pub(super) fn configured(&mut self, settings: Settings, ticket: Ticket, now: Duration) {
        let before = std::mem::replace(&mut self.settings, settings);
        self.largest.0 = self.largest.0.max(self.settings.task_batch);
        self.largest.1 = self.largest.1.max(self.settings.request_batch);
        self.hasten(now);
        let listed = &self.settings.listed;
        let gone: Vec<String> =
            before.listed.keys().filter(|name| !listed.contains_key(*name)).cloned().collect();
        let new: Vec<String> =
            listed.keys().filter(|name| !before.listed.contains_key(*name)).cloned().collect();
        if !gone.is_empty() {
            self.dismiss_all(&gone);
        }
        self.settle_weights();
        if !new.is_empty() && !self.shutting_down {
            self.add(ticket, new, now);
        }
    }

    /// Also those that had not joined yet; who was to join with them waits for them no more.
    fn dismiss_all(&mut self, names: &[String]) {
        let named = self.members.values().filter(|member| names.contains(&member.instance.name));
        let ids: Vec<_> = named.map(|member| member.instance.id).collect();
        ids.into_iter().for_each(|id| self.dismiss(id));
        self.join_those_left();
        self.out.push(Command::Remember);
        self.publish();
    }

    /// Nobody waits longer than the new settings say. What was begun by the old ones is held to them: the deadline of
    /// a start, a drain, a heartbeat under way.
    fn hasten(&mut self, now: Duration) {
        let (interval, longest) = (self.settings.heartbeat_interval, self.settings.backoff.max);
        for member in self.members.values_mut() {
            member.probe_at = member.probe_at.min(now + interval);
            match &mut member.phase {
                Phase::Queued { at } | Phase::Removing { respawn_at: at } => *at = (*at).min(now + longest),
                _ => {}
            }
        }
    }
}
