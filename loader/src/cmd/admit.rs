// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! `--require-signature` and `--policy` to a refusal, before anything of an object is planned; `--kernel-signatures` into the plan.
use crate::audit::policy::{Policy, Violation};
use crate::audit::signature;
use crate::audit::size::Machine;
use crate::cmd::objects::Named;
use crate::cmd::texts::{self, Wanted};
use crate::load::gather;
use crate::load::plan::{Attach, Plan};
use crate::load::refusal::{Refusal, Stage};
use crate::load::signed;
use crate::load::tc::EGRESS;
use crate::load::tcx;
use crate::ui::map_type::map_type;
use crate::ui::text::escape;
use clap::ArgMatches;
use serde_json::{json, Value};

/// The policy of `--policy`, if the command has one.
pub fn policy(args: &ArgMatches) -> Result<Option<(String, Policy)>, Refusal> {
    let Some(path) = given(args, "policy") else { return Ok(None) };
    let text = POLICY.text(path)?;
    let fault = |what: String| {
        Refusal::new(
            Stage::Usage,
            format!("{}:{what}", path.escape_debug()),
            "see 'inspect --policy' in detour(8)",
        )
    };
    let policy = Policy::parse(&text).map_err(fault)?;
    match policy.is_empty() {
        true => Err(POLICY.not(path, "here are no rules, so everything would be allowed")),
        false => Ok(Some((path.clone(), policy))),
    }
}

/// What of an object is against the policy, on a machine like this one.
pub fn violations(policy: &Policy, named: &Named) -> Result<Vec<Violation>, Refusal> {
    let machine = gather::machine()?;
    let on = Machine { cpus: machine.possible_cpus.into(), page: machine.page_size.into() };
    Ok(policy.violations(&named.object, &map_type, on))
}

/// Refuses an object that is not signed as it has to be, or that the policy does not allow.
pub fn object(named: &Named, bytes: &[u8], args: &ArgMatches) -> Result<(), Refusal> {
    if let Some(key) = given(args, "require-signature") {
        signed(bytes, key, args)?;
    }
    match policy(args)? {
        Some((path, policy)) => refuse(&path, violations(&policy, named)?),
        None => Ok(()),
    }
}

/// What is to be said of how it was let in.
pub fn notes(args: &ArgMatches) -> Vec<String> {
    let asked = match given(args, "kernel-signatures") {
        Some(_) => "of each program's instructions the kernel checks another",
        None => "the kernel was not asked to",
    };
    let by = |key: &String| format!("the signature was checked by detour, with {}; {asked}", escape(key));
    given(args, "require-signature").map(by).into_iter().collect()
}

/// Adds the signatures of `--kernel-signatures` to the calls that load programs.
pub fn sign(plan: &mut Plan, args: &ArgMatches) -> Result<(), Refusal> {
    let Some(dir) = given(args, "kernel-signatures") else { return Ok(()) };
    let keyring = args.try_get_one::<i32>("keyring").ok().flatten().copied().unwrap_or(0);
    let signature = |program: &str| {
        let path = in_folder(dir, program, "p7s")?;
        let hint =
            "sign what 'detour plan load … --insns DIR' writes; see 'load --kernel-signatures' in detour(8)";
        let no = |what: &str| Refusal::new(Stage::Object, format!("{}: {what}", escape(program)), hint);
        let bytes = texts::regular(&path, || no(&format!("{} is not a file", escape(&path))));
        bytes.map_err(|e| no(&format!("it is not signed: {}", e.what)))
    };
    signed::sign(&mut plan.steps, keyring, signature)?;
    let text =
        "the kernel checks a signature of each program's instructions, not of its maps or what is in them";
    plan.notes.push(text.to_string());
    Ok(())
}

