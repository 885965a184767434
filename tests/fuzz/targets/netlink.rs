// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! What comes back over a netlink socket, for every kind of request.
#![no_main]

use detour::load::ack::Ack;
use detour::load::exchange::Exchange;
use detour::load::message::Message;
use detour::load::rtnl;
use detour::load::tc::{self, Filter, Place, Qdisc, Tc, INGRESS};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let place = Place::new(3, INGRESS, 100, 1);
    let requests = [
        rtnl::link_dump(),
        rtnl::link_named("eth0"),
        rtnl::veth_add("v0", "v1", Some("%netns")).resolved(&|_| Some(5)),
        tc::qdisc_dump(),
        tc::filter_get(place),
    ];
    detour_fuzz::bounded(bytes.len(), || {
        for request in &requests {
            let mut exchange = Exchange::new(request, 7, 4242).expect("it has an end");
            if let Ok(ack) = Ack::decode(bytes) {
                ack.attribute(request, exchange.request());
            }
            match exchange.take(bytes) {
                Ok(_) => drop(exchange.reply().map(|reply| reply.messages.iter().for_each(read))),
                Err(error) => drop((error.to_string(), tc::hint(&error), error.errno_name())),
            }
        }
        if let Ok(message) = Message::decode(bytes) {
            read(&message);
        }
    });
});

/// Every reader and every writer of a message.
fn read(message: &Message) {
    let _ = (rtnl::Link::read(message), rtnl::Addr::read(message), Qdisc::read(message));
    let _ = (Filter::read(message), Tc::read(message), message.pairs(), message.to_string());
    if let Ok(bytes) = message.encode(7) {
        assert_eq!(Message::decode(&bytes).as_ref(), Ok(message));
        assert_eq!(Message::from_json(&message.to_json()).as_ref(), Ok(message));
    }
}
