// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A DNS message (RFC 1035) -> the name that was asked for and the addresses it has. Never trusted: each access is checked.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the question, in lower case and as zone files have it: `www.example.org`. Printable ASCII only; what is not, and a
    /// dot within a label, is `\DDD`.
    pub name: String,
    /// A and AAAA records of that name or of what its CNAMEs lead to.
    pub addresses: Vec<IpAddr>,
}

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// Bytes of a name on the wire (RFC 1035, 2.3.4).
const LONGEST: usize = 255;
/// Records that are looked at, and CNAMEs that are followed: more than any resolver gives.
const RECORDS: u16 = 256;
const CHAIN: usize = 16;

/// Reads an answer without error to one question; `None` for everything else. Of a message that is cut off, what is whole counts.
pub fn answer(message: &[u8]) -> Option<Answer> {
    let flags = number(message, 2)?;
    let (response, opcode, code) = (flags >> 15, flags >> 11 & 15, flags & 15);
    if response != 1 || opcode != 0 || code != 0 || number(message, 4)? != 1 {
        return None;
    }
    let (question, after) = name(message, HEADER)?;
    if number(message, after.checked_add(2)?)? != CLASS_IN {
        return None;
    }
    let records = records(message, after.checked_add(4)?, number(message, 6)?.min(RECORDS));
    let mut owners = vec![question];
    while owners.len() <= CHAIN {
        let next = records.iter().find_map(|record| match &record.data {
            Data::Alias(to) if owners.last() == Some(&record.owner) && !owners.contains(to) => Some(to),
            _ => None,
        });
        match next {
            Some(name) => owners.push(name.clone()),
            None => break,
        }
    }
    let mut addresses = Vec::new();
    for record in records.iter().filter(|record| owners.contains(&record.owner)) {
        match record.data {
            Data::Address(address) if !addresses.contains(&address) => addresses.push(address),
            _ => {}
        }
    }
    Some(Answer { name: presentation(owners.first()?), addresses })
}

/// A name: its labels in lower case, each behind its length.
type Name = Vec<u8>;

struct Record {
    owner: Name,
    data: Data,
}

enum Data {
    Address(IpAddr),
    Alias(Name),
}

/// The records of the answer section that matter, up to the first that is not whole.
fn records(message: &[u8], mut at: usize, count: u16) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..count {
        let Some((record, after)) = record(message, at) else { break };
        records.extend(record);
        at = after;
    }
    records
}

fn record(message: &[u8], at: usize) -> Option<(Option<Record>, usize)> {
    let (owner, fixed) = name(message, at)?;
    let (kind, class) = (number(message, fixed)?, number(message, fixed.checked_add(2)?)?);
    let length = usize::from(number(message, fixed.checked_add(8)?)?);
    let start = fixed.checked_add(10)?;
    let end = start.checked_add(length)?;
    let bytes = message.get(start..end)?;
    let data = match (kind, class) {
        (TYPE_A, CLASS_IN) => {
            <[u8; 4]>::try_from(bytes).ok().map(|b| Data::Address(Ipv4Addr::from(b).into()))
        }
        (TYPE_AAAA, CLASS_IN) => {
            <[u8; 16]>::try_from(bytes).ok().map(|b| Data::Address(Ipv6Addr::from(b).to_canonical()))
        }
        // The name may point backwards out of its record, but has to end with it.
        (TYPE_CNAME, CLASS_IN) => {
            name(message, start).filter(|(_, after)| *after == end).map(|(n, _)| Data::Alias(n))
        }
        _ => None,
    };
    Some((data.map(|data| Record { owner, data }), end))
}

/// The name at an offset, and the offset behind it. A pointer leads to before the labels that it ends (RFC 1035, 4.1.4), so
/// there can be no loop.
fn name(message: &[u8], from: usize) -> Option<(Name, usize)> {
    let mut labels = Name::new();
    let (mut at, mut before, mut after) = (from, from, None);
    loop {
        let size = usize::from(*message.get(at)?);
        let next = at.checked_add(1)?;
        match size >> 6 {
            0 if size == 0 => return Some((labels, after.unwrap_or(next))),
            0 => {
                let end = next.checked_add(size)?;
                labels.extend(message.get(at..end)?.to_ascii_lowercase());
                // With the byte that ends it.
                if labels.len() >= LONGEST {
                    return None;
                }
                at = end;
            }
            3 => {
                let to = usize::from(number(message, at)? & 0x3fff);
                after = after.or(at.checked_add(2));
                if to >= before {
                    return None;
                }
                (at, before) = (to, to);
            }
            _ => return None,
        }
    }
}

/// Characters that mean something in zone files or, as `#`, in hosts files.
const SPECIAL: &[u8] = b".\\\"#;()@$";

