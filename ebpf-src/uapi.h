/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * The part of the kernel's interface that these programs use, written down here so that the objects do not depend on
 * the headers of the machine that compiles them. Names, numbers and offsets are the kernel's (include/uapi/linux/bpf.h,
 * if_ether.h, ip.h, tcp.h, udp.h, icmp.h, pkt_cls.h of 5.10).
 */
#ifndef DETOUR_UAPI_H
#define DETOUR_UAPI_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;

_Static_assert(sizeof(__u64) == 8 && sizeof(__u32) == 4 && sizeof(__u16) == 2, "not the BPF target");

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define bpf_htons(x) ((__be16)__builtin_bswap16((__u16)(x)))
#define bpf_htonl(x) ((__be32)__builtin_bswap32((__u32)(x)))
#else
#define bpf_htons(x) ((__be16)(x))
#define bpf_htonl(x) ((__be32)(x))
#endif
#define bpf_ntohs(x) bpf_htons(x)
#define bpf_ntohl(x) bpf_htonl(x)

/* ---- how an object is written: sections, map definitions in BTF -----------------------------------------------------
 */

#define SEC(name)          __attribute__((section(name), used))
#define __uint(name, val)  int(*name)[val]
#define __type(name, val)  typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define __always_inline    inline __attribute__((always_inline))
#define __noinline         __attribute__((noinline))

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum bpf_update_flags {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
};

#define BPF_F_RDONLY_PROG (1U << 7)

#define EEXIST 17

/* The kernel knows it by its name; it must be in the BTF of the map's value. */
struct bpf_spin_lock {
	__u32 val;
};

/* ---- context --------------------------------------------------------------------------------------------------------
 */

/* Accesses are checked and translated by offset, so the order is fixed. */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol; /* network order */
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 data_meta;
	__u64 flow_keys;
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	__u64 sk;
	__u32 gso_size;
};
_Static_assert(__builtin_offsetof(struct __sk_buff, data) == 76, "__sk_buff");
_Static_assert(__builtin_offsetof(struct __sk_buff, gso_size) == 176, "__sk_buff");

enum pkt_type {
	PACKET_HOST = 0,
};

enum tc_act {
	TC_ACT_UNSPEC = -1, /* go on with the next filter */
	TC_ACT_SHOT = 2,
	TC_ACT_REDIRECT = 7, /* where a redirect helper said */
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
	__u32 mark;
	__u32 priority;
	__u32 src_ip4;
	__u32 src_ip6[4];
	__u32 src_port;
	__be16 dst_port;
	__u16 pad;
	__u32 dst_ip4;
	__u32 dst_ip6[4];
	__u32 state; /* enum tcp_state */
};
_Static_assert(__builtin_offsetof(struct bpf_sock, state) == 72, "bpf_sock");

enum tcp_state {
	TCP_ESTABLISHED = 1,
	TCP_SYN_RECV = 3,
	TCP_FIN_WAIT1 = 4,
	TCP_FIN_WAIT2 = 5,
	TCP_CLOSE_WAIT = 8,
	TCP_LISTEN = 10,
	TCP_NEW_SYN_RECV = 12,
};

/* A packet's addresses as it arrives; the lookup takes it from the view of the receiving socket. */
struct bpf_sock_tuple4 {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
};
#define BPF_F_CURRENT_NETNS (-1LL)

/* ---- packets: without bit fields, whose order would follow the compiler's target
 * ------------------------------------- */

#define ETH_HLEN     14
#define ETH_P_IP     0x0800
#define ETH_P_ARP    0x0806
#define ETH_P_8021Q  0x8100
#define ETH_P_IPV6   0x86dd
#define ETH_P_8021AD 0x88a8

#define IPPROTO_HOPOPTS  0 /* IPv6 extension headers: this, 43, 44 and 60 */
#define IPPROTO_ICMP     1
#define IPPROTO_TCP      6
#define IPPROTO_UDP      17
#define IPPROTO_ROUTING  43
#define IPPROTO_FRAGMENT 44
#define IPPROTO_ICMPV6   58
#define IPPROTO_DSTOPTS  60
#define IPPROTO_SCTP     132

/* One VLAN tag, after the Ethernet addresses and the type that says so. */
struct vlan_hdr {
	__be16 tci;
	__be16 type; /* of what follows */
};
_Static_assert(sizeof(struct vlan_hdr) == 4, "vlan_hdr");

#define VLAN_VID_MASK 0x0fff

struct iphdr {
	__u8 version_ihl;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__u16 check;
	__be32 saddr;
	__be32 daddr;
};
_Static_assert(sizeof(struct iphdr) == 20, "iphdr");
/* Of options: include/uapi/linux/ip.h. */
#define IPOPT_END  0
#define IPOPT_NOOP 1
#define IPOPT_LSRR 131
#define IPOPT_SSRR 137
#define IP_DF      0x4000
#define IP_MF      0x2000
#define IP_OFFSET  0x1fff

