//! Whether a process listens for datagrams, seen from outside: a packet sent too early would be waited for, and count.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context;

/// Whether somebody has bound this address.
pub(crate) fn listens(addr: SocketAddr) -> anyhow::Result<bool> {
    let path = "/proc/net/udp";
    let table = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(lists(&table, addr))
}

/// The kernel's table has a line a socket; the second word is its address, as the processor has it, and its port.
fn lists(table: &str, addr: SocketAddr) -> bool {
    let IpAddr::V4(ip) = addr.ip() else { return false };
    let word =
        if cfg!(target_endian = "big") { u32::from_be_bytes(ip.octets()) } else { u32::from_le_bytes(ip.octets()) };
    let wanted = format!("{word:08X}:{:04X}", addr.port());
    table.lines().any(|line| line.split_whitespace().nth(1) == Some(&wanted))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_bound_socket_is_seen_and_one_that_was_let_go_is_not() {
        let socket = UdpSocket::bind("127.0.77.2:0").unwrap();
        let addr = socket.local_addr().unwrap();
        assert!(listens(addr).unwrap());
        drop(socket);
        assert!(!listens(addr).unwrap());
    }
}
