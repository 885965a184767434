// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/*
 * No program, only types: compiled, its BTF holds every struct and enum of abi.h for the test that compares them with
 * loader/src/dnat/abi.rs.
 */
#include "abi.h"

#define SHOW_STRUCT(name) const struct name abi_##name = {}
#define SHOW_ENUM(name)   const enum name abi_##name = (enum name)0

SHOW_STRUCT(key4);
SHOW_STRUCT(key6);
SHOW_STRUCT(flow4);
SHOW_STRUCT(flow6);
SHOW_STRUCT(secret);
SHOW_STRUCT(hands);
SHOW_STRUCT(frag_key);
SHOW_STRUCT(frag);
SHOW_STRUCT(cfg);
SHOW_STRUCT(rule_stats);
SHOW_STRUCT(asked_key);
SHOW_STRUCT(asked);
SHOW_STRUCT(asked_client);
SHOW_STRUCT(asked_others);
SHOW_STRUCT(event_control);
SHOW_STRUCT(event_state);
SHOW_STRUCT(client);
SHOW_STRUCT(event);
SHOW_STRUCT(event_packet);
SHOW_STRUCT(record);
/* Too large for a constant of its own: a pointer shows the type as well, and its members with it. */
const struct rules *const abi_rules = 0;

SHOW_ENUM(dir);
SHOW_ENUM(flow_state);
SHOW_ENUM(flow_marks);
SHOW_ENUM(local_flags);
SHOW_ENUM(cfg_flags);
SHOW_ENUM(rule_class);
SHOW_ENUM(verdict);
SHOW_ENUM(action_flags);
SHOW_ENUM(reject);
SHOW_ENUM(reason);
SHOW_ENUM(event_kind);
SHOW_ENUM(packet_stage);
SHOW_ENUM(served);
