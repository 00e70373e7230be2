use super::*;

/// 8000 above 8001, which is above 8002 and 8003.
const TREE: &str = r#"{"name":"a","port":8000,"cpu":1,"children":[{"name":"b","port":8001,"cpu":1,"children":[
    {"name":"c","port":8002,"cpu":1,"children":[]},{"name":"d","port":8003,"cpu":1,"children":[]}]}]}"#;
const WAVE: WaveId = WaveId { initiator: 7999, number: 1 };

/// The unit 8001, with a clock that the test sets.
struct Case {
    waves: Waves,
    around: Around,
    began: Instant,
}

impl Case {
    fn new() -> Self {
        let tree = Arc::new(Tree::parse(TREE).expect("a tree"));
        let around = Around { up: Some(8000), below: [8002, 8003].into(), ..Around::default() };
        Self { waves: Waves::new(8001, &tree), around, began: Instant::now() }
    }

    fn now(&self, ms: u64) -> Now {
        Now { at: self.began + Duration::from_millis(ms), wall_us: ms * 1_000 }
    }

    fn own() -> Gathered {
        Gathered { name: "b".into(), port: 8001, cpu: 1, ..Gathered::default() }
    }

    fn start(&mut self, algorithm: Algorithm, left_ms: u64, ms: u64) -> Result<Vec<Output>, Ignored> {
        let now = self.now(ms);
        self.waves.start(algorithm, errand(left_ms), &self.around, Self::own, now)
    }

    fn hear(&mut self, from: NodeId, told: Told, left_ms: u64, ms: u64) -> Result<Vec<Output>, Ignored> {
        let now = self.now(ms);
        self.waves.hear(from, told, errand(left_ms), &self.around, Self::own, now)
    }
}

fn errand(left_ms: u64) -> Errand {
    Errand { wave: Some(WAVE), purpose: "spread".into(), left_us: Some(left_ms * 1_000), ..Errand::default() }
}

fn known(inc: &[NodeId], ninc: &[NodeId]) -> Told {
    Told::Known(Known { inc: inc.iter().copied().collect(), ninc: ninc.iter().copied().collect() })
}

fn report(port: u16) -> Told {
    Told::Report(Gathered { name: port.to_string(), port, cpu: 1, sent: 1, ..Gathered::default() })
}

fn has_decided(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Decided { .. }))
}

/// How long whoever is sent something is told to have, in microseconds.
fn left(outputs: &[Output]) -> Vec<Option<u64>> {
    let left = |output: &Output| match output {
        Output::Send(
            _,
            Frame::Echo { errand, .. } | Frame::Finn { errand, .. } | Frame::Barrier { errand, .. },
        ) => Some(errand.left_us),
        _ => None,
    };
    outputs.iter().filter_map(left).collect()
}

const ALL: [NodeId; 4] = [8000, 8001, 8002, 8003];

#[test]
fn finn_decides_in_time_and_says_how_much_of_it_is_left() {
    let mut case = Case::new();
    let first = case.hear(8000, known(&[8000], &[]), 1_000, 0).expect("a neighbor");
    assert_eq!(left(&first), [Some(1_000_000); 3]);
    let second = case.hear(8002, known(&[8000, 8001, 8002], &[8002]), 500, 400).expect("a neighbor");
    assert_eq!(left(&second), [Some(600_000); 3], "by its own clock");
    let third = case.hear(8003, known(&[8000, 8001, 8003], &[8003]), 500, 998).expect("a neighbor");
    assert!(!has_decided(&third));
    assert!(has_decided(&case.hear(8000, known(&ALL, &ALL), 1, 999).expect("in time")));
}

#[test]
fn no_late_message_has_finn_decide_whether_or_not_anybody_looked_at_the_clock() {
    for looked in [false, true] {
        let mut case = Case::new();
        case.hear(8000, known(&[8000], &[]), 1_000, 0).expect("a neighbor");
        if looked {
            let now = case.now(1_000);
            assert_eq!(case.waves.expire(now), []);
            assert_eq!(case.waves.running(), 0);
        }
        for from in [8002, 8003, 8000] {
            assert_eq!(case.hear(from, known(&ALL, &ALL), 5_000, 1_000), Err(Ignored::Late), "{looked}");
        }
        assert_eq!(case.start(Algorithm::Finn, 5_000, 1_000), Err(Ignored::Late));
        let recalled = case.waves.recall(WAVE);
        assert_eq!(recalled.sent, 3, "nothing more was sent");
        assert!(recalled.trace.events.iter().all(|event| event.kind != Kind::Decide));
    }
}

