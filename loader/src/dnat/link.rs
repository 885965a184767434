// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A device's link type -> how many bytes of a frame come before the IP header, or why its frames cannot be read.

/// Bytes before the IP header on devices of type `arphrd` (`ARPHRD_*` of include/uapi/linux/if_arp.h), as tc programs see
/// frames in both directions.
///
/// # Errors
/// What is in the way.
pub fn header_len(arphrd: u16) -> Result<u32, &'static str> {
    match arphrd {
        ETHER | LOOPBACK => Ok(14),
        PPP | RAWIP | NONE => Ok(0),
        // The kernel sets the start of an arriving frame to the outer header, that of a leaving one to the inner.
        TUNNEL | TUNNEL6 | SIT | IPGRE | IP6GRE => {
            Err("frames of tunnels start with the outer header one way and without it the other way")
        }
        INFINIBAND => Err("InfiniBand has another link-layer header one way than the other way"),
        IEEE80211 | IEEE80211_PRISM | IEEE80211_RADIOTAP => {
            Err("a monitor device carries no traffic of its own")
        }
        CAN | NETLINK | VSOCKMON => Err("such devices carry no IP"),
        _ => Err("how its frames start is not known"),
    }
}

/// Ethernet: also bridges, bonds, VLAN devices, macvlan, veth, tap, dummy, wireless stations.
const ETHER: u16 = 1;
/// InfiniBand.
const INFINIBAND: u16 = 32;
/// Controller area network.
const CAN: u16 = 280;
/// Point-to-point protocol; the kernel strips its header before, and adds it after.
const PPP: u16 = 512;
/// Mobile modems.
const RAWIP: u16 = 519;
/// IPIP, and `ip6tnl`.
const TUNNEL: u16 = 768;
const TUNNEL6: u16 = 769;
/// `lo`: framed like Ethernet.
pub const LOOPBACK: u16 = 772;
/// IPv6 in IPv4.
const SIT: u16 = 776;
/// GRE over IPv4.
const IPGRE: u16 = 778;
const IEEE80211: u16 = 801;
const IEEE80211_PRISM: u16 = 802;
const IEEE80211_RADIOTAP: u16 = 803;
/// GRE over IPv6.
const IP6GRE: u16 = 823;
const NETLINK: u16 = 824;
const VSOCKMON: u16 = 826;
/// tun, WireGuard.
const NONE: u16 = 0xfffe;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_type_has_a_length_or_a_reason() {
        let read: Vec<(u16, u32)> =
            (0..=u16::MAX).filter_map(|kind| Some((kind, header_len(kind).ok()?))).collect();
        assert_eq!(read, [(1, 14), (512, 0), (519, 0), (772, 14), (65534, 0)]);
        assert!(header_len(801).unwrap_err().contains("monitor"));
        assert_eq!(header_len(7), Err("how its frames start is not known"));
    }
}
