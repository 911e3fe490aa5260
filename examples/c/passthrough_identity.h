/* Whose rights a thread works with. A server that runs as root creates files in the caller's name, so that owner,
 * group, set-group-ID and ACL inheritance come out as if the caller had made them; the kernel has checked already that
 * the caller may. Any other server can only act for itself. */
#ifndef PASSTHROUGH_IDENTITY_H
#define PASSTHROUGH_IDENTITY_H

#include <fusewire.h>

#include <stdbool.h>

/* Finds out, before there are threads, whether this process can act for others. */
void identity_prepare(void);

/* Makes the caller's of `request` (CREATE MKNOD MKDIR SYMLINK TMPFILE, RENAME2) this thread's, until
 * identity_restore(): owner, group, umask. Returns what `mode` has to be for the call that creates. Between the two
 * /proc and descriptors of others are not to be used. */
uint32_t identity_assume(const fusewire_request *request, uint32_t mode);
void identity_restore(void);

/* What this thread's next changes to a file do to its set-user-ID and set-group-ID bits: leave them alone, or clear
 * them as for the caller of `request`. The filesystem below decides by CAP_FSETID and the group. */
void identity_keep_setid(void);
void identity_clear_setid(const fusewire_request *request);

#endif
