/* SPDX-License-Identifier: MIT OR GPL-2.0-or-later */
/*
 * COMMAND...: runs it under ptrace(2), and writes a C program on stdout that makes the same system calls with the same
 * bytes and does nothing else: what a loader would cost that thinks of nothing.
 *
 * Descriptors are the same numbers, for they are opened and closed in the same order. Left out are calls about memory,
 * and the start of the C library and the end, which the written program has itself. x86-64, for measuring only.
 */
#define _GNU_SOURCE
#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define FDS 4096

/* One letter an argument: Number, String, In of as many bytes as the next argument says, a little that is read, Out,
 * Length. */
static const struct {
	long number;
	const char *arguments;
} known[] = {
	{SYS_poll, "inn"},         {SYS_rt_sigaction, "nion"},
	{SYS_openat, "nsnn"},      {SYS_prlimit64, "nnno"},
	{SYS_newfstatat, "nson"},  {SYS_read, "non"},
	{SYS_close, "n"},          {SYS_sched_getaffinity, "nno"},
	{SYS_sigaltstack, "io"},   {SYS_gettid, ""},
	{SYS_ioctl, "nno"},        {SYS_statx, "nsnno"},
	{SYS_flock, "nn"},         {SYS_socket, "nnn"},
	{SYS_setsockopt, "nnnIn"}, {SYS_bind, "nIn"},
	{SYS_getsockname, "nol"},  {SYS_getsockopt, "nnnol"},
	{SYS_sendto, "nInnin"},    {SYS_recvfrom, "nonnol"},
	{SYS_statfs, "so"},        {SYS_rt_sigprocmask, "nion"},
	{SYS_signalfd4, "ninn"},   {SYS_mkdir, "sn"},
	{SYS_rename, "ss"},        {SYS_write, "nIn"},
	{SYS_fcntl, "nnn"},        {SYS_geteuid, ""},
	{SYS_getdents64, "non"},   {SYS_uname, "o"},
	{SYS_pread64, "nonn"},     {SYS_lseek, "nnn"},
};

static const long memory[] = {SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_exit_group};

static pid_t child;
static unsigned int blobs;
static unsigned int key_size[FDS], value_size[FDS];
static char *calls;
static size_t calls_length;
static FILE *list;

static void fail(const char *what, long number)
{
	fprintf(stderr, "record: %s %ld\n", what, number);
	exit(1);
}

static size_t peek(unsigned long from, void *to, size_t length)
{
	struct iovec here = {to, length}, there = {(void *)from, length};
	ssize_t got = process_vm_readv(child, &here, 1, &there, 1, 0);

	return got < 0 ? 0 : (size_t)got;
}

/* Writes bytes of the child, zeros where it has none; their name is d and the number that is returned. */
static unsigned int blob(unsigned long from, size_t length)
{
	unsigned char *bytes = calloc(1, length + 1);
	size_t i;

	peek(from, bytes, length);
	printf("static unsigned char d%u[%zu] __attribute__((aligned(8))) = {", blobs, length + 1);
	for (i = 0; i < length; i++)
		printf("%u,", bytes[i]);
	printf("0};\n");
	free(bytes);
	return blobs++;
}

static unsigned int string(unsigned long from)
{
	char text[4096] = "";
	size_t length;

	/* Not beyond its page: the next one may not be there. */
	length = peek(from, text, 4096 - from % 4096);
	if (!memchr(text, 0, length))
		peek(from, text, sizeof(text) - 1);
	return blob(from, strlen(text));
}

/* Prints where the child's address leads in the new program; 0 stays 0. */
static void pointer(char kind, unsigned long at, size_t length)
{
	if (!at)
		fprintf(list, "0,");
	else if (kind == 'o')
		fprintf(list, "(long)room,");
	else
		fprintf(list, "(long)d%u,", kind == 's' ? string(at) : blob(at, length));
}

static const struct {
	int command, at;
	char kind;
	/* Of a count in the attribute, and what it counts in bytes. */
	int count, unit;
} pointers[] = {
	{BPF_PROG_LOAD, 8, 'i', 4, 8},       {BPF_PROG_LOAD, 16, 's', 0, 0},
	{BPF_PROG_LOAD, 80, 'i', 88, 8},     {BPF_PROG_LOAD, 96, 'i', 104, 16},
	{BPF_OBJ_PIN, 0, 's', 0, 0},         {BPF_OBJ_GET, 0, 's', 0, 0},
	{BPF_BTF_LOAD, 0, 'i', 16, 1},       {BPF_OBJ_GET_INFO_BY_FD, 8, 'o', 0, 0},
	{BPF_MAP_UPDATE_ELEM, 8, 'k', 0, 0}, {BPF_MAP_UPDATE_ELEM, 16, 'v', 0, 0},
};