#[test]
fn a_barrier_opens_in_time_or_not_at_all() {
    let mut case = Case::new();
    assert_eq!(case.start(Algorithm::Barrier, 1_000, 0), Ok(vec![]), "it waits for the one above");
    let opened = case.hear(8000, Told::Released, 1, 999).expect("in time");
    assert_eq!(left(&opened), [Some(1_000); 2]);
    assert!(has_decided(&opened));

    let mut case = Case::new();
    case.start(Algorithm::Barrier, 1_000, 0).expect("it waits");
    assert_eq!(case.hear(8000, Told::Released, 5_000, 1_000), Err(Ignored::Late));
    assert_eq!(case.waves.recall(WAVE).sent, 0);
}

/// Whoever hangs elsewhere may be told of a wave by two: it is for the balancer to know that, or it would count a message too
/// many. An Echo says it by whom it missed.
#[test]
fn who_has_other_neighbors_than_the_tree_gives_it_says_so() {
    let tree = Around { up: Some(8000), below: [8002, 8003].into(), ..Around::default() };
    for (is_elsewhere, around) in [
        (false, tree.clone()),
        (true, Around { up: Some(7000), ..tree.clone() }),
        (true, Around { below: [8002, 8003, 8004].into(), ..tree.clone() }),
        (true, Around { below: [8002].into(), ..tree.clone() }),
        (true, Around { below: [8002, 8004].into(), ..tree.clone() }),
    ] {
        for algorithm in [Algorithm::Barrier, Algorithm::Finn, Algorithm::Echo] {
            let mut case = Case { around: around.clone(), ..Case::new() };
            case.start(algorithm, 1_000, 0).expect("in time");
            // What it hangs on when the wave has begun is nothing to it.
            case.around = tree.clone();
            let all = || around.up.iter().chain(&around.below);
            let nodes: Vec<NodeId> = all().map(|port| node(*port)).chain([8001]).collect();
            let told = |port: u16| match algorithm {
                Algorithm::Barrier => Told::Released,
                Algorithm::Finn => known(&nodes, &nodes),
                Algorithm::Echo => report(port),
            };
            let outputs: Vec<_> = all()
                .flat_map(|port| case.hear(node(*port), told(*port), 1_000, 1).expect("a neighbor"))
                .collect();
            let said: Vec<_> = outputs
                .iter()
                .filter_map(|output| match output {
                    Output::Decided { is_elsewhere, .. } => Some(*is_elsewhere),
                    Output::Send(..) => None,
                })
                .collect();
            let expected = is_elsewhere && algorithm != Algorithm::Echo;
            assert_eq!(said, [expected], "{algorithm:?} of {around:?}");
        }
    }
}

#[test]
fn nobody_joins_a_wave_whose_time_is_over() {
    for told in [Told::Explore, known(&[8000], &[]), Told::Released] {
        let mut case = Case::new();
        assert_eq!(case.hear(8000, told, 0, 0), Err(Ignored::Late));
        assert_eq!((case.waves.running(), case.waves.next_deadline()), (0, None));
    }
    for algorithm in [Algorithm::Echo, Algorithm::Finn, Algorithm::Barrier] {
        let mut case = Case::new();
        assert_eq!(case.start(algorithm, 0, 0), Err(Ignored::Late));
        assert_eq!((case.waves.running(), case.waves.next_deadline()), (0, None));
    }
}

#[test]
fn an_echo_that_ends_names_whom_it_did_not_hear_and_what_they_say_then_changes_nothing() {
    let mut case = Case::new();
    let told = case.hear(8000, Told::Explore, 1_000, 0).expect("a neighbor");
    // A level below has a part of the time less.
    assert_eq!(left(&told), [Some(500_000); 2]);
    case.hear(8002, report(8002), 0, 900).expect("in time");
    let now = case.now(1_000);
    let outputs = case.waves.expire(now);
    let [Output::Send(8000, Frame::EchoBack { payload, .. })] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((payload.children.len(), &payload.missing), (1, &[8003].into()));
    assert_eq!(payload.sent, 2 + 1 + 1);
    assert_eq!(case.hear(8003, report(8003), 0, 1_000), Err(Ignored::Late));
}

#[test]
fn a_wave_is_remembered_for_a_while_and_then_forgotten() {
    let mut case = Case::new();
    case.hear(8000, known(&[8000], &[]), 1_000, 0).expect("a neighbor");
    let over = 1_000 + u64::try_from(REMEMBERED.as_millis()).expect("seconds");
    let now = case.now(over - 1);
    case.waves.expire(now);
    assert_eq!(case.waves.recall(WAVE).father, Some(8000));
    assert_eq!(case.waves.next_deadline(), Some(case.now(over).at));
    let now = case.now(over);
    case.waves.expire(now);
    assert_eq!(case.waves.recall(WAVE), Recalled::default());
    assert_eq!(case.waves.next_deadline(), None);
}
