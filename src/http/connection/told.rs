//! What a connection is told: by the round over all connections, and by a response.
//!
//! Owns: [`Told`], which keeps the last word until the connection has received it. Does not own: what it does then (`connection`).

use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;

/// What a connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    /// Nobody has asked anything for long, or somebody is waited for in vain: to be looked at once more, as it may
    /// have moved since. First in the order, as it is told again at the next round.
    Stands,
    /// The client is to go elsewhere when what is under way is done.
    MoveOn,
    /// It is to end, in good order.
    End,
}

/// What a connection was told and has not heard yet: of several words the last in their order.
#[derive(Debug, Default)]
pub(super) struct Told {
    word: Mutex<Option<Word>>,
    listener: AtomicWaker,
}

impl Told {
    pub(super) fn tell(&self, word: Word) {
        let mut told = self.word.lock();
        *told = (*told).max(Some(word));
        drop(told);
        self.listener.wake();
    }

    /// What was told since it was asked for last.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Word> {
        self.listener.register(cx.waker());
        self.word.lock().take().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_connection_hears_the_word_that_is_not_told_again_and_that_once() {
        let cx = Context::from_waker(Waker::noop());
        for (words, heard) in [
            ([Word::End, Word::MoveOn], Word::End),
            ([Word::MoveOn, Word::Stands], Word::MoveOn),
            ([Word::Stands, Word::Stands], Word::Stands),
        ] {
            let told = Told::default();
            assert_eq!(told.poll(&cx), Poll::Pending);
            words.into_iter().for_each(|word| told.tell(word));
            assert_eq!(told.poll(&cx), Poll::Ready(heard), "{words:?}");
            assert_eq!(told.poll(&cx), Poll::Pending);
        }
    }
}
