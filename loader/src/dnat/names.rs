// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! DNS answers that were seen, and hosts files -> the name by which a client knows an address; and a hosts file again.
use super::events::Event;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Names that are kept of all clients, and of one: then its oldest is forgotten.
const MOST: usize = 4096;
const OF_ONE: usize = 256;
/// Behind such a comment is the client whose name it is.
const CLIENT: &str = "client ";

/// Names: those that clients looked up, each for the client that did, and those of a file, which hold for everybody.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// (client, address) to when it was learnt, and the name.
    learnt: BTreeMap<(IpAddr, IpAddr), (u64, String)>,
    /// When it was learnt to what.
    ages: BTreeMap<u64, (IpAddr, IpAddr)>,
    everybody: BTreeMap<IpAddr, String>,
    next: u64,
}

impl Names {
    /// The name by which `client` knows `address`.
    pub fn of(&self, client: IpAddr, address: IpAddr) -> Option<&str> {
        let learnt = self.learnt.get(&(client, address)).map(|(_, name)| name);
        learnt.or_else(|| self.everybody.get(&address)).map(String::as_str)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.learnt.len().saturating_add(self.everybody.len())
    }

    /// Learns from a DNS answer on its way to a client. Whether there is news.
    pub fn hear(&mut self, event: &Event) -> bool {
        let Some(answer) = &event.answer else { return false };
        let client = event.client.ip();
        // All of them are learnt, news or not.
        answer.addresses.iter().filter(|address| self.learn(client, **address, &answer.name)).count() > 0
    }

    /// Whether that is news. What was learnt longest ago is forgotten, of this client first.
    pub fn learn(&mut self, client: IpAddr, address: IpAddr, name: &str) -> bool {
        let news = self.learnt.get(&(client, address)).is_none_or(|(_, known)| known != name);
        self.forget((client, address));
        let lowest: IpAddr = [0; 4].into();
        let of_client = self.learnt.range((client, lowest)..).take_while(|((c, _), _)| *c == client);
        let (count, oldest) =
            of_client.fold((0_usize, None::<(u64, IpAddr)>), |(count, oldest), ((_, a), (age, _))| {
                let older = oldest.is_none_or(|(known, _)| *age < known);
                (count.saturating_add(1), if older { Some((*age, *a)) } else { oldest })
            });
        if let (OF_ONE.., Some((_, oldest))) = (count, oldest) {
            self.forget((client, oldest));
        } else if self.learnt.len() >= MOST {
            let oldest = self.ages.first_key_value().map(|(_, key)| *key);
            oldest.into_iter().for_each(|key| self.forget(key));
        }
        self.learnt.insert((client, address), (self.next, name.to_owned()));
        self.ages.insert(self.next, (client, address));
        self.next = self.next.saturating_add(1);
        news
    }

    fn forget(&mut self, key: (IpAddr, IpAddr)) {
        if let Some((age, _)) = self.learnt.remove(&key) {
            self.ages.remove(&age);
        }
    }

    /// Adds the lines of a hosts file (hosts(5)): an address, its name, others that are passed over, as are link-local addresses
    /// of one device (`fe80::1%eth0`). Anything else is refused, with its line. Where the comment is `client ADDRESS`, the name is
    /// what that client looked up; any other comment is none of ours.
    pub fn read(&mut self, hosts: &str) -> Result<(), String> {
        for (number, line) in (1_u32..).zip(hosts.lines()) {
            let (line, comment) = line.split_once('#').unwrap_or((line, ""));
            let mut words = line.split_whitespace();
            let Some(word) = words.next() else { continue };
            if word.split_once('%').is_some_and(|(address, _)| address.parse::<Ipv6Addr>().is_ok()) {
                continue;
            }
            let address = word.parse::<IpAddr>();
            let address =
                address.map_err(|_| format!("line {number}: '{}' is no address", word.escape_debug()))?;
            let name = words.next().ok_or_else(|| format!("line {number}: {address} has no name"))?;
            let address = address.to_canonical();
            let client = comment.trim().strip_prefix(CLIENT);
            match client.and_then(|client| client.trim().parse::<IpAddr>().ok()) {
                Some(client) => drop(self.learn(client.to_canonical(), address, name)),
                // The first one is the official one.
                None => drop(self.everybody.entry(address).or_insert_with(|| name.to_owned())),
            }
        }
        Ok(())
    }

