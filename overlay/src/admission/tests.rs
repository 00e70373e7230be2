use std::collections::VecDeque;

use super::*;

fn later() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

#[test]
fn the_rules_are_the_contracts() {
    let may = |fairness, own, others| admits(fairness, Occupancy { own, others });
    for (own, others, strict, weighted, hybrid) in [
        (59, 0, true, true, true),
        (60, 0, false, true, true),
        (60, 39, false, true, false),
        (99, 0, false, true, false),
        (100, 0, false, false, false),
        (51, 49, false, false, false),
        (50, 49, true, true, true),
        (80, 0, false, true, true),
        (81, 0, false, true, false),
        (60, 20, false, true, true),
    ] {
        let all = [Fairness::Strict, Fairness::Weighted, Fairness::Hybrid]
            .map(|fairness| may(fairness, own, others));
        assert_eq!(all, [strict, weighted, hybrid], "{own} {others}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_let_in_when_there_is_room_and_sent_away_when_there_is_none() {
    let admission = Admission::new(Fairness::Strict);
    let mut pink = Vec::new();
    for _ in 0..60 {
        pink.push(admission.enter("pink", "a", later()).await.unwrap());
    }
    assert_eq!(
        admission.enter("pink", "a", later()).await.unwrap_err().retry_after,
        PATIENCE * 2,
        "the clock is paused"
    );
    // One has waited in vain: the others need not, until a place comes free.
    let mut next = std::pin::pin!(admission.enter("pink", "b", later()));
    let told = futures_util::poll!(&mut next);
    assert!(matches!(told, std::task::Poll::Ready(Err(_))), "{told:?}");
    drop(pink.pop());
    pink.push(admission.enter("pink", "a", later()).await.unwrap());
    let waiting = admission.enter("pink", "b", later());
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending());
    assert_eq!(admission.load(), (60, 1));
    let green = admission.enter("green", "c", later()).await.unwrap();
    drop(pink.pop());
    let late = waiting.await.unwrap();
    assert_eq!(admission.load(), (61, 0));
    drop((green, late, pink));
    assert_eq!(admission.load(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn while_no_place_comes_free_one_waits_in_vain_and_the_others_hear_at_once() {
    let admission = Admission::new(Fairness::Strict);
    let long = Instant::now() + Duration::from_secs(60);
    let mut stuck = Vec::new();
    for _ in 0..60 {
        stuck.push(admission.enter("pink", "a", long).await.unwrap());
    }
    // One who has less time himself teaches nothing.
    admission.enter("pink", "a", Instant::now() + PATIENCE).await.unwrap_err();
    let began = Instant::now();
    admission.enter("pink", "a", long).await.unwrap_err();
    assert_eq!(began.elapsed(), LONGEST);
    for _ in 0..3 {
        let began = Instant::now();
        let rejected = admission.enter("pink", "a", long).await.unwrap_err();
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(rejected.retry_after > PATIENCE);
    }
    drop(stuck.pop());
    stuck.push(admission.enter("pink", "a", long).await.unwrap());
    let mut next = std::pin::pin!(admission.enter("pink", "a", long));
    assert!(futures_util::poll!(&mut next).is_pending(), "places come free again");
}

#[tokio::test(start_paused = true)]
async fn clients_of_a_team_take_turns() {
    let admission = Admission::new(Fairness::Strict);
    let mut inside = Vec::new();
    for _ in 0..60 {
        inside.push(admission.enter("pink", "greedy", later()).await.unwrap());
    }
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for client in ["greedy", "greedy", "greedy", "modest"] {
        let (admission, order) = (admission.clone(), order.clone());
        tasks.spawn(async move {
            let admitted = admission.enter("pink", client, later()).await.unwrap();
            order.lock().unwrap().push(client);
            drop(admitted);
        });
        tokio::task::yield_now().await;
    }
    drop(inside.pop());
    while tasks.join_next().await.is_some() {}
    assert_eq!(*order.lock().unwrap(), ["greedy", "modest", "greedy", "greedy"]);
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_the_queue_takes_no_place() {
    let admission = Admission::new(Fairness::Strict);
    let mut inside = Vec::new();
    for _ in 0..60 {
        inside.push(admission.enter("pink", "a", later()).await.unwrap());
    }
    {
        let waiting = admission.enter("pink", "b", later());
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        inside.pop(); // it is let in, and never looks
    }
    assert_eq!(admission.load(), (59, 0));
}

#[tokio::test(start_paused = true)]
async fn a_teams_queue_keeps_no_other_team_out() {
    let admission = Admission::new(Fairness::Strict);
    let mut inside = Vec::new();
    for _ in 0..60 {
        inside.push(admission.enter("pink", "a", later()).await.unwrap());
    }
    let mut crowd: Vec<_> =
        (0..MOST_WAITING + 50).map(|_| Box::pin(admission.enter("pink", "a", later()))).collect();
    let mut turned_away = 0;
    for one in &mut crowd {
        turned_away += usize::from(futures_util::poll!(one).is_ready());
    }
    assert_eq!((turned_away, admission.load()), (50, (60, MOST_WAITING)));
    let mut green = std::pin::pin!(admission.enter("green", "b", later()));
    assert!(futures_util::poll!(&mut green).is_ready(), "at once");
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_in_vain_is_sent_away_at_once() {
    let admission = Admission::new(Fairness::Strict);
    let mut inside = VecDeque::new();
    // A team that asks now and then is not slow.
    for _ in 0..20 {
        drop(admission.enter("pink", "a", later()).await.unwrap());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    for _ in 0..60 {
        inside.push_back(admission.enter("pink", "a", later()).await.unwrap());
    }
    let mut waiting = VecDeque::new();
    let ask = async |waiting: &mut VecDeque<_>| {
        let mut one = Box::pin(admission.enter("pink", "a", later()));
        match futures_util::poll!(&mut one) {
            std::task::Poll::Pending => {
                waiting.push_back(one);
                None
            }
            std::task::Poll::Ready(told) => told.err(),
        }
    };
    for _ in 0..3 {
        assert_eq!(ask(&mut waiting).await, None);
    }
    // One ends each 60 ms: a fifth one would wait for 250 and more.
    for _ in 0..40 {
        tokio::time::advance(Duration::from_millis(60)).await;
        inside.pop_front();
        inside.push_back(waiting.pop_front().unwrap().await.unwrap());
        assert_eq!(ask(&mut waiting).await, None);
    }
    assert_eq!(ask(&mut waiting).await, None);
    let rejected = ask(&mut waiting).await.expect("it does not wait");
    assert!(rejected.retry_after >= PATIENCE, "{rejected:?}");
    // Something stalls for long, and is well again after that: who comes then may wait once more.
    for _ in 0..4 {
        tokio::time::advance(Duration::from_millis(900)).await;
        inside.pop_front();
        inside.push_back(waiting.pop_front().unwrap().await.unwrap());
    }
    assert!(ask(&mut waiting).await.is_some(), "it is slow");
    for _ in 0..20 {
        inside.pop_front();
        inside.push_back(admission.enter("pink", "a", later()).await.unwrap());
    }
    assert_eq!(ask(&mut waiting).await, None);
}

/// Whoever waits, in the order in which they are let in; `None`: they were sent away.
async fn order(arrive: &[(&'static str, usize)]) -> (Vec<&'static str>, Vec<&'static str>) {
    let admission = Admission::new(Fairness::Strict);
    let mut inside = Vec::new();
    for _ in 0..60 {
        inside.push(admission.enter("pink", "first", later()).await.unwrap());
    }
    let (order, sent_away) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let mut tasks = tokio::task::JoinSet::new();
    for &(client, times) in arrive {
        for _ in 0..times {
            let (admission, order, sent_away) = (admission.clone(), order.clone(), sent_away.clone());
            tasks.spawn(async move {
                match admission.enter("pink", client, later()).await {
                    Ok(admitted) => {
                        order.lock().unwrap().push(client);
                        drop(admitted);
                    }
                    Err(_) => sent_away.lock().unwrap().push(client),
                }
            });
            tokio::task::yield_now().await;
        }
    }
    drop(inside.pop());
    while tasks.join_next().await.is_some() {}
    let taken = |list: &Mutex<Vec<_>>| std::mem::take(&mut *list.lock().unwrap());
    (taken(&order), taken(&sent_away))
}

#[tokio::test(start_paused = true)]
async fn each_client_has_its_turn_however_many_of_its_requests_wait() {
    let (order, sent_away) = order(&[("A", 50), ("B", 49), ("C", 1)]).await;
    assert_eq!(order[..7], ["A", "B", "C", "A", "B", "A", "B"]);
    assert_eq!((order.len(), sent_away), (100, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_fills_the_queue_keeps_no_other_one_out() {
    let (order, sent_away) = order(&[("greedy", MOST_WAITING), ("modest", 1), ("greedy", 1)]).await;
    assert_eq!(order[..3], ["greedy", "modest", "greedy"]);
    assert_eq!((order.len(), sent_away), (MOST_WAITING, vec!["greedy"; 2]), "its newest ones");
}

#[tokio::test(start_paused = true)]
async fn where_places_come_free_slowly_a_modest_client_waits_for_its_turn_and_not_for_the_crowds() {
    let admission = Admission::new(Fairness::Strict);
    let mut inside = VecDeque::new();
    for _ in 0..60 {
        inside.push_back(admission.enter("pink", "a", later()).await.unwrap());
    }
    // One ends each 60 ms, and four wait: another one of the same client would wait too long.
    let mut waiting = VecDeque::new();
    for _ in 0..3 {
        let mut one = Box::pin(admission.enter("pink", "a", later()));
        assert!(futures_util::poll!(&mut one).is_pending());
        waiting.push_back(one);
    }
    for _ in 0..40 {
        tokio::time::advance(Duration::from_millis(60)).await;
        inside.pop_front();
        inside.push_back(waiting.pop_front().unwrap().await.unwrap());
        let mut one = Box::pin(admission.enter("pink", "a", later()));
        assert!(futures_util::poll!(&mut one).is_pending());
        waiting.push_back(one);
    }
    let mut fourth = Box::pin(admission.enter("pink", "a", later()));
    assert!(futures_util::poll!(&mut fourth).is_pending());
    let mut greedy = Box::pin(admission.enter("pink", "a", later()));
    assert!(futures_util::poll!(&mut greedy).is_ready(), "it would be the fifth");
    let mut modest = Box::pin(admission.enter("pink", "b", later()));
    assert!(futures_util::poll!(&mut modest).is_pending(), "it is the second");
    assert!(futures_util::poll!(&mut fourth).is_ready(), "and waits instead of the newest one of the crowd");
    assert_eq!(admission.load(), (60, 4));
}
