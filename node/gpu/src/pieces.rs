//! Which bytes of the device belong to which bytes of a row: plain arithmetic, so that layouts can be counted without a device.
//!
//! A row is a weft block: layer by layer, in each the engine's pages in order. What lies side by side on both sides is one piece.

use std::ops::Range;

/// Where an engine keeps its pages, and how a row is made of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// Address of page 0 of each layer.
    pub(crate) layers: Vec<u64>,
    /// From one page of a layer to the next.
    pub(crate) page_stride: u64,
    /// Bytes of a page in one layer, side by side.
    pub(crate) page_bytes: usize,
    /// Pages of a row.
    pub(crate) ratio: usize,
    /// Pages there are.
    pub(crate) pages: u32,
}

/// One copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// On the device.
    pub(crate) device: u64,
    /// In the row.
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

impl Shape {
    pub(crate) fn row_bytes(&self) -> usize {
        self.layers.len() * self.ratio * self.page_bytes
    }

    /// Layers that are copied together. One by one, so that the engine computes one while the next is copied; all at once where
    /// a page's layers lie side by side, which is one copy a page instead of one for each layer.
    pub(crate) fn steps(&self) -> usize {
        if self.is_interleaved() { 1 } else { self.layers.len() }
    }

    /// The step that brings a layer.
    pub(crate) fn step_of(&self, layer: usize) -> usize {
        if self.is_interleaved() { 0 } else { layer }
    }

    fn layers_of(&self, step: usize) -> Range<usize> {
        if self.is_interleaved() { 0..self.layers.len() } else { step..step + 1 }
    }

    fn is_interleaved(&self) -> bool {
        let beside = |pair: &[u64]| pair[1].checked_sub(pair[0]) == Some(self.page_bytes as u64);
        self.layers.len() > 1 && self.layers.windows(2).all(beside)
    }

    /// Pieces of a step, for a row whose pages from the `skip`-th on are `pages`.
    pub(crate) fn pieces(&self, step: usize, skip: usize, pages: &[u32]) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(pages.len());
        for layer in self.layers_of(step) {
            for (at, page) in pages.iter().enumerate() {
                let device = self.layers[layer] + u64::from(*page) * self.page_stride;
                let offset = (layer * self.ratio + skip + at) * self.page_bytes;
                match pieces.last_mut() {
                    Some(last) if last.device + last.bytes as u64 == device && last.offset + last.bytes == offset => {
                        last.bytes += self.page_bytes;
                    }
                    _ => pieces.push(Piece { device, offset, bytes: self.page_bytes }),
                }
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(layers: &[u64], page_stride: u64, ratio: usize) -> Shape {
        Shape { layers: layers.to_vec(), page_stride, page_bytes: 100, ratio, pages: 64 }
    }

    #[test]
    fn a_layer_is_a_step_and_pages_side_by_side_are_one_piece() {
        let shape = shape(&[10_000, 50_000], 100, 4);
        assert_eq!((shape.steps(), shape.row_bytes()), (2, 800));
        let pieces = shape.pieces(1, 0, &[3, 4, 9, 2]);
        let piece = |device, offset, bytes| Piece { device, offset, bytes };
        assert_eq!(pieces, [piece(50_300, 400, 200), piece(50_900, 600, 100), piece(50_200, 700, 100)]);
    }

    #[test]
    fn part_of_a_row_goes_to_its_place() {
        let shape = shape(&[0], 128, 4);
        assert_eq!(shape.pieces(0, 2, &[7]), [Piece { device: 7 * 128, offset: 200, bytes: 100 }]);
        assert_eq!(shape.pieces(0, 0, &[]), []);
    }

    #[test]
    fn layers_side_by_side_are_one_step_and_one_piece_a_page() {
        let shape = shape(&[1000, 1100, 1200], 300, 1);
        assert_eq!((shape.steps(), shape.step_of(2)), (1, 0));
        assert_eq!(shape.pieces(0, 0, &[5]), [Piece { device: 2500, offset: 0, bytes: 300 }]);
    }

    /// The counts of docs/gpu.md: a block of 64 tokens, Llama-3.1-8B, bf16, pages of 16 tokens.
    #[test]
    fn pieces_of_real_layouts_are_as_many_as_the_docs_say() {
        let page_bytes = 16 * 8 * 2 * 128 * 2;
        let apart: Vec<u64> = (0..32).map(|layer| layer << 32).collect();
        let by_layer = Shape { layers: apart, page_stride: page_bytes as u64, page_bytes, ratio: 4, pages: 1000 };
        let count = |shape: &Shape, pages: &[u32]| -> usize {
            (0..shape.steps()).map(|step| shape.pieces(step, 0, pages).len()).sum()
        };
        assert_eq!((page_bytes, by_layer.row_bytes()), (65_536, 8 << 20));
        assert_eq!((count(&by_layer, &[1, 5, 3, 8]), count(&by_layer, &[4, 5, 6, 7])), (128, 32));
        let beside = (0..32).map(|layer| layer * page_bytes as u64).collect();
        let by_page = Shape { layers: beside, page_stride: 32 * page_bytes as u64, ratio: 1, ..by_layer };
        assert_eq!(count(&by_page, &[9]), 1);
    }
}