struct ipv6hdr {
	__be32 version_class_label;
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	__be32 saddr[4];
	__be32 daddr[4];
};
_Static_assert(sizeof(struct ipv6hdr) == 40, "ipv6hdr");
#define IP6_OFFSET 0xfff8 /* of a fragment header */
#define IP6_MF     0x0001

struct tcphdr {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack_seq;
	__u8 doff; /* header length in words, in the upper four bits */
	__u8 flags;
	__be16 window;
	__u16 check;
	__be16 urg_ptr;
};
_Static_assert(sizeof(struct tcphdr) == 20, "tcphdr");
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

struct udphdr {
	__be16 source;
	__be16 dest;
	__be16 len;
	__u16 check;
};
_Static_assert(sizeof(struct udphdr) == 8, "udphdr");

/* The common header of all packets. */
struct sctphdr {
	__be16 source;
	__be16 dest;
	__be32 vtag;
	__u32 checksum;
};
_Static_assert(sizeof(struct sctphdr) == 12, "sctphdr");

struct icmphdr {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be16 id;
	__be16 sequence;
};
_Static_assert(sizeof(struct icmphdr) == 8, "icmphdr");
#define ICMP_ECHOREPLY     0
#define ICMP_DEST_UNREACH  3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO          8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
/* ICMPv6 begins in the same way. */
#define ICMPV6_DEST_UNREACH 1
#define ICMPV6_PARAMPROB    4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY   129

/* ---- helpers, all in 5.10
 * --------------------------------------------------------------------------------------------- */

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
/* GPL only; at most three values. */
static long (*const bpf_trace_printk)(const char *fmt, __u32 fmt_size, ...) = (void *)6;
static __u32 (*const bpf_get_prandom_u32)(void) = (void *)7;
static __u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static long (*const bpf_skb_store_bytes)(struct __sk_buff *skb, __u32 off, const void *from, __u32 len,
                                         __u64 flags) = (void *)9;
static long (*const bpf_l4_csum_replace)(struct __sk_buff *skb, __u32 off, __u64 from, __u64 to,
                                         __u64 flags) = (void *)11;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static __s64 (*const bpf_csum_diff)(const void *from, __u32 from_size, const void *to, __u32 to_size,
                                    __u32 seed) = (void *)28;
static long (*const bpf_skb_change_tail)(struct __sk_buff *skb, __u32 len, __u64 flags) = (void *)38;
static long (*const bpf_skb_pull_data)(struct __sk_buff *skb, __u32 len) = (void *)39;
static __s64 (*const bpf_csum_update)(struct __sk_buff *skb, __u32 csum) = (void *)40;
static long (*const bpf_skb_adjust_room)(struct __sk_buff *skb, __s32 len_diff, __u32 mode, __u64 flags) = (void *)50;
static long (*const bpf_sk_release)(void *sk) = (void *)86;
static long (*const bpf_spin_lock)(struct bpf_spin_lock *lock) = (void *)93;
static long (*const bpf_spin_unlock)(struct bpf_spin_lock *lock) = (void *)94;
static struct bpf_sock *(*const bpf_sk_lookup_udp)(void *ctx, void *tuple, __u32 size, __u64 netns,
                                                   __u64 flags) = (void *)85;
static long (*const bpf_skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) = (void *)26;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static void *(*const bpf_ringbuf_reserve)(void *ringbuf, __u64 size, __u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *data, __u64 flags) = (void *)132;
static void (*const bpf_ringbuf_discard)(void *data, __u64 flags) = (void *)133;
static __u64 (*const bpf_ringbuf_query)(void *ringbuf, __u64 flags) = (void *)134;
static struct bpf_sock *(*const bpf_skc_lookup_tcp)(void *ctx, void *tuple, __u32 size, __u64 netns,
                                                    __u64 flags) = (void *)99;
static __u64 (*const bpf_jiffies64)(void) = (void *)118;
static long (*const bpf_redirect_neigh)(__u32 ifindex, void *params, int len, __u64 flags) = (void *)152;

#define bpf_printk(fmt, args...)                                                                                       \
	({                                                                                                             \
		static const char _fmt[] = fmt;                                                                        \
		bpf_trace_printk(_fmt, sizeof(_fmt), ##args);                                                          \
	})

/* Flags of bpf_l4_csum_replace: the size of the field is in the low four bits. */
#define BPF_F_PSEUDO_HDR     (1ULL << 4)
#define BPF_F_MARK_MANGLED_0 (1ULL << 5)

/* Of bpf_skb_store_bytes: the sum that a device made of the packet follows. */
#define BPF_F_RECOMPUTE_CSUM (1ULL << 0)
#define BPF_RB_AVAIL_DATA    0 /* bytes that nobody has read yet */

/* Of bpf_skb_adjust_room: where the bytes come or go. */
#define BPF_ADJ_ROOM_NET 0 /* behind the IP header without options */
#define BPF_ADJ_ROOM_MAC 1 /* before the IP header */

#endif
