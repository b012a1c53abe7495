//! Registering the arena: both mappings, or what can be had, or nothing, and always the right bytes.

use weft_attach::SlotIndex;
use weft_gpu_driver::control::Control;
use weft_gpu_driver::stage::on_stage;

use crate::engine::{self, Engine, PAGE_BYTES, block, row, value};

/// Loads a block and stores it again; how many registrations there are meanwhile.
fn registrations_of_a_round_trip(control: &Control) -> (bool, usize) {
    let engine = Engine::new().unwrap();
    let copier = engine.copier().unwrap();
    let (node, mapped) = engine::arena();
    let pinned = copier.pin(&mapped);
    assert_eq!(copier.pin(&mapped), pinned, "the second time nothing is done");
    let blocks = engine::stored(&node, &mapped, 1);
    copier.load([row([1, 2])].into_iter().zip(blocks).collect(), None).unwrap().wait().unwrap();
    assert_eq!(engine.page(0, 2).unwrap(), [value(0, 0, 1); PAGE_BYTES]);
    let mut slot = mapped.write(SlotIndex(1)).unwrap();
    copier.store(&mut [(row([1, 2]), &mut slot)], None).unwrap();
    assert_eq!(*slot, *block(0));
    drop(slot);
    let registrations = control.alive().registrations;
    drop(copier);
    assert_eq!(control.alive().registrations, 0);
    (pinned, registrations)
}

#[test]
fn both_mappings_are_registered_or_the_writable_one_stands_in_or_neither() {
    on_stage("pins::both_mappings_are_registered_or_the_writable_one_stands_in_or_neither", || {
        let control = Control::of_this_process();
        assert_eq!(registrations_of_a_round_trip(&control), (true, 2));
        // A device that registers no read-only memory reads through the writable mapping.
        control.pretend(12_080, 2, false);
        assert_eq!(registrations_of_a_round_trip(&control), (true, 1));
        control.pretend(12_080, 2, true);
        control.fail("cuMemHostRegister_v2", 2, 2);
        assert_eq!(registrations_of_a_round_trip(&control), (true, 1));
        control.fail("cuMemHostRegister_v2", 1, 2);
        assert_eq!(registrations_of_a_round_trip(&control), (false, 1));
    });
}

#[test]
fn regions_of_daemons_that_are_gone_are_let_go() {
    on_stage("pins::regions_of_daemons_that_are_gone_are_let_go", || {
        let control = Control::of_this_process();
        let engine = Engine::new().unwrap();
        let copier = engine.copier().unwrap();
        let arenas = [engine::arena(), engine::arena(), engine::arena(), engine::arena()];
        for (_, mapped) in &arenas {
            assert!(copier.pin(mapped));
        }
        assert_eq!(control.alive().registrations, 4);
    });
}
