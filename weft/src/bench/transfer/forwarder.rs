//! A path with a delay and some loss: datagrams of one client to one server and back, each held for a while or dropped. The
//! kernel of a container has no netem.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How often a direction looks for what came, and for what is due. Timers of sockets count in whole ticks of the kernel.
const LOOK: Duration = Duration::from_micros(50);
/// Datagrams in one direction at a time; what comes beyond is lost, as in a switch. 8 MiB of the largest.
const HELD_MAX: usize = 1024;
const DATAGRAM_MAX: usize = 65_536;

/// Dropping it ends it.
pub(super) struct Forwarder {
    addr: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Forwarder {
    pub(super) fn start(server: SocketAddr, delay: Duration, loss: f64) -> anyhow::Result<Self> {
        let (near, far) = (Arc::new(UdpSocket::bind("127.0.0.1:0")?), Arc::new(UdpSocket::bind("127.0.0.1:0")?));
        far.connect(server)?;
        for socket in [&near, &far] {
            socket.set_nonblocking(true)?;
            for set in [
                rustix::net::sockopt::set_socket_recv_buffer_size_force::<&UdpSocket>,
                rustix::net::sockopt::set_socket_send_buffer_size_force::<&UdpSocket>,
            ] {
                let _ = set(socket, HELD_MAX * DATAGRAM_MAX / 8);
            }
        }
        let forwarder = Self { addr: near.local_addr()?, ended: Arc::default() };
        // Who it is that is answered: the last that was heard.
        let client = Arc::new(Mutex::new(None));
        let ended = &forwarder.ended;
        let there = Way { from: Arc::clone(&near), delay, loss, ended: Arc::clone(ended), random: random(1) };
        let back = Way { from: Arc::clone(&far), delay, loss, ended: Arc::clone(ended), random: random(2) };
        let heard = Arc::clone(&client);
        thread::spawn(move || {
            there.run(|datagram, from| {
                *heard.lock() = Some(from);
                far.send(datagram)
            })
        });
        thread::spawn(move || {
            back.run(|datagram, _| match *client.lock() {
                Some(client) => near.send_to(datagram, client),
                None => Ok(0),
            })
        });
        Ok(forwarder)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn random(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// One direction.
struct Way {
    from: Arc<UdpSocket>,
    delay: Duration,
    loss: f64,
    ended: Arc<AtomicBool>,
    random: ChaCha8Rng,
}

impl Way {
    fn run(mut self, send: impl Fn(&[u8], SocketAddr) -> std::io::Result<usize>) {
        let mut held: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
        let mut spare: Vec<Vec<u8>> = Vec::new();
        let mut buffer = vec![0; DATAGRAM_MAX];
        while !self.ended.load(Ordering::Relaxed) {
            thread::park_timeout(LOOK);
            while let Ok((bytes, from)) = self.from.recv_from(&mut buffer) {
                let kept = held.len() < HELD_MAX && !self.random.random_bool(self.loss);
                if kept {
                    let mut datagram = spare.pop().unwrap_or_default();
                    datagram.clear();
                    datagram.extend_from_slice(&buffer[..bytes]);
                    held.push_back((Instant::now() + self.delay, from, datagram));
                }
                if held.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
                    break;
                }
            }
            while held.front().is_some_and(|(due, ..)| *due <= Instant::now()) {
                let Some((_, from, datagram)) = held.pop_front() else { break };
                // A full socket is a full queue: lost.
                let _ = send(&datagram, from);
                spare.push(datagram);
            }
        }
    }
}
