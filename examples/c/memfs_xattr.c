#include "memfs.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

static struct xattr **place_of(struct node *node, const char *name)
{
    struct xattr **place = &node->xattrs;
    while (*place != NULL && strcmp((*place)->name, name) != 0)
        place = &(*place)->next;
    return place;
}

static void xattr_free(struct memfs *fs, struct xattr *xattr)
{
    space_give_back(&fs->space, xattr->name_size + xattr->value_size);
    free(xattr->name);
    free(xattr);
}

static void unlink_at(struct memfs *fs, struct xattr **place)
{
    struct xattr *xattr = *place;
    *place = xattr->next;
    xattr_free(fs, xattr);
}

void xattrs_free(struct memfs *fs, struct node *node)
{
    while (node->xattrs != NULL)
        unlink_at(fs, &node->xattrs);
}

void xattr_drop(struct memfs *fs, struct node *node, const char *name)
{
    struct xattr **place = place_of(node, name);
    if (*place != NULL)
        unlink_at(fs, place);
}

static struct xattr *xattr_new(struct memfs *fs, const fusewire_request *request)
{
    size_t value_size = (size_t)request->data_size;
    if (!space_take(&fs->space, request->name_size + value_size))
        return NULL;
    struct xattr *xattr = malloc(sizeof *xattr + value_size);
    char *name = strdup(request->name);
    if (xattr == NULL || name == NULL) {
        space_give_back(&fs->space, request->name_size + value_size);
        free(xattr);
        free(name);
        return NULL;
    }
    *xattr = (struct xattr){.name = name, .name_size = request->name_size, .value_size = value_size};
    if (value_size > 0)
        memcpy(xattr->value, request->data, value_size);
    return xattr;
}

/* Access control lists would need the server's part in them: refused rather than stored and not honoured. */
static bool is_supported(const char *name)
{
    return strncmp(name, "system.", strlen("system.")) != 0;
}

int handle_setxattr(struct memfs *fs, struct node *node, fusewire_connection *connection,
                    const fusewire_request *request)
{
    if (!is_supported(request->name))
        return -EOPNOTSUPP;
    if (request->name_size > XATTR_NAME_MAX)
        return -ERANGE;
    if (request->data_size > XATTR_SIZE_MAX)
        return -E2BIG;
    struct xattr **place = place_of(node, request->name);
    if ((request->flags & XATTR_CREATE) && *place != NULL)
        return -EEXIST;
    if ((request->flags & XATTR_REPLACE) && *place == NULL)
        return -ENODATA;
    struct xattr *xattr = xattr_new(fs, request);
    if (xattr == NULL)
        return -ENOSPC;
    if (*place != NULL)
        unlink_at(fs, place);
    xattr->next = *place;
    *place = xattr;
    node_touch(node, NODE_CTIME);
    return fusewire_reply_ok(connection, request->id);
}

int handle_getxattr(struct memfs *fs, struct node *node, fusewire_connection *connection,
                    const fusewire_request *request)
{
    (void)fs;
    if (!is_supported(request->name))
        return -EOPNOTSUPP;
    const struct xattr *xattr = *place_of(node, request->name);
    if (xattr == NULL)
        return -ENODATA;
    if (request->length == 0)
        return fusewire_reply_xattr_size(connection, request->id, (uint32_t)xattr->value_size);
    if (request->length < xattr->value_size)
        return -ERANGE;
    return fusewire_reply_data(connection, request->id, xattr->value, xattr->value_size);
}

int handle_listxattr(struct memfs *fs, struct node *node, fusewire_connection *connection,
                     const fusewire_request *request)
{
    (void)fs;
    size_t size = 0;
    for (const struct xattr *xattr = node->xattrs; xattr != NULL; xattr = xattr->next)
        size += xattr->name_size + 1;
    if (size > XATTR_LIST_MAX)
        return -E2BIG;
    if (request->length == 0)
        return fusewire_reply_xattr_size(connection, request->id, (uint32_t)size);
    if (request->length < size)
        return -ERANGE;
    char *names = malloc(size + 1);
    if (names == NULL)
        return -ENOMEM;
    char *end = names;
    for (const struct xattr *xattr = node->xattrs; xattr != NULL; xattr = xattr->next)
        end = stpcpy(end, xattr->name) + 1;
    int result = fusewire_reply_data(connection, request->id, names, size);
    free(names);
    return result;
}

int handle_removexattr(struct memfs *fs, struct node *node, fusewire_connection *connection,
                       const fusewire_request *request)
{
    if (!is_supported(request->name))
        return -EOPNOTSUPP;
    struct xattr **place = place_of(node, request->name);
    if (*place == NULL)
        return -ENODATA;
    unlink_at(fs, place);
    node_touch(node, NODE_CTIME);
    return fusewire_reply_ok(connection, request->id);
}