    /// What was learnt, oldest first, as [`Names::read`] takes it.
    pub fn hosts(&self) -> String {
        let line = |(client, address): &(IpAddr, IpAddr)| {
            let (_, name) = self.learnt.get(&(*client, *address))?;
            Some(format!("{address}\t{name}\t# {CLIENT}{client}\n"))
        };
        self.ages.values().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + last).into()
    }

    #[test]
    fn a_client_has_the_names_that_it_looked_up() {
        let mut names = Names::default();
        assert!(names.learn(ip(1), ip(100), "a.example"));
        assert!(!names.learn(ip(1), ip(100), "a.example"));
        assert_eq!((names.of(ip(1), ip(100)), names.of(ip(2), ip(100))), (Some("a.example"), None));
        assert!(names.learn(ip(1), ip(100), "b.example"), "the newest counts");
        assert_eq!((names.of(ip(1), ip(100)), names.count()), (Some("b.example"), 1));
    }

    #[test]
    fn the_oldest_is_forgotten_and_one_client_takes_no_others_names() {
        let mut names = Names::default();
        names.learn(ip(2), ip(0), "kept.example");
        for n in 0..10_000 {
            names.learn(ip(1), ip(n), "x.example");
        }
        assert_eq!((names.count(), names.of(ip(2), ip(0))), (OF_ONE + 1, Some("kept.example")));
        assert_eq!((names.of(ip(1), ip(9743)), names.of(ip(1), ip(9744))), (None, Some("x.example")));
        for n in 0..10_000 {
            names.learn(ip(10 + n), ip(0), "y.example");
        }
        assert_eq!((names.count(), names.ages.len(), names.of(ip(2), ip(0))), (MOST, MOST, None));
        assert_eq!(
            (names.of(ip(10 + 5903), ip(0)), names.of(ip(10 + 5904), ip(0))),
            (None, Some("y.example"))
        );
    }

    #[test]
    fn a_hosts_file_is_read_and_written() {
        let mut names = Names::default();
        let read = names.read(
            "127.0.0.1 localhost loopback\n\n# comment\n192.0.2.1\tweb.example www # the web server\n\
             192.0.2.1 second.example\n2001:db8::1 six.example # client fd00::51\nfe80::1%eth0 scoped\n\
             192.0.2.1 mine.example # client 10.0.0.1\n192.0.2.8 printer.example # client side\n",
        );
        assert_eq!(read, Ok(()));
        let of = |client: &str, address: &str| names.of(client.parse().unwrap(), address.parse().unwrap());
        assert_eq!(
            (of("10.0.0.2", "192.0.2.1"), of("10.0.0.1", "192.0.2.1")),
            (Some("web.example"), Some("mine.example"))
        );
        assert_eq!(
            (of("fd00::51", "2001:db8::1"), of("fd00::52", "2001:db8::1")),
            (Some("six.example"), None)
        );
        assert_eq!(
            (of("10.0.0.1", "127.0.0.1"), of("10.0.0.1", "192.0.2.8")),
            (Some("localhost"), Some("printer.example"))
        );
        let expect =
            "2001:db8::1\tsix.example\t# client fd00::51\n192.0.2.1\tmine.example\t# client 10.0.0.1\n";
        assert_eq!(names.hosts(), expect);
        let mut again = Names::default();
        again.read(expect).unwrap();
        assert_eq!(again.hosts(), expect);
        for (line, fault) in [
            ("192.0.2.7 # nobody", "line 2: 192.0.2.7 has no name"),
            ("192.0.2.300 web", "line 2: '192.0.2.300' is no address"),
            ("web 192.0.2.1", "line 2: 'web' is no address"),
        ] {
            assert_eq!(Names::default().read(&format!("# hosts\n{line}\n")), Err(fault.to_owned()));
        }
    }
}
