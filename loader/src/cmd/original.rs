// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `orig PROTO CLIENT SERVER`: what a server sees to what its client had asked for.
use crate::cmd::attach::UP;
use crate::cmd::{Answer, Context};
use crate::dnat::look::Look;
use crate::dnat::original::Seen;
use crate::load::gather::devices_with_state;
use crate::load::refusal::{Refusal, Stage};
use crate::ui;
use clap::ArgMatches;

/// Of several instances that know such a flow, the one whose packets are newest counts. 1 where none does.
pub fn original(context: &mut Context, args: &ArgMatches) -> Result<Answer, Refusal> {
    let word = |name: &str| args.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let seen = Seen::parse(word("protocol"), word("client"), word("server"))
        .map_err(|fault| Refusal::new(Stage::Usage, fault, "detour orig tcp CLIENT:PORT SERVER:PORT"))?;
    context.lock_shared()?;
    let devices = match args.get_one::<String>("dev") {
        Some(device) => vec![device.clone()],
        None => devices_with_state(context.socket()?)?,
    };
    let (mut found, mut up) = (Vec::new(), false);
    for device in devices {
        let facts = context.facts(&device)?;
        facts.reachable()?;
        let instance = facts.instance(UP).filter(|i| facts.is_alive(i));
        let Some((instance, record)) = instance.and_then(|i| Some((i, i.record.as_ref()?))) else { continue };
        up = true;
        let flow = Look::open(instance.dir(&facts.home(UP)), record, crate::cmd::look::device(&facts))?
            .seen(&seen)?;
        found.extend(flow.map(|flow| (device, flow)));
    }
    if !up {
        let what = match args.get_one::<String>("dev") {
            Some(device) => format!("nothing is up on {device}"),
            None => "nothing is up in this network namespace".to_string(),
        };
        return Err(Refusal::new(Stage::No, what, "'detour up DEV'"));
    }
    let newest = found.iter().min_by_key(|(_, flow)| flow.idle).map(|(device, flow)| (device.as_str(), flow));
    let text = ui::original::text(newest.map(|(_, flow)| flow));
    Ok(Answer { text, json: ui::original::json(&seen, newest), code: u8::from(newest.is_none()) })
}
