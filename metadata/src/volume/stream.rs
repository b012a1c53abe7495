//! A file of the volume as a stream: written and read in order, through a buffer, so that whatever is written or read needs
//! no more memory than the buffer.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::VolumeFile;

/// Bytes that are read or written at a time: enough that a call costs nothing beside the copy.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes a file from its begin.
#[derive(Debug)]
pub(crate) struct FileWriter {
    file: Arc<dyn VolumeFile>,
    written: u64,
    buffer: Vec<u8>,
}

impl FileWriter {
    pub(crate) fn new(file: Arc<dyn VolumeFile>) -> Self {
        Self { file, written: 0, buffer: Vec::with_capacity(BUFFER_BYTES) }
    }

    /// Writes what is buffered, makes everything durable, and says how many bytes there are.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        self.file.sync()?;
        Ok(self.written)
    }
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= BUFFER_BYTES {
            self.file.write_at(self.written, bytes)?;
            self.written += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Reads a file from its begin to its end.
#[derive(Debug)]
pub(crate) struct FileReader {
    file: Arc<dyn VolumeFile>,
    /// Bytes read from the file so far.
    offset: u64,
    len: u64,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were handed out.
    taken: usize,
}

impl FileReader {
    pub(crate) fn new(file: Arc<dyn VolumeFile>) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, offset: 0, len, buffer: Vec::new(), taken: 0 })
    }
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() {
            let next = usize::try_from((self.len - self.offset).min(BUFFER_BYTES as u64)).map_err(io::Error::other)?;
            // Large reads go past the buffer.
            if out.len() >= next {
                self.file.read_at(self.offset, &mut out[..next])?;
                self.offset += next as u64;
                return Ok(next);
            }
            self.buffer.resize(next, 0);
            self.file.read_at(self.offset, &mut self.buffer)?;
            self.offset += next as u64;
            self.taken = 0;
        }
        let count = out.len().min(self.buffer.len() - self.taken);
        out[..count].copy_from_slice(&self.buffer[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{LocalVolume, Volume};

    #[test]
    fn what_is_written_in_any_pieces_is_read_in_any_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let volume = LocalVolume::open(folder.path()).unwrap();
        let bytes: Vec<u8> = (0..3 * BUFFER_BYTES + 17).map(|at| (at % 251) as u8).collect();
        for piece in [1000, BUFFER_BYTES, BUFFER_BYTES + 1, bytes.len()] {
            let mut writer = FileWriter::new(volume.create("f", 0).unwrap());
            bytes.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap());
            assert_eq!(writer.finish().unwrap(), bytes.len() as u64);
            let mut reader = FileReader::new(volume.open("f").unwrap()).unwrap();
            let mut read = vec![0; bytes.len()];
            read.chunks_mut(piece).for_each(|piece| reader.read_exact(piece).unwrap());
            assert!(read == bytes);
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        }
    }
}
