//! The last waves, for those who look back: so many, and so many bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use slipring_waves::WaveId;

use super::record::Record;

/// Waves.
const MOST: usize = 50;
/// Bytes of all of them, as they are told.
const MOST_BYTES: usize = 4 << 20;

/// See the module. The last one is there in any case.
#[derive(Debug, Default)]
pub(super) struct Kept {
    records: VecDeque<Arc<Record>>,
}

impl Kept {
    /// One more.
    pub(super) fn push(&mut self, record: Record) {
        self.records.push_back(Arc::new(record));
        while self.records.len() > 1 && (self.records.len() > MOST || self.bytes() > MOST_BYTES) {
            self.records.pop_front();
        }
    }

    fn bytes(&self) -> usize {
        self.records.iter().map(|record| record.bytes()).sum()
    }

    /// One of them.
    pub(super) fn find(&mut self, wave: WaveId) -> Option<&mut Arc<Record>> {
        self.records.iter_mut().find(|record| record.id == wave)
    }

    /// All, the oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Record>> {
        self.records.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::record::tests::record;

    #[test]
    fn the_last_are_kept_as_far_as_there_is_room() {
        let mut kept = Kept::default();
        for number in 0..100 {
            kept.push(record(number, 8));
        }
        let numbers = |kept: &Kept| kept.all().iter().map(|record| record.id.number).collect::<Vec<_>>();
        assert_eq!(numbers(&kept), (50..100).collect::<Vec<_>>());
        for number in 100..120 {
            kept.push(record(number, 5_000));
        }
        let long = numbers(&kept);
        assert!((2..20).contains(&long.len()) && long.last() == Some(&119), "{long:?}");
        let told: usize =
            kept.all().iter().map(|record| serde_json::to_string(&**record).expect("JSON").len()).sum();
        assert!(told <= MOST_BYTES, "{told}");
        kept.push(record(120, 100_000));
        assert_eq!(numbers(&kept), [120], "longer than there is room, and the last");
        assert!(kept.find(WaveId { initiator: 7999, number: 120 }).is_some());
        assert!(kept.find(WaveId { initiator: 7999, number: 119 }).is_none());
    }
}
