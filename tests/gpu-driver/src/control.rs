//! What a test tells the loaded driver, and asks it: which call is to fail, what is alive.
//!
//! The functions at the end are the driver's side, in the library that is loaded; [`Control`] finds them there.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};

use libloading::Library;

use crate::calls::Code;
use crate::state::{DEFAULT_STREAM, DEVICES, State};

/// Which call is to fail, and how often each was made.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    planned: Option<(String, u64, Code)>,
    made: BTreeMap<&'static str, u64>,
}

impl Faults {
    /// Counts a call; how it is to fail.
    pub(crate) fn strikes(&mut self, name: &'static str) -> Option<Code> {
        let made = self.made.entry(name).or_default();
        *made += 1;
        let (planned, number, code) = self.planned.as_ref()?;
        (planned == name && number == made).then_some(*code)
    }
}

/// What was made and not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "each counts what its name says")]
pub struct Alive {
    pub contexts: usize,
    pub streams: usize,
    pub events: usize,
    pub allocations: usize,
    pub registrations: usize,
    pub opened: usize,
    /// Host memory that was unregistered while a copy needed it, ever.
    pub misuses: usize,
    /// Calls for many copies at once, ever.
    pub batches: usize,
}

/// The loaded stand-in.
#[derive(Debug)]
pub struct Control {
    library: Library,
}

impl Control {
    /// Of this process: it must have been started on the [`crate::stage`].
    #[must_use]
    pub fn of_this_process() -> Self {
        // SAFETY: the stand-in does nothing when it is loaded.
        let library =
            unsafe { Library::new("libcuda.so") }.expect("a process started with the stand-in on its library path");
        Self { library }
    }

    /// The `number`-th call of this name from now on fails with `code`.
    pub fn fail(&self, call: &str, number: u64, code: i32) {
        let call = CString::new(call).unwrap();
        // SAFETY: the function below, of this type.
        unsafe {
            self.library.get::<extern "C" fn(*const c_char, u64, c_int)>(b"weft_stand_in_fail").unwrap()(
                call.as_ptr(),
                number,
                code,
            )
        };
    }

    /// No call fails.
    pub fn fail_nothing(&self) {
        self.fail("", 0, 0);
    }

    /// How often each call was made since the last [`Self::fail`].
    #[must_use]
    pub fn calls(&self) -> Vec<(String, u64)> {
        let mut text = vec![0_u8; 1 << 16];
        // SAFETY: the function below, of this type; it writes at most as many bytes.
        unsafe {
            self.library.get::<unsafe extern "C" fn(*mut u8, usize)>(b"weft_stand_in_calls").unwrap()(
                text.as_mut_ptr(),
                text.len(),
            )
        };
        let text = CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap();
        let call = |line: &str| line.split_once(' ').map(|(name, made)| (name.to_owned(), made.parse().unwrap()));
        text.lines().filter_map(call).collect()
    }

    /// What is alive.
    #[must_use]
    pub fn alive(&self) -> Alive {
        let mut alive = Alive::default();
        // SAFETY: the function below, of this type.
        unsafe { self.library.get::<extern "C" fn(&mut Alive)>(b"weft_stand_in_alive").unwrap()(&mut alive) };
        alive
    }

    /// Sets what the driver says of itself: version, devices, and whether read-only mappings can be registered.
    pub fn pretend(&self, version: i32, devices: i32, read_only: bool) {
        // SAFETY: the function below, of this type.
        unsafe {
            self.library.get::<extern "C" fn(c_int, c_int, c_int)>(b"weft_stand_in_pretend").unwrap()(
                version,
                devices,
                read_only.into(),
            )
        };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn weft_stand_in_fail(call: *const c_char, number: u64, code: c_int) {
    // SAFETY: a string of the caller's, above.
    let call = unsafe { CStr::from_ptr(call) }.to_str().unwrap().to_owned();
    State::lock().faults =
        Faults { planned: (!call.is_empty()).then_some((call, number, code)), made: BTreeMap::new() };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn weft_stand_in_calls(text: *mut u8, len: usize) {
    let lines: String = State::lock().faults.made.iter().map(|(name, made)| format!("{name} {made}\n")).collect();
    assert!(lines.len() < len, "room for the names of all calls");
    // SAFETY: the caller has `len` bytes, which are zero.
    unsafe { std::ptr::copy_nonoverlapping(lines.as_ptr(), text, lines.len()) };
}

#[unsafe(no_mangle)]
extern "C" fn weft_stand_in_alive(alive: &mut Alive) {
    let state = State::lock();
    let (allocations, opened) = state.memory.count();
    *alive = Alive {
        contexts: state.contexts.iter().sum(),
        streams: state.streams.keys().filter(|stream| **stream != DEFAULT_STREAM).count(),
        events: state.events.len(),
        allocations,
        registrations: state.memory.registrations.len(),
        opened,
        misuses: state.misuses,
        batches: state.batches,
    };
}

#[unsafe(no_mangle)]
extern "C" fn weft_stand_in_pretend(version: c_int, devices: c_int, read_only: c_int) {
    let mut state = State::lock();
    state.version = version;
    state.devices = devices.min(DEVICES as c_int);
    state.read_only_registration = read_only != 0;
}
