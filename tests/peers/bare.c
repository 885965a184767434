/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * IFINDEX MAPS PROGRAMS: makes, pins and attaches so many maps and programs of two instructions, and reads no object:
 * what no loader can do without.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DIR "/sys/fs/bpf/bare"

static const struct bpf_insn insns[] = {
	{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1},
	{.code = BPF_JMP | BPF_EXIT},
};

static int bpf(int command, union bpf_attr *attr, unsigned int size)
{
	int result = syscall(SYS_bpf, command, attr, size);

	if (result < 0) {
		perror("bpf");
		exit(1);
	}
	return result;
}

static void pin(int fd, char kind, int number)
{
	char path[64];
	union bpf_attr attr = {.pathname = (unsigned long)path, .bpf_fd = fd};

	snprintf(path, sizeof(path), DIR "/%c%d", kind, number);
	bpf(BPF_OBJ_PIN, &attr, 12);
}

struct request {
	struct nlmsghdr header;
	struct tcmsg tc;
	char attributes[64];
};

static void add(struct request *request, int type, const void *data, int length)
{
	struct rtattr *attribute = (void *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = RTA_LENGTH(length);
	memcpy(RTA_DATA(attribute), data, length);
	request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + RTA_SPACE(length);
}

static void ask(int fd, struct request *request)
{
	char answer[4096];
	struct nlmsghdr *header = (void *)answer;

	send(fd, request, request->header.nlmsg_len, 0);
	if (recv(fd, answer, sizeof(answer), 0) < 0 || *(int *)NLMSG_DATA(header) != 0)
		exit(1);
}

int main(int argc, char **argv)
{
	struct request qdisc = {}, filter = {};
	unsigned int flags = 1, i, options[4];
	int fd, program = -1;

	if (argc != 4)
		return 2;
	mkdir(DIR, 0700);
	for (i = 0; i < (unsigned int)atoi(argv[2]); i++) {
		union bpf_attr attr = {
			.map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 64};

		pin(bpf(BPF_MAP_CREATE, &attr, 72), 'm', i);
	}
	for (i = 0; i < (unsigned int)atoi(argv[3]); i++) {
		union bpf_attr attr = {
			.prog_type = BPF_PROG_TYPE_SCHED_CLS,
			.insn_cnt = 2,
			.insns = (unsigned long)insns,
			.license = (unsigned long)"GPL",
		};

		program = bpf(BPF_PROG_LOAD, &attr, 72);
		pin(program, 'p', i);
	}
	fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	qdisc.header.nlmsg_len = filter.header.nlmsg_len = NLMSG_LENGTH(sizeof(struct tcmsg));
	qdisc.header.nlmsg_flags = filter.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
	qdisc.tc.tcm_ifindex = filter.tc.tcm_ifindex = atoi(argv[1]);
	qdisc.header.nlmsg_type = RTM_NEWQDISC;
	qdisc.tc.tcm_parent = TC_H_CLSACT;
	qdisc.tc.tcm_handle = 0xffff0000;
	add(&qdisc, TCA_KIND, "clsact", 7);
	ask(fd, &qdisc);
	filter.header.nlmsg_type = RTM_NEWTFILTER;
	filter.tc.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
	filter.tc.tcm_handle = 1;
	filter.tc.tcm_info = 200 << 16 | 0x0300; /* htons(ETH_P_ALL) */
	add(&filter, TCA_KIND, "bpf", 4);
	options[0] = 8 | TCA_BPF_FD << 16;
	options[1] = program;
	options[2] = 8 | TCA_BPF_FLAGS << 16;
	options[3] = flags;
	add(&filter, TCA_OPTIONS, options, sizeof(options));
	ask(fd, &filter);
	return 0;
}
