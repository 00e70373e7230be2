//! However a log is cut, whatever is in it and whoever reads which part: the same counts, and every byte has one owner.
//!
//! The first four bytes choose the format, the question, the size of a range and the order in which parts are added up.
#![no_main]

use std::cell::RefCell;
use std::io::Write as _;
use std::num::NonZeroU64;
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use slipring_analyser::Unit;
use slipring_analyser::fold::{Fold, Query};
use slipring_analyser::format::{Format, best};
use slipring_analyser::ranges::{Range, cut};
use slipring_analyser::scan::{Part, scan};
use slipring_analyser::source::{LogFile, Packing};

/// What a log is asked, and what of it is kept: few templates, so that some have no place.
fn query(choice: u8) -> Query {
    let conditions = ["level>=WARN", "message~a", "message!~timeout", "time<2030-01-01T00:00"];
    let conditions = conditions.iter().enumerate().filter(|(at, _)| choice >> at & 1 == 1);
    Query {
        per: (choice & 16 != 0).then(|| Unit::ALL[usize::from(choice >> 6) % Unit::ALL.len()]),
        conditions: conditions.map(|(_, text)| text.parse().expect("it is a condition")).collect(),
        templates: (choice & 32 != 0).then_some(3),
    }
}

fn part(log: &LogFile, range: Range, format: Format, query: &Query) -> Result<Part, String> {
    let go_on = &mut |_| ControlFlow::Continue(());
    scan(log, range, format, query, go_on).map_err(|error| error.to_string())
}

/// A linear congruential generator: the seed is the order.
fn shuffle<T>(list: &mut [T], seed: u8) {
    let mut state = u32::from(seed) + 1;
    for last in (1..list.len()).rev() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        list.swap(last, (state >> 8) as usize % (last + 1));
    }
}

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> = RefCell::new(tempfile::NamedTempFile::new().expect("a file"));
}

fuzz_target!(|input: &[u8]| {
    let [choice, asked, size, seed, text @ ..] = input else { return };
    let path = FILE.with_borrow_mut(|file| {
        let whole = file.as_file_mut();
        whole.set_len(0).expect("the file is ours");
        std::os::unix::fs::FileExt::write_all_at(whole, text, 0).expect("there is room");
        whole.flush().expect("there is room");
        file.path().to_owned()
    });
    let log = LogFile::look_at(&path).expect("it is there");
    // One more than there are: whatever fits best.
    let formats = Format::all().count() + 1;
    let fits_best = || best(text, log.written).unwrap_or_else(Format::seed);
    let format = Format::all().nth(usize::from(*choice) % formats).unwrap_or_else(fits_best);
    let query = query(*asked);
    let all = cut(std::slice::from_ref(&log), NonZeroU64::MAX);
    let Some(all) = all.first() else { return assert!(text.is_empty()) };
    let whole = part(&log, *all, format, &query);
    if log.packing != Packing::Plain {
        // What is broken is an error, and the same one.
        return assert_eq!(part(&log, *all, format, &query), whole);
    }
    let whole = whole.expect("it can be read");
    let size = NonZeroU64::new(u64::from(*size) + 1).expect("not 0");
    let mut parts: Vec<Part> = cut(std::slice::from_ref(&log), size)
        .into_iter()
        .map(|range| part(&log, range, format, &query).expect("it can be read"))
        .collect();
    let mut owned: Vec<_> = parts.iter().filter(|part| part.begin < part.end).collect();
    owned.sort_by_key(|part| part.begin);
    let end = owned.iter().fold(0, |at, part| {
        assert_eq!(part.begin, at, "a byte has no owner, or two");
        part.end
    });
    assert_eq!(end, text.len() as u64);
    shuffle(&mut parts, *seed);
    let mut sum = Fold::new(&query);
    for part in parts {
        sum.merge(part.fold);
    }
    assert_eq!(sum, whole.fold, "{} in ranges of {size} bytes", format.name());
});
