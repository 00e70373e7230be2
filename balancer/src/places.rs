//! How many there may be at a time, where that number can change.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places, of which each is given back when its permit is dropped.
#[derive(Clone, Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    most: Arc<Mutex<usize>>,
}

impl Places {
    /// So many.
    pub fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most: Arc::new(Mutex::new(most)) }
    }

    /// Where they are taken from. It is never closed.
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.free
    }

    /// One, if there is one.
    pub fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    /// How many there are, taken or not.
    pub fn most(&self) -> usize {
        *self.most.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.most().saturating_sub(self.free.available_permits())
    }

    /// From now on there are `most`. Nobody loses a place; if more are taken, who comes now waits until enough have
    /// been given back. Those who waited before are still served first.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn resize(&self, most: usize) {
        let before = std::mem::replace(&mut *self.most.lock().unwrap_or_else(PoisonError::into_inner), most);
        if most > before {
            return self.free.add_permits(most - before);
        }
        let too_many = before - most;
        let taken = too_many - self.free.forget_permits(too_many);
        if taken > 0 {
            let free = self.free.clone();
            tokio::spawn(async move {
                // Its turn comes after those who wait already and before all who come later.
                let taken = u32::try_from(taken).unwrap_or(u32::MAX);
                if let Ok(permits) = free.acquire_many(taken).await {
                    permits.forget();
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fewer_places_wait_for_those_that_are_taken() {
        let places = Places::new(3);
        let mut taken: Vec<_> = (0..3).filter_map(|_| places.try_take()).collect();
        places.resize(1);
        tokio::task::yield_now().await;
        drop(taken.drain(..2));
        tokio::task::yield_now().await;
        assert!(places.try_take().is_none(), "one is taken of one");
        taken.clear();
        assert!(places.try_take().is_some());
        places.resize(2);
        let (one, two) = (places.try_take(), places.try_take());
        assert!(one.is_some() && two.is_some() && places.try_take().is_none());
        places.resize(1);
        places.resize(4);
        tokio::task::yield_now().await;
        assert_eq!(places.semaphore().available_permits(), 2, "two of four are taken");
    }
}
