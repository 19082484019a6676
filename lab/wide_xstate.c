/* Lets User-Mode Linux run on processors whose extended state is larger than it knows (AMX: 11 KiB).
 *
 * UML keeps 2696 bytes of a process's XSAVE area and writes them back by ptrace. The host's kernel takes only the whole area (EFAULT
 * otherwise), and UML's first process dies: "userspace - ptrace set fp regs failed, errno = 14". This library, preloaded into UML, sends
 * the whole area: UML's bytes, and behind them what the process has there now.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

enum { LARGEST_AREA_BYTES = 65536 };

static long (*next_ptrace)(int request, pid_t pid, void *address, void *data);
static _Alignas(64) char whole[LARGEST_AREA_BYTES];

static long set_whole_area(pid_t pid, const struct iovec *part)
{
	struct iovec area = { whole, sizeof whole };

	if (next_ptrace(PTRACE_GETREGSET, pid, (void *)(long)NT_X86_XSTATE, &area) < 0)
		return -1;
	if (area.iov_len < part->iov_len) {
		errno = EFAULT;
		return -1;
	}
	memcpy(whole, part->iov_base, part->iov_len);
	return next_ptrace(PTRACE_SETREGSET, pid, (void *)(long)NT_X86_XSTATE, &area);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if (next_ptrace == NULL)
		next_ptrace = (long (*)(int, pid_t, void *, void *))dlsym(RTLD_NEXT, "ptrace");
	long result = next_ptrace(request, pid, address, data);
	if (result < 0 && errno == EFAULT && request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
		return set_whole_area(pid, data);
	return result;
}
