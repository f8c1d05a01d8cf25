//! Which addresses plugins may reach: public ones, and the networks that the operator names.
//!
//! What counts as public follows IANA's special-purpose address registries (RFC 6890), read strictly:
//! what is in doubt is refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A network, such as `10.1.2.0/24` or `fd12:3456::/48`. One address alone is a network too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix_bits: u8,
}

/// A text that is no network.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a network such as 10.1.2.0/24")]
pub struct InvalidNetwork(String);

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let apart = u32::from(base) ^ u32::from(address);
                apart.leading_zeros() >= u32::from(self.prefix_bits)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let apart = u128::from(base) ^ u128::from(address);
                apart.leading_zeros() >= u32::from(self.prefix_bits)
            }
            _ => false,
        }
    }

    const fn v4(base: [u8; 4], prefix_bits: u8) -> Self {
        let [a, b, c, d] = base;
        Self {
            base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            prefix_bits,
        }
    }

    /// By its first two groups; the other six are zero.
    const fn v6(first: u16, second: u16, prefix_bits: u8) -> Self {
        Self {
            base: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)),
            prefix_bits,
        }
    }
}

/// The network of one address.
impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self {
            base: address,
            prefix_bits: if address.is_ipv4() { 32 } else { 128 },
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.to_owned());
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix)),
            None => (text, None),
        };
        let mut network = Self::from(base.parse::<IpAddr>().map_err(|_| invalid())?);
        if let Some(prefix) = prefix {
            let prefix_bits = prefix.parse().map_err(|_| invalid())?;
            if prefix_bits > network.prefix_bits {
                return Err(invalid());
            }
            network.prefix_bits = prefix_bits;
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix_bits)
    }
}

/// What is never reached unless the operator names it.
const SPECIAL_V4: &[Network] = &[
    Network::v4([0, 0, 0, 0], 8),  // "this network"; 0.0.0.0 is this machine
    Network::v4([10, 0, 0, 0], 8), // private
    Network::v4([100, 64, 0, 0], 10), // carriers' NAT; Alibaba Cloud's metadata is 100.100.100.200
    Network::v4([127, 0, 0, 0], 8), // loopback
    Network::v4([168, 63, 129, 16], 32), // public by number, but Azure's own service beside each machine
    Network::v4([169, 254, 0, 0], 16),   // link-local, where most clouds have their metadata
    Network::v4([172, 16, 0, 0], 12),    // private
    Network::v4([192, 0, 0, 0], 24),     // IETF protocols; Oracle Cloud's metadata was 192.0.0.192
    Network::v4([192, 0, 2, 0], 24),     // documentation
    Network::v4([192, 88, 99, 0], 24),   // 6to4 relays
    Network::v4([192, 168, 0, 0], 16),   // private
    Network::v4([198, 18, 0, 0], 15),    // benchmarks
    Network::v4([198, 51, 100, 0], 24),  // documentation
    Network::v4([203, 0, 113, 0], 24),   // documentation
    Network::v4([224, 0, 0, 0], 4),      // multicast
    Network::v4([240, 0, 0, 0], 4),      // reserved, and broadcast
];

/// The only part of IPv6 that is given out as public: outside it are loopback, unique-local (AWS'
/// metadata fd00:ec2::254 with them), link-local, multicast and the IPv4-compatible form.
const PUBLIC_V6: Network = Network::v6(0x2000, 0, 3);

/// Inside [`PUBLIC_V6`], but not public.
const SPECIAL_V6: &[Network] = &[
    Network::v6(0x2001, 0, 23),     // IETF protocols, Teredo with them
    Network::v6(0x2001, 0xdb8, 32), // documentation
    Network::v6(0x2002, 0, 16),     // 6to4: any IPv4 address in disguise
    Network::v6(0x3fff, 0, 20),     // documentation
];

/// NAT64's well-known prefix: the last four bytes are the IPv4 address that is meant. Networks without
/// IPv4 reach the whole of it so; local-use prefixes (64:ff9b:1::/48) are refused.
const NAT64: Network = Network::v6(0x64, 0xff9b, 96);

/// Decides which addresses may be connected to.
#[derive(Debug, Default)]
pub struct AddressPolicy {
    allowed: Vec<Network>,
}

