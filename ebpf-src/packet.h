/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/* For each family: turns a frame into its key and the few header fields that flows need, or into the reason to leave it
 * alone. */
#define portsN           F(ports)
#define transport_lenN   F(transport_len)
#define set_portsN       F(set_ports)
#define parse_tcpN       F(parse_tcp)
#define parse_udpN       F(parse_udp)
#define parse_sctpN      F(parse_sctp)
#define parse_icmpN      F(parse_icmp)
#define parse_transportN F(parse_transport)
#define parseN           F(parse)
#define opensN           F(opens)

/* Are there ports, or what stands for one, that may become others? */
static __always_inline int portsN(__u8 proto)
{
	return has_ports(proto) || proto == ICMP_PROTON;
}

/* Both ports as they lie in the packet, into the key. */
static __always_inline void set_portsN(struct keyN *key, __u32 ports, enum dir dir)
{
	union {
		struct {
			__u8 proto;
			__u8 dir;
			__u16 pad;
		};
		__u32 word;
	} tail = {{.proto = key->proto, .dir = dir}};

	*(volatile key_word *)&key->sport = both_halves(ports, tail.word);
}

/* Bytes of the transport header that we need. */
static __always_inline __u32 transport_lenN(__u8 proto)
{
	if (proto == IPPROTO_TCP)
		return sizeof(struct tcphdr);
	if (proto == IPPROTO_SCTP)
		return sizeof(struct sctphdr);
	return proto == IPPROTO_UDP || proto == ICMP_PROTON ? sizeof(struct udphdr) : 0;
}

/* A first fragment may hold less than its header says, here as in UDP. */
static __always_inline enum reason parse_tcpN(const struct tcphdr *tcp, enum dir dir, struct packetN *p)
{
	__u32 len = (tcp->doff >> 4) * 4;

	if (len < sizeof(*tcp) || (len > p->room && !p->first))
		return REASON_MALFORMED;
	set_portsN(&p->key, *(const __u32 *)tcp, dir);
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack_seq);
	p->flags = tcp->flags;
	return REASON_NONE;
}

static __always_inline enum reason parse_udpN(const struct udphdr *udp, enum dir dir, struct packetN *p)
{
	__u32 len = bpf_ntohs(udp->len);

	if (len < sizeof(*udp) || (len > p->room && !p->first))
		return REASON_MALFORMED;
	set_portsN(&p->key, *(const __u32 *)udp, dir);
	p->unsummed = udp->check == 0;
	return REASON_NONE;
}

/* Only an INIT is sent before the server has given its verification tag. */
static __always_inline enum reason parse_sctpN(const struct sctphdr *sctp, enum dir dir, struct packetN *p)
{
	set_portsN(&p->key, *(const __u32 *)sctp, dir);
	p->flags = sctp->vtag ? TCP_ACK : TCP_SYN;
	return REASON_NONE;
}

/* Only questions that arrive and answers that leave: the gateway's own pings are none of our business. */
static __always_inline enum reason parse_icmpN(const struct icmphdr *icmp, enum dir dir, struct packetN *p)
{
	if (icmp->type != (dir == DIR_FORWARD ? ICMP_ASKN : ICMP_ANSWERN) || icmp->code)
		return REASON_ICMP;
	if (dir == DIR_FORWARD)
		p->key.sport = icmp->id;
	else
		p->key.dport = icmp->id;
	return REASON_NONE;
}

static __always_inline enum reason parse_transportN(struct __sk_buff *skb, enum dir dir, struct packetN *p)
{
	__u32 len = transport_lenN(p->key.proto);
	void *l4;

	if (!len)
		return REASON_NONE;
	if (p->room < len || !reach(skb, p->l4 + len))
		return REASON_MALFORMED;
	l4 = bytes_at(skb, p->l4, sizeof(struct udphdr));
	if (!l4)
		return REASON_MALFORMED;
	if (p->key.proto == IPPROTO_UDP)
		return parse_udpN(l4, dir, p);
	if (p->key.proto == ICMP_PROTON)
		return parse_icmpN(l4, dir, p);
	if (p->key.proto == IPPROTO_SCTP)
		return parse_sctpN(l4, dir, p);
	if (l4 + sizeof(struct tcphdr) > (void *)(long)skb->data_end)
		return REASON_MALFORMED;
	return parse_tcpN(l4, dir, p);
}

static __always_inline enum reason parseN(struct __sk_buff *skb, enum dir dir, struct packetN *p)
{
	enum reason reason = headerN(skb, dir, p);

	if (reason)
		return reason;
	p->flags = 0;
	p->unsummed = 0;
	return parse_transportN(skb, dir, p);
}

/* Is it the first packet of something? */
static __always_inline int opensN(const struct packetN *p)
{
	return !has_syn(p->key.proto) || (p->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
}
