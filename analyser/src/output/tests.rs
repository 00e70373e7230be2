//! The contract's text byte for byte, and the other forms of the same report.

use std::time::Duration;

use super::{
    Report, Run, Unread, found, html, json, levels_csv, over_time_csv, resuming, stack, templates_csv, text,
};
use crate::fold::{Fold, Query};
use crate::format::Record;
use crate::level::Level;
use crate::time::{Time, Unit};

fn folded(query: &Query, records: &[(Option<Level>, i64, &str, u64)]) -> Fold {
    let mut fold = Fold::new(query);
    for (level, minute, message, times) in records {
        let time = (*minute >= 0).then_some(Time(minute * 60_000_000));
        for _ in 0..*times {
            fold.record(
                query,
                message.as_bytes(),
                &Record { time, level: *level, message: 0..message.len() },
            );
        }
    }
    fold
}

fn run() -> Run {
    Run {
        files_processed: 10,
        failed_workers: 1,
        checkpoints_saved: 3,
        took: Duration::from_millis(2141),
        unread: Vec::new(),
    }
}

#[test]
fn the_text_is_the_contracts() {
    let query = Query::default();
    let levels = [(Level::Warn, 43), (Level::Debug, 89), (Level::Info, 152), (Level::Error, 18)];
    let fold = folded(&query, &levels.map(|(level, times)| (Some(level), 0, "x", times)));
    let report = Report { query: &query, fold: &fold, run: &run(), top: 10 };
    assert_eq!(
        found(10) + &text(&report),
        "Found 10 log file(s) to analyse
Starting distributed analysis...

=================================================
ANALYSIS RESULTS
=================================================
DEBUG: 89
ERROR: 18
INFO: 152
WARN: 43
=================================================
Total time: 2.14s
Files processed: 10
Failed workers: 1
Checkpoints saved: 3
=================================================
"
    );
    assert_eq!(
        resuming(10, 5),
        "Loading checkpoint from previous run...
Resuming from checkpoint: 5 files already processed
Found 10 log file(s) to analyse (5 remaining)
Starting distributed analysis...
"
    );
}

fn full() -> (Query, Fold, Run) {
    let conditions = vec!["level!=TRACE".parse().unwrap()];
    let query = Query { per: Some(Unit::Minute), conditions, templates: Some(100) };
    let records = [
        (Some(Level::Error), 0, "disk 7 <failed> & \"gone\"", 2),
        (Some(Level::Info), 2, "=1+1, done", 3),
        (None, 2, "no level", 1),
        (Some(Level::Info), -1, "no time", 1),
        (Some(Level::Trace), 1, "not asked for", 1),
    ];
    let fold = folded(&query, &records);
    let unread = vec![Unread { path: "b<ad>.log".to_owned(), why: "cannot open it".to_owned() }];
    (query, fold, Run { unread, ..run() })
}

#[test]
fn what_else_was_asked_comes_behind_the_contracts_lines() {
    let (query, fold, run) = full();
    let said = text(&Report { query: &query, fold: &fold, run: &run, top: 2 });
    let behind = said.split("=================================================\n").last().unwrap();
    assert_eq!(
        behind,
        "Not counted, or not wholly: b<ad>.log: cannot open it
Records without a level: 1
Where level!=TRACE: 7 of 8 records

Counts per minute
1970-01-01T00:00:00  ERROR 2
1970-01-01T00:02:00  INFO 3  without a level 1
without a time  1

Templates: 2 of 4
           3  =<num>+<num>, done
           2  disk <num> <failed> & \\\"<str>\\\"
"
    );
}

#[test]
fn tables_are_csv() {
    let (query, fold, run) = full();
    let report = Report { query: &query, fold: &fold, run: &run, top: 2 };
    assert_eq!(levels_csv(&report), "level,count\nERROR,2\nINFO,4\n,1\n");
    assert_eq!(
        over_time_csv(&report).unwrap(),
        "begin,level,count\n1970-01-01T00:00:00,ERROR,2\n1970-01-01T00:02:00,INFO,3\n1970-01-01T00:02:00,,1\n,,1\n"
    );
    let templates = templates_csv(&report).unwrap();
    let mut rows = templates.lines();
    assert_eq!(rows.next(), Some("count,template,example"));
    assert!(rows.next().is_some_and(|row| row.ends_with(",\"'=1+1, done\"")), "{templates}");
    assert!(
        rows.next().is_some_and(|row| row.ends_with(",\"disk 7 <failed> & \"\"gone\"\"\"")),
        "{templates}"
    );
}

#[test]
fn json_says_what_the_text_says() {
    let (query, fold, run) = full();
    let said: serde_json::Value =
        serde_json::from_str(&json(&Report { query: &query, fold: &fold, run: &run, top: 1 })).unwrap();
    assert_eq!(said["levels"], serde_json::json!({"ERROR": 2, "INFO": 4}));
    assert_eq!((&said["matched"], &said["records"]), (&7.into(), &8.into()));
    assert_eq!(said["over_time"]["buckets"][1]["levels"]["INFO"], 3);
    assert_eq!(
        (said["templates"]["shown"].as_array().unwrap().len(), &said["templates"]["all"]),
        (1, &4.into())
    );
    assert_eq!(said["unread"][0]["path"], "b<ad>.log");
}

#[test]
fn the_page_loads_nothing_and_shows_text_as_text() {
    let (query, fold, run) = full();
    let page = html(&Report { query: &query, fold: &fold, run: &run, top: 10 });
    for part in [
        "disk 7 &lt;failed&gt; &amp; &quot;gone&quot;",
        "b&lt;ad&gt;.log",
        "prefers-color-scheme:dark",
        "<svg ",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    for part in ["<failed>", "b<ad>", "http:", "https:", "src=", "<script", "url("] {
        assert!(!page.contains(part), "{part} should not be there");
    }
}

#[test]
fn bars_have_no_gap_and_are_no_more_than_fit() {
    let (_, fold, _) = full();
    let counts = fold.over_time.unwrap();
    let chart = stack(&counts, 10).unwrap();
    assert_eq!((chart.bars, chart.seconds, chart.highest()), (3, 60, 4));
    assert_eq!(
        chart.series,
        [(Some(Level::Error), vec![2, 0, 0]), (Some(Level::Info), vec![0, 0, 3]), (None, vec![0, 0, 1])]
    );
    let chart = stack(&counts, 2).unwrap();
    assert_eq!((chart.bars, chart.seconds), (2, 120));
    let empty = folded(&Query { per: Some(Unit::Day), ..Query::default() }, &[]).over_time.unwrap();
    assert_eq!(stack(&empty, 10), None);
}
