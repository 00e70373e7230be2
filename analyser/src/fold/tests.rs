//! Order cannot be seen, what grows is bounded, and conditions hold for what they say.

use proptest::prelude::*;

use super::{Condition, Fold, OverTime, Query};
use crate::format::Record;
use crate::level::Level;
use crate::time::{Time, Unit};

type Seen = (Option<Level>, Option<Time>, String);

fn seen() -> impl Strategy<Value = Seen> {
    let level = prop::option::of(prop::sample::select(Level::ALL.to_vec()));
    let time = prop::option::of((0_i64..400).prop_map(|seconds| Time(seconds * 7_000_000)));
    (level, time, "(disk|cpu) [0-9]{1,3} (failed|ok)")
}

fn folded(query: &Query, records: &[Seen]) -> Fold {
    let mut fold = Fold::new(query);
    for (level, time, message) in records {
        let record = Record { level: *level, time: *time, message: 0..message.len() };
        fold.record(query, message.as_bytes(), &record);
    }
    fold
}

fn merged(mut one: Fold, other: Fold) -> Fold {
    one.merge(other);
    one
}

fn query() -> impl Strategy<Value = Query> {
    let conditions = prop::sample::subsequence(
        ["level>=INFO", "level!=WARN", "message~failed", "time<1970-01-01T00:30", "message!~7"].to_vec(),
        0..3,
    );
    (prop::option::of(prop::sample::select(Unit::ALL.to_vec())), conditions, prop::option::of(1_u32..6))
        .prop_map(|(per, conditions, templates)| Query {
            per,
            conditions: conditions.into_iter().map(|text| text.parse().unwrap()).collect(),
            templates,
        })
}

proptest! {
    #[test]
    fn merging_is_commutative_and_associative(
        query in query(),
        records in prop::collection::vec(seen(), 0..80),
        cuts in prop::array::uniform2(any::<prop::sample::Index>()),
    ) {
        let mut cuts = cuts.map(|cut| cut.index(records.len() + 1));
        cuts.sort_unstable();
        let [a, b, c] = [&records[..cuts[0]], &records[cuts[0]..cuts[1]], &records[cuts[1]..]]
            .map(|part| folded(&query, part));
        let whole = folded(&query, &records);
        prop_assert_eq!(&merged(merged(a.clone(), b.clone()), c.clone()), &whole);
        prop_assert_eq!(&merged(a.clone(), merged(b.clone(), c.clone())), &whole);
        prop_assert_eq!(&merged(c, merged(b, a)), &whole);
        prop_assert_eq!(&merged(Fold::new(&query), whole.clone()), &whole);
        prop_assert_eq!(whole.records, records.len() as u64);
        let text = serde_json::to_string(&whole).unwrap();
        prop_assert_eq!(serde_json::from_str::<Fold>(&text).unwrap(), whole);
    }

    #[test]
    fn buckets_are_bounded_whatever_the_order(
        times in prop::collection::vec(0_i64..4_000_000, 1..60), most in 2_usize..20, cut in any::<prop::sample::Index>(),
    ) {
        let counted = |times: &[i64]| {
            let mut counts = OverTime::new(Unit::Second);
            for seconds in times {
                counts.add(Some(Time(seconds * 1_000_000)), None);
                counts.keep_within(most);
            }
            counts
        };
        let whole = counted(&times);
        let (one, two) = times.split_at(cut.index(times.len()));
        let (mut one, two) = (counted(one), counted(two));
        one.merge(two);
        one.keep_within(most);
        prop_assert_eq!(&one, &whole);
        let backwards: Vec<i64> = times.iter().rev().copied().collect();
        prop_assert_eq!(&counted(&backwards), &whole);
        prop_assert!(whole.buckets().count() <= most || whole.unit() == Unit::Day);
        let sum: u64 = whole.buckets().map(|(_, levels)| levels.sum()).sum();
        prop_assert_eq!(sum, times.len() as u64);
    }

    #[test]
    fn no_text_makes_a_condition_panic_and_those_that_are_one_are_written_alike(text in "(level|time|message|x)?[ =!~<>]{0,3}[a-zA-Z0-9:T -]{0,20}") {
        if let Ok(condition) = text.parse::<Condition>() {
            prop_assert_eq!(condition.to_string().parse::<Condition>(), Ok(condition));
        }
    }
}

#[test]
fn conditions_hold_for_what_they_say() {
    let time = Time(1_762_384_811_594_011);
    let record = Record { level: Some(Level::Warn), time: Some(time), message: 2..9 };
    let bare = Record { level: None, time: None, message: 0..0 };
    for (text, full, without) in [
        ("level=WARN", true, false),
        ("level = warning", true, false),
        ("level!=WARN", false, true),
        ("level>=WARN", true, false),
        ("level>WARN", false, false),
        ("level<ERROR", true, false),
        ("time>=2025-11-05", true, false),
        ("time<2025-11-05T23:20", false, false),
        ("time<=2025-11-06T00:20:12+01:00", true, false),
        ("message~k 7", true, false),
        ("message!~k 7", false, true),
        ("message=disk 7", false, false),
        ("message!=disk 7x", false, true),
    ] {
        let condition: Condition = text.parse().unwrap();
        assert_eq!(condition.holds(b"> disk 7x", &record), full, "{text}");
        assert_eq!(condition.holds(b"> disk 7x", &bare), without, "{text}");
    }
}

#[test]
fn what_is_no_condition_says_what_would_be_one() {
    for (text, words) in [
        ("ERROR", "'ERROR' compares nothing: write e.g. level=ERROR"),
        ("", "'' compares nothing"),
        ("levels=ERROR", "'levels' is no field: level, message or time"),
        ("level=LOUD", "'LOUD' is no level: TRACE, DEBUG"),
        ("level~ERR", "level is not compared with '~': it knows = != >= <= > <"),
        ("message>a", "message is not compared with '>': it knows = != ~ !~"),
        ("message~", "there is no text to look for behind 'message~'"),
        ("time>=yesterday", "'yesterday' is no time: write 2025-11-05"),
        ("time!2025", "'time!2025' compares nothing"),
    ] {
        let error = text.parse::<Condition>().unwrap_err().to_string();
        assert!(error.starts_with(words), "{text}: {error}");
    }
}
