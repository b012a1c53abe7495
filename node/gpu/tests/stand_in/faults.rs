//! Every call of the driver fails once, each time it is made: an error or the right bytes, and nothing left behind.

use weft_attach::SlotIndex;
use weft_gpu::{GpuError, ipc};
use weft_gpu_driver::control::{Alive, Control};
use weft_gpu_driver::stage::on_stage;

use crate::engine::{self, Engine, PAGE_BYTES, block, row, value};

/// All that is done with a GPU. Where it is done, bytes are right.
fn everything() -> Result<(), GpuError> {
    let engine = Engine::new()?;
    let copier = engine.copier()?;
    let (node, mapped) = engine::arena();
    copier.pin(&mapped);
    engine.compute(0, 3, 99)?;
    let ready = engine.ready()?;
    let blocks = engine::stored(&node, &mapped, 1);
    let arriving = copier.load([row([3, 4])].into_iter().zip(blocks).collect(), Some(ready.as_engine()))?;
    arriving.wait_layer(0, engine.stream())?;
    let read = engine.attend(0, 3)?;
    assert_eq!(read, [value(0, 0, 0); PAGE_BYTES]);
    while !arriving.is_done()? {}
    arriving.wait()?;
    let mut slot = mapped.write(SlotIndex(1)).unwrap();
    copier.store(&mut [(row([3, 4]), &mut slot)], Some(ready.as_engine()))?;
    assert_eq!(*slot, *block(0));
    drop(slot);
    engine.layers[0].write(0, &[1; PAGE_BYTES])?;

    let to_node = ipc::Ready::new(&engine.gpu)?;
    to_node.record_on(engine.stream())?;
    ipc::export(copier.cache(), &to_node)?;
    Ok(())
}

/// Has each call of `act` fail in turn; how many that were.
pub(crate) fn walk(control: &Control, act: impl Fn() -> Result<(), GpuError>) -> usize {
    control.fail_nothing();
    act().unwrap();
    let before = control.alive();
    let calls: Vec<_> =
        control.calls().into_iter().flat_map(|(name, made)| (1..=made).map(move |at| (name.clone(), at))).collect();
    for (name, number) in &calls {
        control.fail(name, *number, 999);
        match act() {
            Err(GpuError::Refused(refused)) => assert_eq!((refused.call, refused.code), (name.as_str(), 999)),
            // A cache that cannot be looked at is none; a device that cannot be asked is absent.
            Err(GpuError::Cache(_) | GpuError::Absent(_)) | Ok(()) => {}
            Err(other) => panic!("{name} {number}: {other}"),
        }
        let left = control.alive();
        assert_eq!(left, Alive { batches: left.batches, ..before }, "{name} {number} failed");
    }
    control.fail_nothing();
    calls.len()
}

#[test]
fn every_call_may_fail() {
    on_stage("faults::every_call_may_fail", || {
        let control = Control::of_this_process();
        let batched = walk(&control, everything);
        control.pretend(12_000, 2, true);
        let single = walk(&control, everything);
        assert!(batched > 100 && single > batched, "{batched} failures, {single} without batches");
        assert_eq!(control.alive(), Alive { batches: control.alive().batches, ..Alive::default() });
    });
}
