//! What the hardware and plain peers reach: the limits that benches compare with.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::measure::Effort;

/// Copies `bytes` from memory to memory: bytes a second. Both sides are twice the size of any last-level cache there is.
pub(crate) fn memcpy(effort: Effort, bytes: usize) -> f64 {
    let from = vec![1_u8; bytes];
    let mut to = vec![0_u8; bytes];
    effort.rate(|| {
        black_box(&mut to).copy_from_slice(black_box(&from));
        bytes
    })
}

/// One load from memory that depends on the load before it, in seconds: a walk in random order over `bytes`.
pub(crate) fn memory_latency(effort: Effort, bytes: usize) -> f64 {
    const STEPS: usize = 1 << 16;
    let lines = bytes / 64;
    let mut order: Vec<usize> = (0..lines).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
    // One word a cache line, each naming the next line of one cycle through all of them.
    let mut next = vec![[0_usize; 8]; lines];
    for (position, line) in order.iter().enumerate() {
        next[*line][0] = order[(position + 1) % lines];
    }
    let mut at = 0;
    let loads_per_s = effort.rate(|| {
        for _ in 0..STEPS {
            at = black_box(next[at][0]);
        }
        STEPS
    });
    1.0 / loads_per_s
}

/// One TCP connection over loopback, a thread on each end: bytes a second.
pub(crate) fn tcp_loopback(effort: Effort) -> io::Result<f64> {
    const WRITE_BYTES: usize = 1 << 20;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let receiver = thread::spawn(move || -> io::Result<f64> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; WRITE_BYTES];
        let (began, mut received) = (Instant::now(), 0_usize);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(received as f64 / began.elapsed().as_secs_f64()),
                bytes => received += bytes,
            }
        }
    });
    let mut stream = TcpStream::connect(addr)?;
    let (buffer, began) = (vec![1; WRITE_BYTES], Instant::now());
    while began.elapsed() < 5 * effort.round() {
        stream.write_all(&buffer)?;
    }
    drop(stream);
    receiver.join().map_err(|_| io::Error::other("the receiving thread panicked"))?
}
