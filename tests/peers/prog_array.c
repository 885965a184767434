// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
/* How many maps of a type stay in the kernel after their only user closed them, when another thread opens and closes
 * each by its id meanwhile: none may, and of type 3 (PROG_ARRAY) many do; see loader/docs/conformance.md.
 *
 *   cc -O2 -pthread prog_array.c -o prog_array && sudo ./prog_array TYPE BESIDE     BESIDE: 1 with the other thread, 0
 * without
 *
 * What stays, stays until the machine is booted again: a few hundred bytes each. */
#include <linux/bpf.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAPS 200

static volatile __u32 watched;
static volatile int done;

static int bpf(int command, union bpf_attr attr)
{
	return (int)syscall(SYS_bpf, command, &attr, sizeof(attr));
}

static int open_and_close(__u32 id)
{
	int fd = bpf(BPF_MAP_GET_FD_BY_ID, (union bpf_attr){.map_id = id});

	return fd >= 0 ? close(fd) == 0 : 0;
}

static void *beside(void *unused)
{
	while (!done)
		open_and_close(watched);
	return unused;
}

int main(int count, char **words)
{
	__u32 type = count > 1 ? (__u32)atoi(words[1]) : BPF_MAP_TYPE_PROG_ARRAY;
	int other = count > 2 ? atoi(words[2]) : 1, stayed = 0;
	__u32 ids[MAPS];
	pthread_t thread;

	if (other && pthread_create(&thread, NULL, beside, NULL))
		return 1;
	for (int i = 0; i < MAPS; i++) {
		struct bpf_map_info info = {0};
		int fd = bpf(BPF_MAP_CREATE,
		             (union bpf_attr){.map_type = type, .key_size = 4, .value_size = 4, .max_entries = 1});

		if (fd < 0 || bpf(BPF_OBJ_GET_INFO_BY_FD, (union bpf_attr){.info = {.bpf_fd = (__u32)fd,
		                                                                    .info_len = sizeof(info),
		                                                                    .info = (__u64)&info}}))
			return 1;
		ids[i] = watched = info.id;
		usleep(20);
		close(fd);
		usleep(20);
	}
	done = 1;
	if (other)
		pthread_join(thread, NULL);
	sleep(2); /* The kernel takes maps away a little later. */
	for (int i = 0; i < MAPS; i++)
		stayed += open_and_close(ids[i]);
	printf("type %u: %d of %d maps stayed\n", type, stayed, MAPS);
	return 0;
}
