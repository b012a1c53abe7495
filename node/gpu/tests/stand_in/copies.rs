//! Bytes go where they belong, both ways, by either kind of call, through either kind of memory.

use weft_attach::SlotIndex;
use weft_gpu::{CacheError, Copier, GpuError, Layer, Row};
use weft_gpu_driver::control::{Alive, Control};
use weft_gpu_driver::stage::on_stage;

use crate::engine::{self, Engine, LAYERS, PAGE_BYTES, RATIO, ROW_BYTES, block, row, value};

const ROWS: [[u32; RATIO]; 3] = [[4, 5], [9, 2], [0, 15]];

fn there_and_back(batches: bool, pin: bool) {
    let control = Control::of_this_process();
    control.pretend(if batches { 12_080 } else { 12_070 }, 2, true);
    let before = control.alive();
    let engine = Engine::new().unwrap();
    let copier = engine.copier().unwrap();
    let (node, mapped) = engine::arena();
    if pin {
        assert!(copier.pin(&mapped));
    }
    let blocks = engine::stored(&node, &mapped, ROWS.len());
    let arriving = copier.load(ROWS.map(row).into_iter().zip(blocks).collect(), None).unwrap();
    assert_eq!(arriving.blocks(), ROWS.len());
    arriving.wait().unwrap();
    for (number, pages) in ROWS.iter().enumerate() {
        for (layer, at) in (0..LAYERS).flat_map(|layer| [(layer, 0), (layer, 1)]) {
            assert_eq!(engine.page(layer, pages[at]).unwrap(), [value(number, layer, at); PAGE_BYTES]);
        }
    }
    // What is between pages, and in others, is as it was.
    assert_eq!(engine.page(1, 8).unwrap(), [0; PAGE_BYTES]);

    let mut slots: Vec<_> = (3..6).map(|slot| mapped.write(SlotIndex(slot)).unwrap()).collect();
    let mut rows: Vec<(Row, &mut [u8])> =
        ROWS.map(row).into_iter().zip(slots.iter_mut().map(|slot| &mut **slot)).collect();
    copier.store(&mut rows, None).unwrap();
    for (number, slot) in slots.iter().enumerate() {
        assert_eq!(**slot, *block(number), "block {number}");
    }
    let alive = control.alive();
    assert_eq!((alive.registrations, alive.batches > before.batches), (if pin { 2 } else { 0 }, batches));
    drop((slots, copier, engine));
    assert_eq!(control.alive(), Alive { batches: alive.batches, ..Alive::default() });
}

#[test]
fn blocks_go_there_and_back_in_batches() {
    on_stage("copies::blocks_go_there_and_back_in_batches", || there_and_back(true, true));
}

#[test]
fn blocks_go_there_and_back_one_by_one() {
    on_stage("copies::blocks_go_there_and_back_one_by_one", || there_and_back(false, true));
}

#[test]
fn blocks_go_there_and_back_through_pageable_memory() {
    on_stage("copies::blocks_go_there_and_back_through_pageable_memory", || {
        there_and_back(true, false);
        there_and_back(false, false);
    });
}

#[test]
fn part_of_a_block_leaves_the_rest_of_it() {
    on_stage("copies::part_of_a_block_leaves_the_rest_of_it", || {
        let engine = Engine::new().unwrap();
        let copier = engine.copier().unwrap();
        let second = Row { skip: 1, pages: vec![6] };
        copier.load(vec![(second.clone(), block(0))], None).unwrap().wait().unwrap();
        assert_eq!(engine.page(2, 6).unwrap(), [value(0, 2, 1); PAGE_BYTES]);
        let mut bytes = vec![7; ROW_BYTES];
        copier.store(&mut [(second, &mut bytes)], None).unwrap();
        assert_eq!(bytes[..PAGE_BYTES], [7; PAGE_BYTES]);
        assert_eq!(bytes[PAGE_BYTES..2 * PAGE_BYTES], [value(0, 0, 1); PAGE_BYTES]);
    });
}

#[test]
fn what_is_no_page_or_no_block_is_refused_before_anything_is_copied() {
    on_stage("copies::what_is_no_page_or_no_block_is_refused_before_anything_is_copied", || {
        let engine = Engine::new().unwrap();
        let copier = engine.copier().unwrap();
        let load = |row: Row, bytes: usize| copier.load(vec![(row, vec![1_u8; bytes])], None).map(drop);
        let refused =
            |outcome| matches!(outcome, Err(GpuError::Cache(CacheError::Row { .. } | CacheError::Block { .. })));
        assert!(refused(load(row([16, 0]), ROW_BYTES)));
        assert!(refused(load(Row { skip: 1, pages: vec![1, 2] }, ROW_BYTES)));
        assert!(refused(load(row([1, 2]), ROW_BYTES - 1)));
        assert!(refused(copier.store(&mut [(row([1, 2]), &mut vec![0; ROW_BYTES + 1])], None)));

        // An address of this process, and one page too many.
        let own = [0_u8; 8];
        let host = Layer { address: own.as_ptr().expose_provenance() as u64 };
        let device = Layer { address: engine.layers[0].address() };
        let cache = |layer, pages| {
            weft_gpu::Cache::new(&engine.gpu, &[layer], (pages, PAGE_BYTES, 1024), RATIO).map(Copier::new)
        };
        assert!(matches!(cache(host, 1), Err(GpuError::Cache(CacheError::Memory { .. }))));
        assert!(matches!(cache(device, 17), Err(GpuError::Cache(CacheError::Memory { .. }))));
        assert!(matches!(cache(device, 0), Err(GpuError::Cache(CacheError::Sizes { .. }))));
        assert!(cache(device, 16).is_ok());
    });
}
