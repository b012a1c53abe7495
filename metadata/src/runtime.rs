//! Where a member's work runs: on tokio, with work that blocks on its pool, or, in a simulation (tests/sim), all of it on one
//! thread with a clock that only waiting moves, and with dice that a seed throws.

use std::future::Future;
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend, TokioRuntime};

/// Tokio, as openraft is to use it: only the dice are ours.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Runtime;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Dice;
    type OneshotSender<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiverError = <TokioRuntime as AsyncRuntime>::OneshotReceiverError;
    type OneshotReceiver<T: OptionalSend> = <TokioRuntime as AsyncRuntime>::OneshotReceiver<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Dice {
        Dice
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        TokioRuntime::oneshot()
    }
}

/// Runs work that blocks off the runtime; what it panics with comes back as an error.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    #[cfg(feature = "testing")]
    if simulated::is() {
        simulated::pause().await;
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}

/// A number drawn at random, or by the simulation.
pub(crate) fn random() -> u64 {
    #[cfg(feature = "testing")]
    if let Some(thrown) = simulated::throw() {
        return thrown;
    }
    rand::random()
}

/// Bytes drawn likewise: from a source fit for secrets, unless a simulation throws the dice.
pub(crate) fn random_bytes<const LEN: usize>() -> [u8; LEN] {
    #[cfg(feature = "testing")]
    if simulated::is() {
        return std::array::from_fn(|_| random().to_le_bytes()[0]);
    }
    let mut bytes = [0; LEN];
    rand::fill(&mut bytes[..]);
    bytes
}

/// What openraft draws its election timeouts from: the thread's generator, or the simulation's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dice;

// openraft speaks rand 0.8.
impl rand_of_openraft::RngCore for Dice {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        random()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for some in bytes.chunks_mut(8) {
            some.copy_from_slice(&self.next_u64().to_le_bytes()[..some.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_of_openraft::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

/// The simulation of this thread, if it runs one.
#[cfg(feature = "testing")]
pub(crate) mod simulated {
    use std::cell::{Cell, RefCell};
    use std::fmt::Debug;
    use std::time::Duration;

    use openraft::EntryPayload;
    use weft_metadata_state::Applied;
    use weft_types::LogTime;

    use crate::raft::{LogId, Types};

    /// Sees everything that moves a state on.
    pub(crate) trait Observer: Debug + Send + Sync {
        /// An entry was applied; `applied` is `None` for openraft's own.
        fn applied(&self, id: LogId, payload: &EntryPayload<Types>, applied: Option<&Applied>, at: LogTime);
        /// A snapshot was taken over.
        fn jumped(&self, id: Option<LogId>);
    }

    thread_local! {
        /// State of its generator.
        static DICE: Cell<Option<u64>> = const { Cell::new(None) };
        /// Who observes the state that is opened next.
        static OBSERVER: RefCell<Option<Box<dyn Observer>>> = const { RefCell::new(None) };
    }

    /// The state that this thread opens next is observed.
    pub(crate) fn observe_next(observer: Box<dyn Observer>) {
        OBSERVER.set(Some(observer));
    }

    /// Who observes the state that is being opened.
    pub(crate) fn take_observer() -> Option<Box<dyn Observer>> {
        OBSERVER.take()
    }

    /// From now on this thread simulates, by this seed; `None`: no longer.
    pub(crate) fn set(seed: Option<u64>) {
        DICE.set(seed);
    }

    /// Whether it does.
    pub(crate) fn is() -> bool {
        DICE.get().is_some()
    }

    /// The next number (SplitMix64), if this thread simulates.
    pub(crate) fn throw() -> Option<u64> {
        let state = DICE.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
        DICE.set(Some(state));
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(mixed ^ (mixed >> 31))
    }

    /// As long as a device takes that is asked for something: mostly a millisecond or two, now and then much more.
    pub(crate) async fn pause() {
        let thrown = throw().unwrap_or_default();
        let millis = if thrown.is_multiple_of(64) { thrown >> 32 & 63 } else { thrown >> 32 & 3 };
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}
