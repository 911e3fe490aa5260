/* The extensions of requests that create something: security contexts and supplementary groups. They follow names, so
 * nothing in them is aligned. */
#include "protocol.h"

#include <errno.h>
#include <string.h>

/* One security context, and how far the next one is from it. */
struct context {
    const char *name;
    const void *value;
    size_t value_size;
    size_t step;
};

static bool read_context(const char *at, size_t left, struct context *context)
{
    struct wire_security_context header;
    if (left < sizeof header)
        return false;
    memcpy(&header, at, sizeof header);
    context->name = at + sizeof header;
    const char *name_end = memchr(context->name, '\0', left - sizeof header);
    if (!name_end)
        return false;
    context->value = name_end + 1;
    context->value_size = header.size;
    size_t used = (size_t)(name_end + 1 - at);
    if (header.size > left - used)
        return false;
    context->step = wire_align(used + header.size);
    return context->step <= left;
}

static bool decode_contexts(const char *at, size_t size, uint32_t count, fusewire_request *request)
{
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct context context;
        if (!read_context(at + used, size - used, &context))
            return false;
        used += context.step;
    }
    if (count > 0) {
        request->security_context = at;
        request->security_context_size = (uint32_t)size;
        request->security_context_count = count;
    }
    return true;
}

static bool decode_groups(const char *at, size_t size, fusewire_request *request)
{
    uint32_t count;
    if (size < sizeof count)
        return false;
    memcpy(&count, at, sizeof count);
    if (count > (size - sizeof count) / sizeof(uint32_t))
        return false;
    if (count > 0) {
        request->supp_groups = (const void *)(at + sizeof count);
        request->supp_group_count = count;
    }
    return true;
}

int wire_decode_extensions(const char *at, size_t size, fusewire_request *request)
{
    while (size > 0) {
        struct wire_extension extension;
        if (size < sizeof extension)
            return -EBADMSG;
        memcpy(&extension, at, sizeof extension);
        if (extension.size < sizeof extension || extension.size > size || extension.size % 8 != 0)
            return -EBADMSG;
        const char *content = at + sizeof extension;
        size_t content_size = extension.size - sizeof extension;
        bool valid = true; /* a type that this version does not know is skipped */
        if (extension.type <= WIRE_SECURITY_CONTEXTS)
            valid = decode_contexts(content, content_size, extension.type, request);
        else if (extension.type == WIRE_SUPPLEMENTARY_GROUPS)
            valid = decode_groups(content, content_size, request);
        if (!valid)
            return -EBADMSG;
        at += extension.size;
        size -= extension.size;
    }
    return 0;
}

int wire_security_context(const fusewire_request *request, uint32_t index, const char **name, const void **value,
                          size_t *value_size)
{
    if (index >= request->security_context_count)
        return -ERANGE;
    const char *at = request->security_context;
    size_t left = request->security_context_size;
    struct context context;
    for (uint32_t i = 0; i <= index; i++) {
        if (!read_context(at, left, &context))
            return -ERANGE;
        at += context.step;
        left -= context.step;
    }
    *name = context.name;
    *value = context.value;
    *value_size = context.value_size;
    return 0;
}