impl AddressPolicy {
    /// Public addresses and these networks.
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { allowed }
    }

    /// Whether an address may be connected to.
    pub fn permits(&self, address: IpAddr) -> bool {
        // `::ffff:10.0.0.1` is 10.0.0.1 on the wire.
        let address = address.to_canonical();
        is_public(address) || self.allowed.iter().any(|network| network.contains(address))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => !SPECIAL_V4.iter().any(|network| network.contains(address)),
        IpAddr::V6(v6) if NAT64.contains(address) => {
            let [.., a, b, c, d] = v6.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(_) => {
            PUBLIC_V6.contains(address)
                && !SPECIAL_V6.iter().any(|network| network.contains(address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(addresses: &[&str]) {
        let policy = AddressPolicy::default();
        for text in addresses {
            let address: IpAddr = text.parse().expect("an address");
            assert!(!policy.permits(address), "{text}");
        }
    }

    #[track_caller]
    fn permitted(policy: &AddressPolicy, addresses: &[&str]) {
        for text in addresses {
            let address: IpAddr = text.parse().expect("an address");
            assert!(policy.permits(address), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_permitted() {
        let bounds = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2400:3200::1",
            "2606:4700:4700::1111",
        ];
        permitted(&AddressPolicy::default(), &bounds);
    }

    #[test]
    fn loopback_is_refused() {
        refused(&["127.0.0.1", "127.255.255.254", "::1"]);
    }

    #[test]
    fn unspecified_addresses_that_mean_this_machine_are_refused() {
        refused(&["0.0.0.0", "0.1.2.3", "::"]);
    }

    #[test]
    fn private_networks_are_refused() {
        refused(&["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"]);
        refused(&["fc00::1", "fd12:3456::1", "fec0::1"]);
    }

    #[test]
    fn link_local_addresses_are_refused() {
        refused(&["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1"]);
    }

    #[test]
    fn metadata_services_of_clouds_are_refused() {
        // AWS, Azure, Google and others; AWS over IPv6; Alibaba; Tencent; Oracle; Azure's wire server.
        refused(&["169.254.169.254", "fd00:ec2::254", "100.100.100.200"]);
        refused(&["169.254.0.23", "192.0.0.192", "168.63.129.16"]);
    }

    #[test]
    fn carriers_nat_is_refused() {
        refused(&["100.64.0.1", "100.127.255.255"]);
    }

    #[test]
    fn multicast_broadcast_and_reserved_addresses_are_refused() {
        refused(&[
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
        ]);
        refused(&["ff02::1", "4000::1", "100::1", "5f00::1"]);
    }

    #[test]
    fn documentation_and_benchmark_nets_are_refused() {
        refused(&[
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "198.19.255.255",
        ]);
        refused(&["2001:db8::1", "3fff::1", "2001:2::1"]);
    }

    #[test]
    fn v4_addresses_in_v6_disguise_are_refused() {
        // Mapped, compatible, translated, NAT64, local NAT64, 6to4, Teredo.
        refused(&[
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "::ffff:0:127.0.0.1",
        ]);
        refused(&[
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
        ]);
        refused(&[
            "2002:7f00:1::",
            "2002:808:808::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        ]);
        refused(&["192.88.99.1"]);
    }

    #[test]
    fn nat64_reaches_what_is_public() {
        permitted(
            &AddressPolicy::default(),
            &["64:ff9b::808:808", "::ffff:8.8.8.8"],
        );
    }

    #[test]
    fn networks_that_the_operator_names_are_permitted_and_no_more() {
        let networks = ["10.1.2.0/24", "127.0.0.1", "fd12::/16"];
        let networks = networks.map(|text| text.parse().expect("a network"));
        let policy = AddressPolicy::new(networks.into());
        permitted(&policy, &["10.1.2.0", "10.1.2.255", "127.0.0.1", "fd12::1"]);
        permitted(&policy, &["::ffff:10.1.2.3"]);
        for text in [
            "10.1.3.0",
            "10.1.1.255",
            "127.0.0.2",
            "fd13::1",
            "64:ff9b::10.1.2.3",
        ] {
            assert!(!policy.permits(text.parse().expect("an address")), "{text}");
        }
    }

    #[test]
    fn networks_are_parsed_strictly() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "all",
        ] {
            assert_eq!(
                text.parse::<Network>(),
                Err(InvalidNetwork(text.to_owned()))
            );
        }
        let all: Network = "0.0.0.0/0".parse().expect("a network");
        assert!(all.contains("255.1.2.3".parse().expect("an address")));
        assert_eq!(all.to_string(), "0.0.0.0/0");
    }
}
