//! One coarse clock a thread, and everyone who waits by it.
//!
//! A timer of its own for every wait of every request is 3 % of a request's cost. Deadlines of connections are
//! seconds, so that a look twenty times a second is exact enough; and it is a look at one number, the earliest
//! deadline, as long as nothing is due. Deadlines that are put off leave that number too early, which costs a look
//! at all of them once.

use std::cell::{Cell, Ref, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How exact a deadline is.
const TICK: Duration = Duration::from_millis(50);
const NEVER: u64 = u64::MAX;

/// The thread's clock.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    now_ms: Cell<u64>,
    /// No deadline is earlier.
    earliest_ms: Cell<u64>,
    tickets: RefCell<Slab<Waiting>>,
}

struct Waiting {
    expires_ms: Cell<u64>,
    /// It waits for a replica.
    engaged: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Watch {
    /// A clock at zero.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            began: Instant::now(),
            now_ms: Cell::new(0),
            earliest_ms: Cell::new(NEVER),
            tickets: RefCell::default(),
        })
    }

    /// Milliseconds since the clock began, as of the last tick.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Ticks for ever.
    pub async fn run(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER);
            self.now_ms.set(now);
            if self.earliest_ms.get() <= now {
                self.wake_due(now);
            }
        }
    }

    fn wake_due(&self, now: u64) {
        let mut earliest = NEVER;
        for (_, waiting) in &*self.tickets.borrow() {
            let expires = waiting.expires_ms.get();
            // One that is due stays so until its task has looked: it is woken again rather than forgotten.
            earliest = earliest.min(expires);
            if expires <= now {
                waiting.wake();
            }
        }
        self.earliest_ms.set(earliest);
    }

    /// Wakes everyone: something happened that concerns them.
    pub fn wake_all(&self) {
        for (_, waiting) in &*self.tickets.borrow() {
            waiting.wake();
        }
    }

    /// Wakes everyone who waits for a replica: one was given up. Who is idle sleeps on.
    pub fn wake_engaged(&self) {
        for (_, waiting) in self.tickets.borrow().iter().filter(|(_, waiting)| waiting.engaged.get()) {
            waiting.wake();
        }
    }

    /// A place among those who wait.
    pub fn ticket(self: &Rc<Self>) -> Ticket {
        let waiting =
            Waiting { expires_ms: Cell::new(NEVER), engaged: Cell::new(false), waker: Cell::default() };
        let place = self.tickets.borrow_mut().insert(waiting);
        Ticket { watch: self.clone(), place }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("expires_ms", &self.expires_ms).finish_non_exhaustive()
    }
}

impl Waiting {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            self.waker.set(Some(waker));
        }
    }
}

/// One task's deadline.
#[derive(Debug)]
pub struct Ticket {
    watch: Rc<Watch>,
    place: usize,
}

impl Ticket {
    fn waiting(&self) -> Ref<'_, Waiting> {
        Ref::map(self.watch.tickets.borrow(), |tickets| &tickets[self.place])
    }

    /// The deadline is `within` from now.
    pub fn set(&self, within: Duration) {
        self.set_from(self.watch.now_ms(), within);
    }

    /// The deadline is `within` from a moment of this clock.
    pub fn set_from(&self, since_ms: u64, within: Duration) {
        let within = u64::try_from(within.as_millis()).unwrap_or(NEVER);
        // What is left of the present tick does not count against whoever waits.
        let tick = u64::try_from(TICK.as_millis()).unwrap_or(0);
        let expires = since_ms.saturating_add(within).saturating_add(tick);
        self.waiting().expires_ms.set(expires);
        if expires < self.watch.earliest_ms.get() {
            self.watch.earliest_ms.set(expires);
        }
    }

    /// Whether it waits for a replica from now on, and is woken by [`Watch::wake_engaged`].
    pub fn engage(&self, engaged: bool) {
        self.waiting().engaged.set(engaged);
    }

    /// There is no deadline.
    pub fn unset(&self) {
        self.waiting().expires_ms.set(NEVER);
    }

    /// The clock's time.
    pub fn now_ms(&self) -> u64 {
        self.watch.now_ms()
    }

    /// Wakes whoever waits by this ticket.
    pub fn wake(&self) {
        self.waiting().wake();
    }

    /// Whether the deadline has passed; if not, the task is woken when it has, and by [`Watch::wake_all`].
    pub fn has_expired(&self, cx: &mut Context<'_>) -> bool {
        let waiting = self.waiting();
        if waiting.expires_ms.get() <= self.watch.now_ms() {
            return true;
        }
        let waker = waiting.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        waiting.waker.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
        false
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.watch.tickets.borrow_mut().remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::task::{JoinHandle, LocalSet, spawn_local};

    use super::*;

    /// Waits for its deadline; how often it was looked at.
    fn waits(watch: &Rc<Watch>, within: Duration, engaged: bool) -> (Rc<Cell<u32>>, JoinHandle<Instant>) {
        let (looks, ticket) = (Rc::new(Cell::new(0)), watch.ticket());
        ticket.set(within);
        ticket.engage(engaged);
        let counted = looks.clone();
        let waiting = spawn_local(async move {
            poll_fn(|cx| {
                counted.set(counted.get() + 1);
                if ticket.has_expired(cx) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Instant::now()
        });
        (looks, waiting)
    }

    fn ticking() -> Rc<Watch> {
        let watch = Watch::new();
        let clock = watch.clone();
        spawn_local(async move { clock.run().await });
        watch
    }

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_whatever_the_order() {
        let keep = async {
            let (watch, began) = (ticking(), Instant::now());
            let times = [900, 100, 5000, 450, 100, 4950].map(Duration::from_millis);
            let waiting: Vec<_> = times.iter().map(|time| waits(&watch, *time, false)).collect();
            for (time, (_, waiting)) in times.into_iter().zip(waiting) {
                let took = waiting.await.unwrap() - began;
                assert!(took >= time && took <= time + 3 * TICK, "{took:?} for {time:?}");
            }
        };
        LocalSet::new().run_until(keep).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_due_and_not_concerned_is_not_woken() {
        let rest = async {
            let watch = ticking();
            let (idle, _idle) = waits(&watch, Duration::from_secs(60), false);
            let (engaged, _engaged) = waits(&watch, Duration::from_secs(60), true);
            let (_, first) = waits(&watch, Duration::from_secs(1), false);
            first.await.unwrap();
            assert_eq!((idle.get(), engaged.get()), (1, 1), "a deadline wakes whose it is");
            watch.wake_engaged();
            let (_, second) = waits(&watch, Duration::from_secs(1), false);
            second.await.unwrap();
            assert_eq!((idle.get(), engaged.get()), (1, 2), "a death wakes who waits for a replica");
            watch.wake_all();
            let (_, third) = waits(&watch, Duration::from_secs(1), false);
            third.await.unwrap();
            assert_eq!((idle.get(), engaged.get()), (2, 3));
        };
        LocalSet::new().run_until(rest).await;
    }
}
