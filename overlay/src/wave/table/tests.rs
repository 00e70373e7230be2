use proptest::prelude::*;

use super::*;

const WAVE: WaveId = WaveId { initiator: 9, number: 5 };

fn table() -> Table {
    Table::new(1, BTreeSet::from([0, 2, 3]), 7)
}

fn nothing() -> MetricsResponse {
    MetricsResponse::default()
}

fn explore(table: &mut Table, wave: WaveId, from: NodeId) -> (Heard, Steps) {
    table.hear(wave, from, Token::Explore, nothing).unwrap()
}

fn report(numbers: &[NodeId]) -> Token<Told> {
    Token::Report(Told(numbers.iter().map(|&number| (number, One::default())).collect()))
}

/// What the last step tells, and whom.
fn last(steps: &Steps) -> (Option<NodeId>, &Told) {
    match steps.last() {
        Some(Step::Send(father, Token::Report(told))) => (Some(*father), told),
        Some(Step::Decide(told)) => (None, told),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_told_of_a_wave_tells_the_others_and_reports_when_they_were_heard() {
    let mut table = table();
    let (heard, steps) = explore(&mut table, WAVE, 0);
    assert_eq!(heard, Heard::Joined);
    assert_eq!(steps, [Step::Send(2, Token::Explore), Step::Send(3, Token::Explore)]);
    assert_eq!(explore(&mut table, WAVE, 3), (Heard::Taken, vec![]));
    for from in [0, 3, 8] {
        assert_eq!(explore(&mut table, WAVE, from), (Heard::Repeated, vec![]), "{from}");
    }
    let (heard, steps) = table.hear(WAVE, 2, report(&[2, 4]), nothing).unwrap();
    assert_eq!((heard, steps.len()), (Heard::Taken, 1));
    let (father, told) = last(&steps);
    assert_eq!((father, told.0.keys().copied().collect::<Vec<_>>()), (Some(0), vec![1, 2, 4]));
    assert_eq!((told.0[&1].messages, told.0[&1].father), (3, Some(0)));
    // It is over: nothing changes.
    assert_eq!(table.len(), 0);
    assert_eq!(explore(&mut table, WAVE, 3), (Heard::Over, vec![]));
    assert_eq!(table.hear(WAVE, 2, report(&[2]), nothing), Ok((Heard::Over, vec![])));
    assert_eq!((table.give_up(WAVE, 2, Why::Refused), table.late(WAVE)), (vec![], vec![]));
}

#[test]
fn who_was_given_up_is_told_with_the_reason_and_what_did_not_arrive_was_no_message() {
    let mut table = table();
    let (wave, steps) = table.begin(nothing()).unwrap();
    assert_eq!((wave, steps.len()), (WaveId { initiator: 1, number: 7 }, 3));
    assert_eq!(table.give_up(wave, 0, Why::Unreachable), []);
    assert_eq!(explore(&mut table, wave, 2), (Heard::Taken, vec![]));
    // Heard, and yet it did not take what we told it.
    assert_eq!(table.give_up(wave, 2, Why::Refused), []);
    let steps = table.late(wave);
    let (father, told) = last(&steps);
    assert_eq!((father, told.0[&1].messages), (None, 1));
    assert_eq!(told.0[&1].given_up, BTreeMap::from([(0, Why::Unreachable), (3, Why::Silent)]));
    assert_eq!(explore(&mut table, wave, 3), (Heard::Over, vec![]), "its own is never joined");
    let forged = WaveId { initiator: 1, number: 1 };
    assert_eq!(explore(&mut table, forged, 3), (Heard::Over, vec![]));
    assert_eq!(table.hear(WAVE, 2, report(&[2]), nothing), Ok((Heard::Unknown, vec![])));
}

#[test]
fn there_are_so_many_waves_at_a_time_and_so_many_that_are_remembered() {
    let mut table = table();
    let own: Vec<_> = (0..MOST_BEGUN).map(|_| table.begin(nothing()).unwrap().0).collect();
    assert_eq!(table.begin(nothing()), Err(TooMany));
    let others = |number: usize| WaveId { initiator: 0, number: number as u64 };
    let room = MOST - MOST_BEGUN;
    (0..room).for_each(|number| assert_eq!(explore(&mut table, others(number), 0).0, Heard::Joined));
    let refused = table.hear(others(room), 0, Token::Explore, || panic!("nobody asks"));
    assert_eq!((refused, table.len()), (Err(TooMany), MOST));
    assert_eq!(explore(&mut table, others(0), 2).0, Heard::Taken, "what is under way goes on");
    for wave in own {
        assert_eq!(last(&table.late(wave)).0, None);
    }
    assert!(table.begin(nothing()).is_ok());
    let mut joined = room;
    while joined < 2 * REMEMBERED {
        table.late(others(joined - room));
        assert_eq!(explore(&mut table, others(joined), 0).0, Heard::Joined);
        joined += 1;
    }
    assert_eq!((table.ended.order.len(), table.ended.names.len()), (REMEMBERED, REMEMBERED));
    assert_eq!(explore(&mut table, others(joined - room - 1), 0).0, Heard::Over);
}

/// What may come to a process of whom and of which wave, in any order.
#[derive(Clone, Copy, Debug)]
enum Event {
    Begin,
    Explore(WaveId, NodeId),
    Report(WaveId, NodeId),
    GiveUp(WaveId, NodeId, Why),
    Late(WaveId),
}

fn events() -> impl Strategy<Value = Event> {
    let waves =
        [(9, 0), (9, 1), (0, 0), (1, 7), (1, 8)].map(|(initiator, number)| WaveId { initiator, number });
    let wave = || prop::sample::select(waves.to_vec());
    let why = [Why::Unreachable, Why::Silent, Why::Overloaded, Why::Refused, Why::Over];
    prop_oneof![
        Just(Event::Begin),
        (wave(), 0..5_u32).prop_map(|(wave, from)| Event::Explore(wave, from)),
        (wave(), 0..5_u32).prop_map(|(wave, from)| Event::Report(wave, from)),
        (wave(), 0..5_u32, prop::sample::select(why.to_vec()))
            .prop_map(|(wave, n, why)| Event::GiveUp(wave, n, why)),
        wave().prop_map(Event::Late),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_each_wave_ends_once_and_at_its_deadline_at_the_latest(all in prop::collection::vec(events(), 0..60)) {
        let mut table = table();
        let (mut begun, mut ended) = (BTreeSet::new(), Vec::new());
        let mut look = |wave: WaveId, steps: Steps| {
            let ends = |step: &Step<_, _>| !matches!(step, Step::Send(_, Token::Explore));
            prop_assert!(steps.iter().rev().skip(1).all(|step| !ends(step)), "the end is last: {steps:?}");
            if steps.last().is_some_and(ends) {
                let (father, told) = last(&steps);
                prop_assert_eq!(father.is_none(), wave.initiator == 1);
                prop_assert!(told.0.contains_key(&1) && told.0[&1].messages <= 4);
                ended.push(wave);
            }
            Ok(())
        };
        for event in all {
            match event {
                Event::Begin => {
                    let (wave, steps) = table.begin(nothing()).unwrap();
                    begun.insert(wave);
                    look(wave, steps)?;
                }
                Event::Explore(wave, from) => {
                    let (heard, steps) = explore(&mut table, wave, from);
                    if heard == Heard::Joined {
                        prop_assert!(wave.initiator != 1 && begun.insert(wave), "its own, or again");
                    }
                    look(wave, steps)?;
                }
                Event::Report(wave, from) => look(wave, table.hear(wave, from, report(&[from]), nothing).unwrap().1)?,
                Event::GiveUp(wave, from, why) => look(wave, table.give_up(wave, from, why))?,
                Event::Late(wave) => {
                    look(wave, table.late(wave))?;
                    prop_assert!(!table.is_under_way(wave));
                }
            }
        }
        for wave in &begun {
            look(*wave, table.late(*wave))?;
        }
        prop_assert_eq!((table.len(), table.begun), (0, 0));
        ended.sort();
        prop_assert_eq!(ended, begun.into_iter().collect::<Vec<_>>());
    }
}
