/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: what a program beside the two of the data path needs to read their flows. */
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
