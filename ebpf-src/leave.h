/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: a flow that one CPU has won for FLOW_ENDING, whatever ended it, leaves the index and its slot. */
#define leaveN F(leave)

/* While its keys leave the index the flow is still found: were it not, its client's next packet would open another one,
 * whose entries we could take away. The forward key goes last, so that nobody asks the rules before the reverse key can
 * be claimed anew. Then the slot is in state `next`; `live` if the flow counted as its client's. A function that the
 * verifier follows by itself. */
__noinline int leaveN(__u32 slot, __u32 next, __u32 live)
{
	struct flowN *f = slotN(slot);

	if (!f)
		return 0;
	forget_reverseN(&f->rev, f->marks, slot);
	forget_forwardN(&f->fwd, slot);
	if (live)
		client_countN(f->fwd.src, -1);
	bpf_spin_lock(&f->lock);
	f->state = next;
	f->generation++;
	bpf_spin_unlock(&f->lock);
	return 1;
}