/// As zone files write it (RFC 1035, 5.1), without the last dot.
fn presentation(name: &Name) -> String {
    let (mut out, mut rest) = (String::new(), &name[..]);
    while let Some((label, more)) =
        rest.split_first().and_then(|(n, rest)| rest.split_at_checked((*n).into()))
    {
        if !out.is_empty() {
            out.push('.');
        }
        for byte in label {
            match byte {
                b'!'..=b'~' if !SPECIAL.contains(byte) => out.push(char::from(*byte)),
                other => out.push_str(&format!("\\{other:03}")),
            }
        }
        rest = more;
    }
    if out.is_empty() {
        out.push('.');
    }
    out
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(name: &str) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            name.split('.').flat_map(|l| [&[l.len() as u8][..], l.as_bytes()].concat()).collect();
        bytes.push(0);
        bytes
    }

    fn message(question: &[u8], records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0, 7, 0x81, 0x80, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
        bytes.extend([question, &[0, 1, 0, 1]].concat());
        for (owner, kind, data) in records {
            bytes.extend(*owner);
            bytes.extend([&kind.to_be_bytes()[..], &[0, 1, 0, 0, 0, 60]].concat());
            bytes.extend([&(data.len() as u16).to_be_bytes()[..], data].concat());
        }
        bytes
    }

    fn found(message: &[u8]) -> Option<(String, Vec<String>)> {
        answer(message).map(|a| (a.name, a.addresses.iter().map(ToString::to_string).collect()))
    }

    const QUESTION: &[u8] = &[0xc0, 12];

    #[test]
    fn the_name_is_that_of_the_question() {
        let (www, cdn, far) = (labels("WWW.Example.org"), labels("cdn.example.net"), labels("a.far.example"));
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets();
        let chain = message(
            &www,
            &[
                (QUESTION, TYPE_CNAME, &cdn),
                (&cdn, TYPE_CNAME, &far),
                (&far, TYPE_A, &[192, 0, 2, 1]),
                (&far, TYPE_AAAA, &v6),
                (&labels("other.example"), TYPE_A, &[192, 0, 2, 9]),
                (&far, TYPE_A, &[192, 0, 2, 1]),
            ],
        );
        let expect = ("www.example.org".to_owned(), vec!["192.0.2.1".to_owned(), "2001:db8::1".to_owned()]);
        assert_eq!(found(&chain), Some(expect));
        assert_eq!(found(&message(&www, &[])), Some(("www.example.org".to_owned(), vec![])));
        assert_eq!(found(&message(&[0], &[(&[0], TYPE_A, &[192, 0, 2, 1])])).unwrap().0, ".");
        // What is whole counts.
        let cut = &chain[..chain.len() - 1];
        assert_eq!(found(cut).unwrap().1.len(), 2);
    }

    #[test]
    fn only_answers_without_error_count() {
        let good = message(&labels("a.example"), &[(QUESTION, TYPE_A, &[192, 0, 2, 1])]);
        assert_eq!(found(&good).unwrap().1, ["192.0.2.1"]);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            found(&bytes)
        };
        assert_eq!(with(2, 0x01), None, "a question");
        assert_eq!(with(2, 0xa9), None, "another opcode");
        assert_eq!(with(3, 0x83), None, "NXDOMAIN");
        assert_eq!(with(5, 2), None, "two questions");
        assert_eq!(with(26, 3), None, "class CHAOS");
        assert_eq!(found(&good[..20]), None);
    }

    #[test]
    fn loops_end() {
        // A name that is its own pointer, one that points forward, and two that point to each other.
        for bytes in [&[0xc0, 12][..], &[0xc0, 14, 0], &[0xc0, 14, 0xc0, 12], &[1, b'a', 0xc0, 12]] {
            assert_eq!(found(&message(bytes, &[])), None, "{bytes:?}");
        }
        // A CNAME of itself, and a circle of them.
        let (a, b) = (labels("a.example"), labels("b.example"));
        let circle = [(&a[..], TYPE_CNAME, &b[..]), (&b, TYPE_CNAME, &a), (&b, TYPE_A, &[192, 0, 2, 1])];
        assert_eq!(found(&message(&a, &circle)).unwrap().1, ["192.0.2.1"]);
        assert_eq!(found(&message(&a, &[(&a, TYPE_CNAME, &a)])).unwrap().1.len(), 0);
        // More labels than a name may have.
        let long = labels(&vec!["a"; 128].join("."));
        assert_eq!(found(&message(&long, &[])), None);
        assert!(found(&message(&labels(&vec!["a"; 127].join(".")), &[])).is_some());
        assert_eq!(found(&message(&[0x40, 1, 0], &[])), None, "a label of no known kind");
    }

    #[test]
    fn a_name_is_harmless_text() {
        let odd = [&[6][..], b"\x1b[2J#.", &[2, b'a', 0xff, 0]].concat();
        assert_eq!(found(&message(&odd, &[])).unwrap().0, "\\027[2j\\035\\046.a\\255");
    }

    #[test]
    fn damaged_messages_do_no_harm() {
        let (www, cdn) = (labels("www.example.org"), labels("cdn.example.net"));
        let good = message(&www, &[(QUESTION, TYPE_CNAME, &cdn), (&cdn, TYPE_A, &[192, 0, 2, 1])]);
        // xorshift: the same inputs each time.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let mut read = 0;
        for _ in 0..30_000 {
            let mut bytes = good.clone();
            for _ in 0..=next(4) {
                let at = next(bytes.len());
                bytes[at] = [0, 0xc0, 0xff, 0x3f, next(256) as u8][next(5)];
            }
            bytes.truncate(next(bytes.len() * 2).max(1));
            if let Some(answer) = answer(&bytes) {
                read += 1;
                assert!(
                    answer.name.bytes().all(|b| b.is_ascii_graphic()) && answer.name.len() <= 4 * LONGEST
                );
                assert!(answer.addresses.len() <= usize::from(RECORDS));
            }
        }
        assert!(read > 300, "{read} of them were answers");
    }
}
