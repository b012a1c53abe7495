//! The calls of the driver that weft uses, with results. Raw pointers come in here and nowhere else.
//!
//! cudarc looks each symbol up when it is first called, and panics where there is none: [`missing`] is asked for all of them
//! before anything else, and [`BATCH`] before copies are batched.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;

use cudarc::driver::sys::{self, CUresult};

pub(crate) use sys::{CUcontext, CUevent, CUstream};

use crate::error::Refused;

type Outcome<T> = Result<T, Refused>;

/// What a driver must have.
const NEEDED: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceTotalMem_v2",
    "cuDeviceGetAttribute",
    "cuDeviceGetUuid_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
    "cuGetErrorName",
    "cuStreamCreateWithPriority",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventQuery",
    "cuEventSynchronize",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetAddressRange_v2",
    "cuPointerGetAttribute",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
    "cuMemcpyHtoD_v2",
    "cuMemcpyDtoH_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuIpcGetMemHandle",
    "cuIpcOpenMemHandle_v2",
    "cuIpcCloseMemHandle",
    "cuIpcGetEventHandle",
    "cuIpcOpenEventHandle",
];

/// The call for many copies at once, and the version of the driver that brought it.
const BATCH: (&str, i32) = ("cuMemcpyBatchAsync", 12_080);

/// A stream's copies begin before those of others that wait for the device.
const PRIORITY: c_int = -1;

/// Calls a function of the driver; whoever uses it says what makes the arguments valid.
macro_rules! call {
    ($name:ident($($argument:expr),*)) => {{
        // SAFETY: the symbol is there (see `missing`). Results are written to variables of ours; handles and addresses are valid
        // by the owner that passes them (a stream, an event, a context, memory: each ends with its value), and the driver
        // answers for a device address that is none.
        let code = unsafe { sys::$name($($argument),*) };
        refused(stringify!($name), code)
    }};
}

fn refused(call: &'static str, code: CUresult) -> Outcome<()> {
    if code == CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut name = ptr::null();
    // SAFETY: the symbol is there; the name is a static string of the driver's.
    let named = unsafe {
        let known = sys::cuGetErrorName(code, &raw mut name) == CUresult::CUDA_SUCCESS && !name.is_null();
        known.then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    };
    Err(Refused { call, code: code as u32, name: named.unwrap_or_else(|| "an error it has no name for".to_owned()) })
}

/// Whether there is a driver to load.
pub(crate) fn is_present() -> bool {
    // SAFETY: loading the driver's library runs its initialisers, as the engine's own use of it does.
    unsafe { sys::is_culib_present() }
}

/// A call that the driver is too old for.
pub(crate) fn missing() -> Option<&'static str> {
    NEEDED.iter().copied().find(|name| !has(name))
}

/// Whether it takes many copies at once.
pub(crate) fn batches(version: i32) -> bool {
    version >= BATCH.1 && has(BATCH.0)
}

fn has(name: &str) -> bool {
    // SAFETY: the library is there; the symbol is only looked at.
    unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_ok() }
}

pub(crate) fn init() -> Outcome<()> {
    call!(cuInit(0))
}

pub(crate) fn version() -> Outcome<i32> {
    let mut version = 0;
    call!(cuDriverGetVersion(&raw mut version)).map(|()| version)
}

pub(crate) fn device_count() -> Outcome<c_int> {
    let mut count = 0;
    call!(cuDeviceGetCount(&raw mut count)).map(|()| count)
}

pub(crate) fn device(ordinal: c_int) -> Outcome<c_int> {
    let mut device = 0;
    call!(cuDeviceGet(&raw mut device, ordinal)).map(|()| device)
}

