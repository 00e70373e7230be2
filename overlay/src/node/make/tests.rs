use super::*;
use crate::partition::{Partition, a_day, load};
use crate::record;

/// What a worker says that has `rows` records of it, and counts `matched`.
fn said(partition: &Partition, rows: usize, matched: i64) -> ScanPart {
    let selection = partition.select(&Query::default(), rows);
    let arrow = match rows {
        0 => bytes::Bytes::new(),
        _ => record::encode(&record::batch_of(partition, &selection)),
    };
    let (date, process) = (partition.date.number(), "C".to_owned());
    ScanPart { date, process, matched, rows: rows as i64, arrow, ..ScanPart::default() }
}

/// Why it is not taken: asked for `take` rows, a worker sends so many and counts so many, once after the other.
fn refused(take: i64, sent: &[(usize, i64)]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let date = a_day(folder.path(), 1, 7);
    let partition = load(date, &folder.path().join(date.to_string())).unwrap();
    let mut tally = Tally::default();
    tally.ask(&[(Wanted { date, routes: std::collections::VecDeque::default(), malformed: 0 }, take)]);
    let refused = sent.iter().find_map(|&(rows, matched)| tally.take(said(&partition, rows, matched)).err());
    if let Some(why) = refused {
        // As `gather` says it when nobody else holds the day.
        let (name, process) = (date.to_string(), "C".to_owned());
        tally.lose(vec![Missing { name, process, why, was_late: false }]);
    }
    assert_eq!(tally.days.is_empty(), !tally.missing.is_empty(), "what is garbled is missing");
    tally.missing.pop().map(|missing| missing.why)
}

#[test]
fn a_part_has_the_rows_that_were_asked_for_neither_less_nor_more() {
    for (take, rows, matched) in [(-1, 5, 5), (-1, 0, 0), (3, 3, 5), (9, 5, 5), (0, 0, 5)] {
        assert_eq!(refused(take, &[(rows, matched)]), None, "{take} {rows} {matched}");
    }
    for (take, rows, matched, words) in [
        (-1, 4, 5, "it sent 4 records instead of 5"),
        (-1, 0, 5, "it sent 0 records instead of 5"),
        (-1, 6, 5, "it sent 6 records instead of 5"),
        (3, 2, 5, "it sent 2 records instead of 3"),
        (3, 5, 5, "it sent 5 records instead of 3"),
        (9, 4, 5, "it sent 4 records instead of 5"),
        (0, 1, 5, "it sent 1 records instead of 0"),
    ] {
        assert_eq!(refused(take, &[(rows, matched)]).as_deref(), Some(words), "{take} {rows} {matched}");
    }
}

#[test]
fn a_worker_that_counts_otherwise_each_time_is_not_asked_for_ever() {
    assert_eq!(refused(0, &[(0, 5), (0, 5)]), None);
    assert_eq!(refused(0, &[(0, 5), (0, 6)]).as_deref(), Some("it counted 5 records, and then 6"));
}

#[test]
fn what_leaves_out_the_silent_has_time_for_the_records_of_the_others() {
    let now = Instant::now();
    let second = std::time::Duration::from_secs(1);
    for (asked, expected) in [
        (r#"{"limit":5}"#, 4),
        (r#"{"mode":"partial"}"#, 4),
        (r#"{"mode":"partial","limit":0}"#, 4),
        (r#"{"mode":"partial","limit":5}"#, 3),
    ] {
        let query = Query::from_json(asked).unwrap();
        assert_eq!(round_end(&query, now, now + second * 4), now + second * expected, "{asked}");
    }
}
