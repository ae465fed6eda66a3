//! Whose address a request comes from.
//!
//! `X-Forwarded-For` is believed only as far as proxies of our own wrote it: it is read from its end, and the first
//! address that is no proxy of ours is the client's. What stands before was written by the client itself.

use std::net::{IpAddr, Ipv6Addr};

use actix_web::http::header::HeaderMap;
use ipnet::IpNet;

/// The proxies before this engine.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Proxies in these networks, each as `10.0.0.0/8` or a single address.
    pub fn new(networks: &[String]) -> Result<Self, String> {
        let network = |text: &String| {
            let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            parsed.map_err(|_| {
                format!("`{text}` is no network; write 10.0.0.0/8, 2001:db8::/32 or one address")
            })
        };
        networks.iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client behind the connection of `peer`.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.is_ours(client) {
            return client;
        }
        let lines: Vec<&str> =
            headers.get_all("x-forwarded-for").filter_map(|line| line.to_str().ok()).collect();
        for text in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            // Behind something unreadable anybody may have written anything: the last proxy known stands for it.
            let Ok(address) = text.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
            if !self.is_ours(client) {
                break;
            }
        }
        client
    }
}

/// What of an address is counted. Whoever has one IPv6 address has a network of 2^64 of them.
pub(crate) fn counted_as(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).octets()
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_forwarded_address_is_believed_only_from_proxies_of_ours() {
        let proxies = Proxies::new(&["10.0.0.0/8".to_owned(), "192.0.2.7".to_owned()]).unwrap();
        for (label, peer, forwarded, client) in [
            ("no proxy", "203.0.113.9", vec![], "203.0.113.9"),
            ("a stranger's own word", "203.0.113.9", vec!["198.51.100.1"], "203.0.113.9"),
            ("one proxy", "10.1.2.3", vec!["203.0.113.9"], "203.0.113.9"),
            ("two proxies", "10.1.2.3", vec!["203.0.113.9, 192.0.2.7"], "203.0.113.9"),
            ("a forged beginning", "10.1.2.3", vec!["1.1.1.1, 203.0.113.9, 10.9.9.9"], "203.0.113.9"),
            ("two lines", "10.1.2.3", vec!["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
            ("nobody behind the proxy", "10.1.2.3", vec![], "10.1.2.3"),
            ("rubbish", "10.1.2.3", vec!["203.0.113.9, unknown"], "10.1.2.3"),
            ("all ours", "10.1.2.3", vec!["10.4.4.4, 10.5.5.5"], "10.4.4.4"),
            ("mapped", "::ffff:10.1.2.3", vec!["203.0.113.9"], "203.0.113.9"),
        ] {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append(HeaderName::from_static("x-forwarded-for"), HeaderValue::from_static(line));
            }
            assert_eq!(proxies.client(peer.parse().unwrap(), &headers).to_string(), client, "{label}");
        }
        assert!(Proxies::new(&["10.0.0.0/33".to_owned()]).unwrap_err().contains("10.0.0.0/33"));
    }

    #[test]
    fn an_ipv6_network_of_one_household_counts_as_one() {
        let counted = |text: &str| counted_as(text.parse().unwrap());
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), counted("2001:db8:1:2::1"));
        assert_ne!(counted("2001:db8:1:2::1"), counted("2001:db8:1:3::1"));
        assert_ne!(counted("192.0.2.1"), counted("192.0.2.2"));
    }
}
