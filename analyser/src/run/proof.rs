//! Bytes that were counted, read once more for their hash alone.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use crate::source::{LogFile, Packing, SourceError};

/// Bytes that are read at once.
const BLOCK: usize = 1 << 18;

/// XXH3 (128 bits, hexadecimal) of the bytes from one to behind another; of a packed file of its contents. A file that has
/// fewer bytes gives the hash of those that it has.
pub(crate) fn hash_of(log: &LogFile, begin: u64, end: u64) -> Result<String, SourceError> {
    let from = if log.packing == Packing::Plain { begin } else { 0 };
    let mut source = log.open_at(from)?;
    let (mut hash, mut at, mut block) = (Xxh3::new(), from, vec![0; BLOCK]);
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(usize::MAX).min(BLOCK);
        let read = source.read(&mut block[..most])?;
        if read == 0 {
            break;
        }
        let skip = usize::try_from(begin.saturating_sub(at)).unwrap_or(usize::MAX).min(read);
        hash.update(&block[skip..read]);
        at += read as u64;
    }
    Ok(format!("{:032x}", hash.digest128()))
}

/// Looks at all of them, on so many threads; the first one that is wrong, in their order, whoever was faster.
pub(crate) fn first_wrong<T: Sync, E: Send>(
    threads: NonZero<usize>,
    all: &[T],
    check: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(None::<(usize, E)>));
    let look = || {
        // They are begun in their order: what comes before one that is wrong has been begun, and is brought to its end.
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = all.get(at) else { return };
            if let Err(why) = check(one) {
                next.fetch_max(all.len(), Ordering::Relaxed);
                let mut wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner);
                if wrong.as_ref().is_none_or(|(first, _)| at < *first) {
                    *wrong = Some((at, why));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.get().min(all.len()) {
            scope.spawn(look);
        }
        look();
    });
    wrong.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, why)| Err(why))
}

/// All cores.
pub(crate) fn cores() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;
    use std::sync::mpsc::channel;
    use std::sync::{Barrier, Mutex};
    use std::time::Duration;

    use super::first_wrong;

    fn threads(number: usize) -> NonZero<usize> {
        NonZero::new(number).unwrap()
    }

    #[test]
    fn each_thread_looks_at_one_while_the_others_do() {
        let (tell, told) = channel();
        let (tell, told) = (Mutex::new(tell), Mutex::new(Some(told)));
        let checked = first_wrong(threads(2), &[0, 1], |one| {
            if *one == 1 {
                return tell.lock().unwrap().send(()).map_err(|_| "nobody waits");
            }
            let told = told.lock().unwrap().take().unwrap();
            told.recv_timeout(Duration::from_secs(20))
                .map_err(|_| "the other one was not looked at meanwhile")
        });
        assert_eq!(checked, Ok(()));
    }

    #[test]
    fn the_first_that_is_wrong_is_told_even_if_a_later_one_was_faster() {
        let both = Barrier::new(2);
        let wrong = first_wrong(threads(2), &[0, 1, 2, 3], |one| {
            if *one < 2 {
                both.wait();
            }
            if *one == 3 { Ok(()) } else { Err(*one) }
        });
        assert_eq!(wrong, Err(0));
        assert_eq!(first_wrong(threads(5), &[1, 2, 3], |_| Ok::<_, ()>(())), Ok(()));
        assert_eq!(first_wrong(threads(5), &[], |_: &u8| Err(())), Ok(()));
    }
}