/// The instructions of each program that a plan loads, as files of a folder: what is to be signed for the kernel.
pub fn write_instructions(plan: &Plan, dir: &str) -> Result<(), Refusal> {
    for (program, bytes) in signed::programs(&plan.steps)? {
        let path = in_folder(dir, program, "insns")?;
        std::fs::write(&path, bytes).map_err(|e| Refusal::unwritable(&path, &e))?;
    }
    Ok(())
}

/// `DIR/PROGRAM.ENDING`. The name is the object's: it must not lead elsewhere.
fn in_folder(dir: &str, program: &str, ending: &str) -> Result<String, Refusal> {
    match program.is_empty() || program.contains('/') {
        true => {
            let what = format!("{}: no file can be called that", program.escape_debug());
            Err(Refusal::new(Stage::Object, what, "rename the function"))
        }
        false => Ok(format!("{}/{program}.{ending}", dir.trim_end_matches('/'))),
    }
}

/// The same for where its programs go.
pub fn attaching(attach: &[Attach], args: &ArgMatches) -> Result<(), Refusal> {
    let Some((path, policy)) = policy(args)? else { return Ok(()) };
    let hook = |a: &Attach| match a.place.parent {
        EGRESS => "egress",
        tcx::EGRESS => "tcx-egress",
        tcx::INGRESS => "tcx-ingress",
        _ => "ingress",
    };
    refuse(&path, attach.iter().filter_map(|a| policy.attaching(&a.program, hook(a))).collect())
}

fn signed(bytes: &[u8], key: &str, args: &ArgMatches) -> Result<(), Refusal> {
    let file = given(args, "file").or(given(args, "object")).map_or("@dnat", String::as_str);
    let hint = "sign it: minisign -S -s KEY -m FILE; nothing was loaded";
    if file.starts_with('@') && given(args, "signature").is_none() {
        let what = format!("{file} lies in this program: --signature FILE has to say where its signature is");
        return Err(Refusal::new(Stage::Usage, what, "'detour verify' compares it with the manifest"));
    }
    let path = given(args, "signature").cloned().unwrap_or(format!("{file}.minisig"));
    let no = |what: String| Refusal::new(Stage::Object, format!("{}: {what}", escape(file)), hint);
    let given = KEY.text(key)?;
    let owner = signature::key(&given).ok_or_else(|| KEY.not(key, "this is something else"))?;
    let signature = SIGNATURE.text(&path).map_err(|e| no(format!("it is not signed: {}", e.what)))?;
    signature::check(bytes, &signature, &owner).map(|_| ()).map_err(no)
}

fn refuse(path: &str, found: Vec<Violation>) -> Result<(), Refusal> {
    if found.is_empty() {
        return Ok(());
    }
    let what = format!("{} things are against the policy", found.len());
    let hint = "'detour inspect --policy' says the same without loading; nothing was loaded";
    Err(Refusal { details: text(path, &found), ..Refusal::new(Stage::Object, what, hint) })
}

/// One line each.
pub fn text(path: &str, found: &[Violation]) -> String {
    let line =
        |v: &Violation| format!("{}:{}: {} {}\n", escape(path), v.line, escape(&v.about), escape(&v.what));
    found.iter().map(line).collect()
}

/// `[{"line":…,"about":…,"what":…}]`
pub fn json(found: &[Violation]) -> Value {
    found.iter().map(|v| json!({"line": v.line, "about": v.about, "what": v.what})).collect()
}

fn given<'a>(args: &'a ArgMatches, name: &str) -> Option<&'a String> {
    args.try_get_one::<String>(name).ok().flatten()
}

const POLICY: Wanted = Wanted {
    what: "a policy",
    hint: "a line each, such as 'helper deny probe_*'; see 'inspect --policy' in detour(8)",
};
const KEY: Wanted = Wanted {
    what: "a public key of minisign",
    hint: "'minisign -G -p KEY.pub -s KEY' makes a pair; KEY.pub is the one to name here",
};
const SIGNATURE: Wanted =
    Wanted { what: "a signature of minisign", hint: "'minisign -S -s KEY -m FILE' makes one" };