/* The attribute of bpf(2), whose pointers lead into the new program. */
static unsigned int attribute(int command, unsigned long from, size_t length)
{
	unsigned int names[32] = {0}, words[32] = {0}, number, fd, i, p;
	char kinds[32] = {0};

	peek(from, words, length < sizeof(words) ? length : sizeof(words));
	fd = words[0] < FDS ? words[0] : 0;
	for (p = 0; p < sizeof(pointers) / sizeof(*pointers); p++) {
		unsigned long at;
		size_t size = 0;

		i = pointers[p].at / 4;
		if (pointers[p].command != command || (size_t)pointers[p].at + 8 > length)
			continue;
		at = words[i] | (unsigned long)words[i + 1] << 32;
		if (!at)
			continue;
		kinds[i] = pointers[p].kind;
		if (kinds[i] == 'k')
			size = key_size[fd];
		else if (kinds[i] == 'v')
			size = value_size[fd];
		else if (kinds[i] == 'i')
			size = (size_t)words[pointers[p].count / 4] * pointers[p].unit;
		if (kinds[i] != 'o')
			names[i] = kinds[i] == 's' ? string(at) : blob(at, size);
	}
	number = blobs++;
	printf("static unsigned long d%u[] = {", number);
	for (i = 0; i < length / 4 + length % 4; i += 2) {
		if (kinds[i] == 'o')
			printf("(unsigned long)room,");
		else if (kinds[i])
			printf("(unsigned long)d%u,", names[i]);
		else
			printf("%luUL,", words[i] | (unsigned long)words[i + 1] << 32);
	}
	printf("};\n");
	return number;
}

static void note(const struct user_regs_struct *regs)
{
	unsigned long arguments[6] = {regs->rdi, regs->rsi, regs->rdx, regs->r10, regs->r8, regs->r9};
	long number = regs->orig_rax, result = regs->rax;
	unsigned int i, k;

	for (i = 0; i < sizeof(memory) / sizeof(*memory); i++)
		if (memory[i] == number)
			return;
	if (number == SYS_bpf) {
		unsigned int words[3] = {0};

		peek(arguments[1], words, sizeof(words));
		if (arguments[0] == BPF_MAP_CREATE && (unsigned long)result < FDS) {
			key_size[result] = words[1];
			value_size[result] = words[2];
		}
		i = attribute(arguments[0], arguments[1], arguments[2]);
		fprintf(list, "\t{%ld, %d, {%lu, (long)d%u, %lu}},\n", number, result >= 0, arguments[0], i,
		        arguments[2]);
		return;
	}
	for (k = 0; k < sizeof(known) / sizeof(*known) && known[k].number != number; k++)
		;
	if (k == sizeof(known) / sizeof(*known))
		fail("a call that is not known here:", number);
	fprintf(list, "\t{%ld, %d, {", number, result >= 0);
	for (i = 0; known[k].arguments[i]; i++) {
		char kind = known[k].arguments[i];

		/* Its own number means the process itself, as 0 does. */
		if (kind == 'n')
			fprintf(list, "%ld,", arguments[i] == (unsigned long)child ? 0 : (long)arguments[i]);
		else
			pointer(kind, arguments[i], kind == 'I' ? arguments[i + 1] : kind == 'l' ? 4 : 32);
	}
	fprintf(list, "}},\n");
}

int main(int argc, char **argv)
{
	struct user_regs_struct regs;
	int status, inside = 0, begun = 0;

	if (argc < 2)
		return 2;
	child = fork();
	if (child == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		/* What the program prints is not what we print. */
		dup2(2, 1);
		close_range(3, ~0U, 0);
		execvp(argv[1], argv + 1);
		_exit(127);
	}
	list = open_memstream(&calls, &calls_length);
	printf("#include <stdio.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n"
	       "static unsigned char room[1 << 20];\n");
	waitpid(child, &status, 0);
	ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	for (;;) {
		ptrace(PTRACE_SYSCALL, child, 0, 0);
		waitpid(child, &status, 0);
		if (WIFEXITED(status))
			break;
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80))
			fail("stopped by", WIFSTOPPED(status) ? WSTOPSIG(status) : status);
		inside = !inside;
		if (inside)
			continue;
		ptrace(PTRACE_GETREGS, child, 0, &regs);
		/* Rust's start asks first whether 0, 1 and 2 are open; what came before is the C library. */
		begun |= regs.orig_rax == SYS_poll;
		if (begun)
			note(&regs);
	}
	if (WEXITSTATUS(status))
		fail("it ended with", WEXITSTATUS(status));
	fclose(list);
	printf("static const struct { long number; int works; long arguments[6]; } calls[] = {\n%s};\n", calls);
	printf("int main(void)\n{\n\tfor (unsigned int i = 0; i < sizeof(calls) / sizeof(*calls); i++) {\n"
	       "\t\tconst long *a = calls[i].arguments;\n"
	       "\t\tlong result = syscall(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);\n"
	       "\t\tif (calls[i].works != (result >= 0)) {\n"
	       "\t\t\tfprintf(stderr, \"call %%u: %%m\\n\", i);\n\t\t\treturn 1;\n\t\t}\n\t}\n\treturn 0;\n}\n");
	return 0;
}
