/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* All of one family, FAMILY, in the order in which one part needs the other. */
#include "tables.h"
#if FAMILY == 4
#include "ipv4.h"
#else
#include "ipv6.h"
#endif
#include "packet.h"
#include "clients.h"
#include "index.h"
#include "flow.h"
#include "look.h"
#include "leave.h"
#include "tell.h"
#include "settled.h"
#include "confirm.h"
#include "sockets.h"
#include "open.h"
#include "reopen.h"
#include "match.h"
#include "rewrite.h"
#include "sealed.h"
#include "masquerade.h"
#include "errors.h"
#include "refuse.h"
#include "arrive.h"
#include "frag.h"
#include "nat.h"
