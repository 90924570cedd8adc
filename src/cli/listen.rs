//! Addresses to listen at, as people write them.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

/// Reads an address with its port. `localhost` is 127.0.0.1; without a host it is every IPv4 address of the machine, as
/// 0.0.0.0 is; other names are looked up, and have to be of this machine.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let no_address = |why: String| {
        format!(
            "{why}; an address is such as 127.0.0.1:8080, localhost:8080, [::1]:8080, or :8080 for every IPv4 address"
        )
    };
    if text.contains("://") {
        return Err(no_address("that is a URL".to_owned()));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| no_address("the port is missing".to_owned()))?;
    let port: u16 = port.parse().map_err(|_| no_address(format!("{port:?} is no port from 0 to 65535")))?;
    match host {
        "" => Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        // Wherever names are looked up, or are not.
        host if host.eq_ignore_ascii_case("localhost") => Ok((Ipv4Addr::LOCALHOST, port).into()),
        host if host.contains(':') => Err(no_address("an IPv6 address needs brackets".to_owned())),
        host => {
            let found = (host, port)
                .to_socket_addrs()
                .map_err(|error| no_address(format!("{host:?} is not known: {error}")))?;
            let mut found: Vec<SocketAddr> = found.collect();
            found.sort_by_key(SocketAddr::is_ipv6);
            found.first().copied().ok_or_else(|| no_address(format!("{host:?} has no address")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_name_and_need_no_host() {
        for (text, address) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("LocalHost:1", "127.0.0.1:1"),
            (":8080", "0.0.0.0:8080"),
            ("0.0.0.0:8080", "0.0.0.0:8080"),
        ] {
            assert_eq!(parse_listen(text), Ok(address.parse().expect("an address")), "{text}");
        }
        for (text, why) in [
            ("8080", "the port is missing"),
            ("", "the port is missing"),
            ("localhost", "the port is missing"),
            ("localhost:", "is no port"),
            ("localhost:http", "is no port"),
            (":65536", "is no port"),
            ("::1:8080", "brackets"),
            ("no.such.host.invalid:80", "is not known"),
            ("http://127.0.0.1:8080", "is a URL"),
        ] {
            let error = parse_listen(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
