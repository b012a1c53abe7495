//! Order between the engine's stream and ours. Each wait has its twin: without it, the bytes are wrong.

use weft_attach::SlotIndex;
use weft_gpu_driver::control::Control;
use weft_gpu_driver::stage::on_stage;

use crate::engine::{self, Engine, LAYERS, PAGE_BYTES, ROW_BYTES, block, row, value};

#[test]
fn the_engine_waits_for_a_layer_or_reads_what_was_there() {
    on_stage("order::the_engine_waits_for_a_layer_or_reads_what_was_there", || {
        let engine = Engine::new().unwrap();
        let copier = engine.copier().unwrap();
        let (node, mapped) = engine::arena();
        assert!(copier.pin(&mapped));
        let blocks = engine::stored(&node, &mapped, 1);
        let arriving = copier.load([row([3, 4])].into_iter().zip(blocks).collect(), None).unwrap();
        // The twin: no wait, old bytes.
        assert_eq!(engine.attend(0, 3).unwrap(), [0; PAGE_BYTES]);
        for layer in 0..LAYERS {
            arriving.wait_layer(layer, engine.stream()).unwrap();
            assert_eq!(engine.attend(layer, 3).unwrap(), [value(0, layer, 0); PAGE_BYTES]);
            // The next one is still on its way while this one is computed.
            if layer + 1 < LAYERS {
                assert_eq!(engine.page(layer + 1, 3).unwrap(), [0; PAGE_BYTES]);
                assert!(!arriving.is_done().unwrap());
            }
        }
        while !arriving.is_done().unwrap() {}
    });
}

#[test]
fn a_load_waits_for_the_engines_last_use_of_the_pages_or_changes_them_under_it() {
    on_stage("order::a_load_waits_for_the_engines_last_use_of_the_pages_or_changes_them_under_it", || {
        let engine = Engine::new().unwrap();
        let copier = engine.copier().unwrap();
        let (node, mapped) = engine::arena();
        assert!(copier.pin(&mapped));
        for (waits, pages) in [(true, [1, 2]), (false, [5, 6])] {
            engine.compute(0, pages[0], 99).unwrap();
            let ready = engine.ready().unwrap();
            let blocks = engine::stored(&node, &mapped, 1);
            let rows = [row(pages)].into_iter().zip(blocks).collect();
            let arriving = copier.load(rows, waits.then(|| ready.as_engine())).unwrap();
            arriving.wait().unwrap();
            engine.stream.synchronize().unwrap();
            let expected = if waits { value(0, 0, 0) } else { 99 };
            assert_eq!(engine.page(0, pages[0]).unwrap(), [expected; PAGE_BYTES], "waits: {waits}");
        }
    });
}

#[test]
fn a_store_waits_for_what_the_engine_computes_or_stores_what_was_there() {
    on_stage("order::a_store_waits_for_what_the_engine_computes_or_stores_what_was_there", || {
        let engine = Engine::new().unwrap();
        let copier = engine.copier().unwrap();
        let (_node, mapped) = engine::arena();
        assert!(copier.pin(&mapped));
        for (waits, pages) in [(true, [1, 2]), (false, [5, 6])] {
            engine.compute(2, pages[1], 77).unwrap();
            let ready = engine.ready().unwrap();
            let mut slot = mapped.write(SlotIndex(0)).unwrap();
            copier.store(&mut [(row(pages), &mut slot)], waits.then(|| ready.as_engine())).unwrap();
            let expected = if waits { 77 } else { 0 };
            assert_eq!(slot[ROW_BYTES - PAGE_BYTES..], [expected; PAGE_BYTES], "waits: {waits}");
        }
    });
}

#[test]
fn more_than_may_be_in_flight_waits_for_the_oldest() {
    on_stage("order::more_than_may_be_in_flight_waits_for_the_oldest", || {
        let engine = Engine::new().unwrap();
        // Room for one layer of one block.
        let copier = engine.copier().unwrap().with_in_flight_bytes_max(2 * PAGE_BYTES);
        let (node, mapped) = engine::arena();
        assert!(copier.pin(&mapped));
        let blocks = engine::stored(&node, &mapped, 1);
        let arriving = copier.load([row([3, 4])].into_iter().zip(blocks).collect(), None).unwrap();
        assert_eq!(engine.page(LAYERS - 2, 3).unwrap(), [value(0, LAYERS - 2, 0); PAGE_BYTES]);
        assert_eq!(engine.page(LAYERS - 1, 3).unwrap(), [0; PAGE_BYTES]);
        arriving.wait().unwrap();
    });
}

#[test]
fn what_is_let_go_of_early_is_finished_first() {
    on_stage("order::what_is_let_go_of_early_is_finished_first", || {
        let control = Control::of_this_process();
        let engine = Engine::new().unwrap();
        let copier = engine.copier().unwrap();
        let (node, mapped) = engine::arena();
        assert!(copier.pin(&mapped));
        let blocks = engine::stored(&node, &mapped, 2);
        let arriving = copier.load([row([3, 4]), row([7, 8])].into_iter().zip(blocks).collect(), None).unwrap();
        drop(copier);
        // The arena is unregistered with the last of its copies, and not before.
        drop((arriving, mapped, node));
        assert_eq!(engine.page(2, 8).unwrap(), [value(1, 2, 1); PAGE_BYTES]);
        let alive = control.alive();
        assert_eq!((alive.misuses, alive.registrations), (0, 0));
        assert_eq!(block(1).len(), ROW_BYTES);
    });
}
