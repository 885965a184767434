// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Facts to JSON and back, so that a plan for this machine can be made and read on another one.
use crate::load::facts::{Bpffs, Device, Facts, Instance, Machine, Orphan};
use crate::load::plan_json::unhex;
use crate::load::record::Record;
use crate::load::rtnl::Addr;
use crate::load::sockopt;
use crate::load::tc::{BpfFilter, Filter, Place};
use crate::load::tcx;
use crate::load::transcript::hex;
use serde_json::{json, Value};

/// The schema of a file of facts.
pub const SCHEMA: &str = "detour.facts/1";

/// `{"schema":"detour.facts/1", …}`
pub fn write(facts: &Facts) -> Value {
    let machine = &facts.machine;
    json!({
        "schema": SCHEMA,
        "release": machine.release,
        "page_size": machine.page_size,
        "possible_cpus": machine.possible_cpus,
        "hz": machine.hz,
        "netns": facts.netns,
        "netns_cookie": facts.cookie,
        "device": {
            "ifindex": facts.device.ifindex, "name": facts.device.name,
            "arphrd": facts.device.arphrd, "mtu": facts.device.mtu,
        },
        "addresses": facts.addresses.iter().map(address).collect::<Vec<_>>(),
        "ip_forward": facts.ip_forward,
        "ip6_forward": facts.ip6_forward,
        "route_localnet": facts.route_localnet,
        "block": facts.block,
        "clsact": facts.clsact,
        "clsact_marked": facts.clsact_marked,
        "filters": facts.filters.iter().map(filter).collect::<Vec<_>>(),
        "tcx": facts.tcx.iter().map(hook).collect::<Vec<_>>(),
        "sockopts": facts.sockopts.iter().map(|s| json!([s.program, s.link, s.cgroup])).collect::<Vec<_>>(),
        "cgroup2": facts.cgroup2,
        "bpffs": match &facts.bpffs {
            Bpffs::Ready => json!("ready"),
            Bpffs::Missing => json!("missing"),
            Bpffs::Denied => json!("denied"),
            Bpffs::Untrusted(why) => json!({"untrusted": why}),
        },
        "root": facts.root,
        "device_folder": facts.device_folder,
        "marks": facts.marks,
        "instances": facts.instances.iter().map(instance).collect::<Vec<_>>(),
        "hidden": facts.hidden,
        "orphans": facts.orphans.iter().map(|o| json!({"dir": o.dir, "folders": o.folders})).collect::<Vec<_>>(),
        "reads": facts.reads,
    })
}

/// The reverse of [`write`]; None when something is missing or of another kind.
pub fn read(value: &Value) -> Option<Facts> {
    let get = |name: &str| value.get(name);
    if get("schema")?.as_str()? != SCHEMA {
        return None;
    }
    let device = get("device")?;
    Some(Facts {
        machine: Machine {
            release: text(get("release")?)?,
            page_size: small(get("page_size")?)?,
            possible_cpus: small(get("possible_cpus")?)?,
            hz: small(get("hz")?)?,
        },
        netns: get("netns")?.as_u64()?,
        cookie: get("netns_cookie")?.as_u64()?,
        device: Device {
            ifindex: small(device.get("ifindex")?)?,
            name: text(device.get("name")?)?,
            arphrd: small(device.get("arphrd")?)?,
            mtu: small(device.get("mtu")?)?,
        },
        addresses: list(get("addresses")?, read_address)?,
        ip_forward: get("ip_forward")?.as_bool()?,
        ip6_forward: get("ip6_forward")?.as_bool()?,
        route_localnet: get("route_localnet")?.as_bool()?,
        block: optional(get("block")?, small)?,
        clsact: optional(get("clsact")?, text)?,
        clsact_marked: get("clsact_marked").is_some_and(|marked| *marked == Value::Bool(true)),
        filters: list(get("filters")?, read_filter)?,
        tcx: list(get("tcx")?, read_hook)?,
        sockopts: list(get("sockopts")?, read_sockopt)?,
        cgroup2: optional(get("cgroup2")?, text)?,
        bpffs: match get("bpffs")? {
            Value::String(s) if s == "ready" => Bpffs::Ready,
            Value::String(s) if s == "missing" => Bpffs::Missing,
            Value::String(s) if s == "denied" => Bpffs::Denied,
            other => Bpffs::Untrusted(text(other.get("untrusted")?)?),
        },
        root: optional(get("root")?, small)?,
        device_folder: get("device_folder")?.as_bool()?,
        marks: list(get("marks")?, text)?,
        instances: list(get("instances")?, read_instance)?,
        hidden: get("hidden").and_then(text),
        orphans: list(get("orphans")?, read_orphan)?,
        reads: list(get("reads")?, text)?,
    })
}

