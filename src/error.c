#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char words[512] = "no error";

int fail(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    return error;
}

int fail_errno(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int used = vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    if (used >= 0 && (size_t)used < sizeof words)
        snprintf(words + used, sizeof words - (size_t)used, ": %s", strerrordesc_np(-error));
    return error;
}

const char *last_error(void)
{
    return words;
}
