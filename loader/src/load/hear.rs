// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! A bpf(2) call to its answer, and to what the verifier says of it.
use crate::load::step::{Bpf, Step};
use crate::load::symbols::Symbols;
use detour_sys::Answer;
use std::io;

/// Makes a call, up to `again` times more when a signal interrupts it.
pub(super) fn attempt(
    call: &Bpf,
    args: &[(&str, detour_sys::Value<'_>)],
    again: u8,
) -> Result<Answer, (io::Error, Answer)> {
    let mut left = again;
    loop {
        match detour_sys::call(call.command, args) {
            Err((error, _)) if left > 0 && error.raw_os_error() == Some(nix::errno::Errno::EAGAIN as i32) => {
                left = left.saturating_sub(1);
            }
            result => return result,
        }
    }
}

/// What the verifier said in a call that asked for its log; text, up to its NUL.
pub(super) fn heard(answer: &Answer) -> Vec<u8> {
    answer.room("log_buf").iter().copied().take_while(|b| *b != 0).collect()
}

/// Makes the step's extra calls and returns the last log that came back.
pub(super) fn hear(step: &Step, call: &Bpf, symbols: &Symbols) -> Vec<u8> {
    // Before Linux 6.4 the size of the log is not told; then this much is tried, and four times more while it is too small.
    const BLIND: usize = 1 << 18;
    const MOST: usize = 1 << 26;
    let mut size = BLIND;
    let mut log = Vec::new();
    for more in &step.on_failure {
        let mut args = call.args.clone();
        args.extend(more.iter().cloned());
        loop {
            let Ok(filled) = symbols.filled(&args) else { return log };
            let Ok(resolved) = symbols.resolve(&args, &filled, size) else { return log };
            let (error, answer) = match detour_sys::call(call.command, &resolved) {
                Ok(answer) => (None, answer),
                Err((error, answer)) => (error.raw_os_error(), answer),
            };
            if call.command.field("log_true_size").is_some() {
                let told = answer.number(call.command, "log_true_size") as usize;
                if told > 0 {
                    size = told.min(MOST);
                }
            }
            log = [answer.room("log_buf"), answer.room("btf_log_buf")].concat();
            if !log.is_empty() && error == Some(nix::errno::Errno::ENOSPC as i32) && size < MOST {
                size = size.saturating_mul(4);
                continue;
            }
            break;
        }
    }
    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    log.truncate(end);
    log
}