pub(crate) fn device_name(device: c_int) -> Outcome<String> {
    let mut name = [0_u8; 256];
    let len = c_int::try_from(name.len() - 1).expect("256 is an int");
    call!(cuDeviceGetName(name.as_mut_ptr().cast(), len, device))?;
    Ok(CStr::from_bytes_until_nul(&name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
}

pub(crate) fn device_memory(device: c_int) -> Outcome<usize> {
    let mut bytes = 0;
    call!(cuDeviceTotalMem_v2(&raw mut bytes, device)).map(|()| bytes)
}

pub(crate) fn device_uuid(device: c_int) -> Outcome<[u8; 16]> {
    let mut uuid = sys::CUuuid { bytes: [0; 16] };
    call!(cuDeviceGetUuid_v2(&raw mut uuid, device))?;
    Ok(uuid.bytes.map(c_char_to_u8))
}

/// Whether memory can be registered that this process only reads.
pub(crate) fn registers_read_only(device: c_int) -> Outcome<bool> {
    let mut value = 0;
    let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED;
    call!(cuDeviceGetAttribute(&raw mut value, attribute, device)).map(|()| value != 0)
}

pub(crate) fn retain(device: c_int) -> Outcome<CUcontext> {
    let mut context = ptr::null_mut();
    call!(cuDevicePrimaryCtxRetain(&raw mut context, device)).map(|()| context)
}

pub(crate) fn release(device: c_int) -> Outcome<()> {
    call!(cuDevicePrimaryCtxRelease_v2(device))
}

pub(crate) fn push(context: CUcontext) -> Outcome<()> {
    call!(cuCtxPushCurrent_v2(context))
}

pub(crate) fn pop() -> Outcome<()> {
    let mut context = ptr::null_mut();
    call!(cuCtxPopCurrent_v2(&raw mut context))
}

pub(crate) fn stream_create() -> Outcome<CUstream> {
    let mut stream = ptr::null_mut();
    let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
    call!(cuStreamCreateWithPriority(&raw mut stream, flags, PRIORITY)).map(|()| stream)
}

pub(crate) fn stream_destroy(stream: CUstream) -> Outcome<()> {
    call!(cuStreamDestroy_v2(stream))
}

pub(crate) fn stream_synchronize(stream: CUstream) -> Outcome<()> {
    call!(cuStreamSynchronize(stream))
}

pub(crate) fn stream_wait(stream: CUstream, event: CUevent) -> Outcome<()> {
    call!(cuStreamWaitEvent(stream, event, 0))
}

/// Without timing, which nobody reads; between processes if so.
pub(crate) fn event_create(interprocess: bool) -> Outcome<CUevent> {
    let mut event = ptr::null_mut();
    let plain = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
    let flags = if interprocess { plain | sys::CUevent_flags::CU_EVENT_INTERPROCESS as u32 } else { plain };
    call!(cuEventCreate(&raw mut event, flags)).map(|()| event)
}

pub(crate) fn event_destroy(event: CUevent) -> Outcome<()> {
    call!(cuEventDestroy_v2(event))
}

pub(crate) fn event_record(event: CUevent, stream: CUstream) -> Outcome<()> {
    call!(cuEventRecord(event, stream))
}

/// Whether what was before it is done.
pub(crate) fn event_query(event: CUevent) -> Outcome<bool> {
    match call!(cuEventQuery(event)) {
        Err(refused) if refused.code == CUresult::CUDA_ERROR_NOT_READY as u32 => Ok(false),
        outcome => outcome.map(|()| true),
    }
}

pub(crate) fn event_synchronize(event: CUevent) -> Outcome<()> {
    call!(cuEventSynchronize(event))
}

pub(crate) fn alloc(bytes: usize) -> Outcome<u64> {
    let mut address = 0;
    call!(cuMemAlloc_v2(&raw mut address, bytes)).map(|()| address)
}

pub(crate) fn free(address: u64) -> Outcome<()> {
    call!(cuMemFree_v2(address))
}

/// Where the allocation begins that holds an address, and its bytes.
pub(crate) fn allocation_of(address: u64) -> Outcome<(u64, usize)> {
    let (mut base, mut bytes) = (0, 0);
    call!(cuMemGetAddressRange_v2(&raw mut base, &raw mut bytes, address)).map(|()| (base, bytes))
}

/// Whether an address is the device's own memory.
pub(crate) fn is_device_memory(address: u64) -> Outcome<bool> {
    let mut kind = 0_u32;
    let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    call!(cuPointerGetAttribute((&raw mut kind).cast::<c_void>(), attribute, address))?;
    Ok(kind == sys::CUmemorytype::CU_MEMORYTYPE_DEVICE as u32)
}

/// Registers host memory for all contexts of the process.
pub(crate) fn register(base: usize, bytes: usize, read_only: bool) -> Outcome<()> {
    let portable = sys::CU_MEMHOSTREGISTER_PORTABLE;
    let flags = if read_only { portable | sys::CU_MEMHOSTREGISTER_READ_ONLY } else { portable };
    call!(cuMemHostRegister_v2(ptr::without_provenance_mut(base), bytes, flags))
}

pub(crate) fn unregister(base: usize) -> Outcome<()> {
    call!(cuMemHostUnregister(ptr::without_provenance_mut(base)))
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    ToDevice,
    ToHost,
}

/// Begins a copy.
///
/// # Safety
/// The host's bytes are mapped, and nobody else reads (to the host) or writes them, until the stream is behind the copy.
pub(crate) unsafe fn copy(
    direction: Direction,
    device: u64,
    host: usize,
    bytes: usize,
    stream: CUstream,
) -> Outcome<()> {
    match direction {
        Direction::ToDevice => call!(cuMemcpyHtoDAsync_v2(device, ptr::with_exposed_provenance(host), bytes, stream)),
        Direction::ToHost => call!(cuMemcpyDtoHAsync_v2(ptr::with_exposed_provenance_mut(host), device, bytes, stream)),
    }
}

/// Begins many copies, in no order among each other. Where one is refused, some may have begun.
///
/// # Safety
/// As for [`copy`].
pub(crate) unsafe fn copy_batch(
    to: &mut [u64],
    from: &mut [u64],
    bytes: &mut [usize],
    stream: CUstream,
) -> Outcome<()> {
    assert!(to.len() == from.len() && to.len() == bytes.len(), "an address on each side and a length for each copy");
    let nowhere = sys::CUmemLocation { type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_INVALID, id: 0 };
    let mut attributes = sys::CUmemcpyAttributes {
        srcAccessOrder: sys::CUmemcpySrcAccessOrder::CU_MEMCPY_SRC_ACCESS_ORDER_STREAM,
        srcLocHint: nowhere,
        dstLocHint: nowhere,
        flags: 0,
    };
    let (mut of_all, mut failed) = (0, 0);
    call!(cuMemcpyBatchAsync(
        to.as_mut_ptr(),
        from.as_mut_ptr(),
        bytes.as_mut_ptr(),
        to.len(),
        &raw mut attributes,
        &raw mut of_all,
        1,
        &raw mut failed,
        stream
    ))
}

pub(crate) fn copy_on_device(to: u64, from: u64, bytes: usize, stream: CUstream) -> Outcome<()> {
    call!(cuMemcpyDtoDAsync_v2(to, from, bytes, stream))
}

pub(crate) fn fill(to: u64, value: u8, bytes: usize, stream: CUstream) -> Outcome<()> {
    call!(cuMemsetD8Async(to, value, bytes, stream))
}

/// Copies to the device, and returns when the host's bytes may change.
pub(crate) fn write(to: u64, from: &[u8]) -> Outcome<()> {
    call!(cuMemcpyHtoD_v2(to, from.as_ptr().cast(), from.len()))
}

/// Copies from the device, and returns when it is done.
pub(crate) fn read(to: &mut [u8], from: u64) -> Outcome<()> {
    call!(cuMemcpyDtoH_v2(to.as_mut_ptr().cast(), from, to.len()))
}

pub(crate) fn memory_handle(address: u64) -> Outcome<[u8; 64]> {
    let mut handle = sys::CUipcMemHandle { reserved: [0; 64] };
    call!(cuIpcGetMemHandle(&raw mut handle, address))?;
    Ok(handle.reserved.map(c_char_to_u8))
}

pub(crate) fn memory_open(handle: [u8; 64]) -> Outcome<u64> {
    let mut address = 0;
    let handle = sys::CUipcMemHandle { reserved: handle.map(u8_to_c_char) };
    let flags = sys::CUipcMem_flags::CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS as u32;
    call!(cuIpcOpenMemHandle_v2(&raw mut address, handle, flags)).map(|()| address)
}

pub(crate) fn memory_close(address: u64) -> Outcome<()> {
    call!(cuIpcCloseMemHandle(address))
}

pub(crate) fn event_handle(event: CUevent) -> Outcome<[u8; 64]> {
    let mut handle = sys::CUipcEventHandle { reserved: [0; 64] };
    call!(cuIpcGetEventHandle(&raw mut handle, event))?;
    Ok(handle.reserved.map(c_char_to_u8))
}

pub(crate) fn event_open(handle: [u8; 64]) -> Outcome<CUevent> {
    let mut event = ptr::null_mut();
    let handle = sys::CUipcEventHandle { reserved: handle.map(u8_to_c_char) };
    call!(cuIpcOpenEventHandle(&raw mut event, handle)).map(|()| event)
}

/// C's `char` has a sign on one architecture and none on the other.
fn c_char_to_u8(byte: std::ffi::c_char) -> u8 {
    byte as u8
}

fn u8_to_c_char(byte: u8) -> std::ffi::c_char {
    byte as std::ffi::c_char
}
