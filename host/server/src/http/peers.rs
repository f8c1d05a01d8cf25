//! How many connections each peer has: one that opens them by the thousand must not have all places.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Connections by peer.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct PeerPlace {
    peer: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Peers {
    /// So many for each.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            open: Arc::default(),
        }
    }

    /// A place for one more connection of a peer, if there is one.
    pub(super) fn place(&self, address: IpAddr) -> Option<PeerPlace> {
        let peer = peer_of(address);
        let mut open = self.open.lock();
        let count = open.entry(peer).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(open);
        let open = Arc::clone(&self.open);
        Some(PeerPlace { peer, open })
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

/// Who an address is: of IPv6 its network of 64 bits, which is one customer's.
fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(peers: &Peers, address: &str) -> Option<PeerPlace> {
        peers.place(address.parse().unwrap())
    }

    #[test]
    fn a_peer_has_its_share_and_leaves_the_rest() {
        let peers = Peers::new(2);
        let mut held: Vec<_> = ["192.0.2.1", "::ffff:192.0.2.1"]
            .map(|address| place(&peers, address).unwrap())
            .into();
        assert!(place(&peers, "192.0.2.1").is_none());
        held.push(place(&peers, "192.0.2.2").unwrap());
        held.remove(0);
        held.push(place(&peers, "192.0.2.1").unwrap());
        drop(held);
        assert!(peers.open.lock().is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_peer() {
        let peers = Peers::new(1);
        let _held = place(&peers, "2001:db8:1:2::1").unwrap();
        assert!(place(&peers, "2001:db8:1:2:ffff::9").is_none());
        assert!(place(&peers, "2001:db8:1:3::1").is_some());
    }
}
