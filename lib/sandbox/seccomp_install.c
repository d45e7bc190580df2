#include "seccomp_install.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "filter_program.h" /* made by seccomp_list.c */

int seccomp_install(void)
{
    const struct sock_fprog p = {sizeof program / sizeof *program, program};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) < 0 ? -errno : 0;
}
