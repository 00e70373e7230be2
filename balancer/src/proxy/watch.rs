//! One coarse clock a thread, and everyone who waits by it.
//!
//! A timer of its own for every wait of every request is 3 % of a request's cost. Deadlines of connections are
//! seconds, so a look at all of them ten times a second is exact enough, and costs ten thousand idle connections
//! some microseconds each time.

use std::cell::{Cell, RefCell};
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
    tickets: RefCell<Slab<Rc<Waiting>>>,
}

#[derive(Debug)]
struct Waiting {
    expires_ms: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

impl Watch {
    /// A clock at zero.
    pub fn new() -> Rc<Self> {
        Rc::new(Self { began: Instant::now(), now_ms: Cell::new(0), tickets: RefCell::default() })
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
            for (_, waiting) in &*self.tickets.borrow() {
                if waiting.expires_ms.get() <= now {
                    waiting.wake();
                }
            }
        }
    }

    /// Wakes everyone: something happened that concerns them.
    pub fn wake_all(&self) {
        for (_, waiting) in &*self.tickets.borrow() {
            waiting.wake();
        }
    }

    /// A place among those who wait.
    pub fn ticket(self: &Rc<Self>) -> Ticket {
        let waiting = Rc::new(Waiting { expires_ms: Cell::new(NEVER), waker: RefCell::default() });
        let place = self.tickets.borrow_mut().insert(waiting.clone());
        Ticket { watch: self.clone(), waiting, place }
    }
}

impl Waiting {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// One task's deadline.
#[derive(Debug)]
pub struct Ticket {
    watch: Rc<Watch>,
    waiting: Rc<Waiting>,
    place: usize,
}

impl Ticket {
    /// The deadline is `within` from now.
    pub fn set(&self, within: Duration) {
        self.set_from(self.watch.now_ms(), within);
    }

    /// The deadline is `within` from a moment of this clock.
    pub fn set_from(&self, since_ms: u64, within: Duration) {
        let within = u64::try_from(within.as_millis()).unwrap_or(NEVER);
        // What is left of the present tick does not count against whoever waits.
        let tick = u64::try_from(TICK.as_millis()).unwrap_or(0);
        self.waiting.expires_ms.set(since_ms.saturating_add(within).saturating_add(tick));
    }

    /// There is no deadline.
    pub fn unset(&self) {
        self.waiting.expires_ms.set(NEVER);
    }

    /// The clock's time.
    pub fn now_ms(&self) -> u64 {
        self.watch.now_ms()
    }

    /// Wakes whoever waits by this ticket.
    pub fn wake(&self) {
        self.waiting.wake();
    }

    /// Whether the deadline has passed; if not, the task is woken when it has, and by [`Watch::wake_all`].
    pub fn has_expired(&self, cx: &mut Context<'_>) -> bool {
        if self.waiting.expires_ms.get() <= self.watch.now_ms() {
            return true;
        }
        let mut waker = self.waiting.waker.borrow_mut();
        match &mut *waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        false
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.watch.tickets.borrow_mut().remove(self.place);
    }
}
