/* Directory entries, as READDIR and READDIRPLUS return them. */
#include "protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

int64_t wire_dirent(void *buffer, size_t capacity, size_t used, const fusewire_entry *entry, uint64_t ino,
                    uint64_t offset, uint32_t type, const char *name, size_t name_size)
{
    if (!buffer || !name || name_size == 0 || name_size > WIRE_NAME_MAX || used > capacity || used % 8 != 0)
        return -EINVAL;
    if (memchr(name, '/', name_size) || memchr(name, '\0', name_size))
        return -EINVAL;
    size_t prefix = entry ? sizeof *entry : 0;
    size_t bare = prefix + sizeof(struct wire_dirent) + name_size;
    size_t size = wire_align(bare);
    if (size > capacity - used)
        return -ENOBUFS;

    if (entry) {
        ino = entry->attr.ino;
        type = entry->attr.mode;
    }
    struct wire_dirent dirent = {
        .ino = ino, .off = offset, .namelen = (uint32_t)name_size, .type = (type & S_IFMT) >> 12};
    char *at = (char *)buffer + used;
    if (entry)
        memcpy(at, entry, sizeof *entry);
    memcpy(at + prefix, &dirent, sizeof dirent);
    memcpy(at + prefix + sizeof dirent, name, name_size);
    memset(at + bare, 0, size - bare);
    return (int64_t)(used + size);
}