fn address(a: &Addr) -> Value {
    json!({
        "ifindex": a.index, "ip": a.ip.to_string(), "prefix": a.prefix,
        "peer": a.peer.map(|p| p.to_string()), "scope": a.scope, "flags": a.flags,
    })
}

fn read_address(value: &Value) -> Option<Addr> {
    let ip = |value: &Value| value.as_str()?.parse().ok();
    Some(Addr {
        index: small(value.get("ifindex")?)?,
        ip: ip(value.get("ip")?)?,
        prefix: small(value.get("prefix")?)?,
        peer: optional(value.get("peer")?, ip)?,
        scope: small(value.get("scope")?)?,
        flags: small(value.get("flags")?)?,
    })
}

fn filter(f: &Filter) -> Value {
    let bpf = |b: &BpfFilter| {
        json!({
            "name": b.name, "id": b.id, "tag": b.tag.map(|t| hex(&t)),
            "direct_action": b.direct_action, "flags_gen": b.flags_gen,
        })
    };
    json!({
        "ifindex": f.place.ifindex, "parent": f.place.parent, "prio": f.place.prio, "handle": f.place.handle,
        "protocol": f.place.protocol, "chain": f.place.chain, "kind": f.kind, "bpf": f.bpf.as_ref().map(bpf),
    })
}

fn read_filter(value: &Value) -> Option<Filter> {
    let bpf = |value: &Value| {
        Some(BpfFilter {
            name: optional(value.get("name")?, text)?,
            id: optional(value.get("id")?, small)?,
            tag: optional(value.get("tag")?, |t| unhex(t.as_str()?)?.try_into().ok())?,
            direct_action: value.get("direct_action")?.as_bool()?,
            flags_gen: small(value.get("flags_gen")?)?,
        })
    };
    Some(Filter {
        place: Place {
            ifindex: small(value.get("ifindex")?)?,
            parent: small(value.get("parent")?)?,
            prio: small(value.get("prio")?)?,
            handle: small(value.get("handle")?)?,
            chain: small(value.get("chain")?)?,
            protocol: small(value.get("protocol")?)?,
        },
        kind: text(value.get("kind")?)?,
        bpf: optional(value.get("bpf")?, bpf)?,
    })
}

fn hook(h: &tcx::Hook) -> Value {
    let programs: Vec<Value> = h.programs.iter().map(|p| json!([p.program, p.link])).collect();
    json!({"attach": h.attach, "revision": h.revision, "programs": programs})
}

fn read_hook(value: &Value) -> Option<tcx::Hook> {
    let pair = |p: &Value| Some(tcx::Attached { program: small(p.get(0)?)?, link: small(p.get(1)?)? });
    Some(tcx::Hook {
        attach: small(value.get("attach")?)?,
        revision: value.get("revision")?.as_u64()?,
        programs: list(value.get("programs")?, pair)?,
    })
}

fn read_sockopt(value: &Value) -> Option<sockopt::Attached> {
    let (program, link) = (small(value.get(0)?)?, small(value.get(1)?)?);
    Some(sockopt::Attached { program, link, cgroup: value.get(2)?.as_u64()? })
}

fn instance(i: &Instance) -> Value {
    let record = i.record.as_ref().map(|r| hex(&r.bytes()));
    json!({"name": i.name, "building": i.building, "pins": i.pins, "record": record, "schema": i.schema,
        "ids": i.ids})
}

fn read_instance(value: &Value) -> Option<Instance> {
    let id = |pair: &Value| Some((text(pair.get(0)?)?, small(pair.get(1)?)?));
    Some(Instance {
        name: text(value.get("name")?)?,
        building: value.get("building")?.as_bool()?,
        pins: list(value.get("pins")?, text)?,
        record: optional(value.get("record")?, |r| Record::parse(&unhex(r.as_str()?)?))?,
        schema: value.get("schema").and_then(small),
        ids: value.get("ids").map_or(Some(Vec::new()), |ids| list(ids, id))?,
    })
}

fn read_orphan(value: &Value) -> Option<Orphan> {
    let folder = |pair: &Value| Some((text(pair.get(0)?)?, list(pair.get(1)?, text)?));
    Some(Orphan { dir: text(value.get("dir")?)?, folders: list(value.get("folders")?, folder)? })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_string)
}

fn small<N: TryFrom<u64>>(value: &Value) -> Option<N> {
    N::try_from(value.as_u64()?).ok()
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(read).collect()
}

/// `null` is a None that was meant; anything else must be readable.
fn optional<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
    if value.is_null() {
        Some(None)
    } else {
        read(value).map(Some)
    }
}
