#include "passthrough_identity.h"

#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The system calls, not the C library's functions: those change all threads at once. */

static bool acts_for_others;

static _Thread_local struct {
    struct __user_cap_data_struct capabilities[2];
    bool started;
    bool own_umask; /* not shared with the other threads */
    bool keeps_setid;
    bool other_user;
    bool other_groups;
    gid_t group; /* in effect: of whoever was the last that it mattered for */
} thread;

static bool get_capabilities(struct __user_cap_data_struct *data)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, data) == 0;
}

/* All that are permitted in effect, with or without CAP_FSETID. */
static void raise_capabilities(bool setid)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    thread.capabilities[0].effective = thread.capabilities[0].permitted;
    thread.capabilities[1].effective = thread.capabilities[1].permitted;
    if (!setid)
        thread.capabilities[0].effective &= ~(UINT32_C(1) << CAP_FSETID);
    syscall(SYS_capset, &header, thread.capabilities);
    thread.keeps_setid = setid;
}

static void set_group(gid_t group)
{
    if (thread.group != group)
        setfsgid(group);
    thread.group = group;
}

void identity_prepare(void)
{
    struct __user_cap_data_struct data[2];
    uint32_t needed = UINT32_C(1) << CAP_SETUID | UINT32_C(1) << CAP_SETGID | UINT32_C(1) << CAP_DAC_OVERRIDE;
    acts_for_others = geteuid() == 0 && get_capabilities(data) && (data[0].effective & needed) == needed;
    umask(0);
}

static void start_thread(void)
{
    if (thread.started)
        return;
    thread.started = true;
    thread.own_umask = unshare(CLONE_FS) == 0;
    if (!acts_for_others)
        return;
    thread.group = getegid();
    syscall(SYS_setgroups, 0, NULL);
    get_capabilities(thread.capabilities);
    raise_capabilities(true);
}

uint32_t identity_assume(const fusewire_request *request, uint32_t mode)
{
    start_thread();
    /* The filesystem below knows whether an inherited ACL takes the umask's place. */
    if (thread.own_umask)
        umask(request->umask);
    else
        mode &= ~request->umask;
    if (!acts_for_others)
        return mode;

    set_group(request->gid);
    if (request->uid != 0) {
        if (request->supp_group_count > 0)
            thread.other_groups = syscall(SYS_setgroups, request->supp_group_count, request->supp_groups) == 0;
        setfsuid(request->uid);
        /* setfsuid took these away. The kernel may have let the caller in by a group or ACL that is not told here. */
        raise_capabilities(false);
        thread.other_user = true;
    } else {
        identity_keep_setid();
    }
    return mode;
}

void identity_restore(void)
{
    if (!acts_for_others)
        return;
    if (thread.other_user) {
        setfsuid(0);
        thread.other_user = false;
        thread.keeps_setid = true; /* as all capabilities over files, which came back with the user id */
    }
    if (thread.other_groups) {
        syscall(SYS_setgroups, 0, NULL);
        thread.other_groups = false;
    }
}

void identity_keep_setid(void)
{
    start_thread();
    if (acts_for_others && !thread.keeps_setid)
        raise_capabilities(true);
}

void identity_clear_setid(const fusewire_request *request)
{
    start_thread();
    if (!acts_for_others)
        return;
    set_group(request->gid);
    if (thread.keeps_setid)
        raise_capabilities(false);
}
