/* Checks of the C tests: the first that fails says where and what, and ends the program with status 1. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                              \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                   \
            exit(1);                                                                                                  \
        }                                                                                                             \
    } while (0)

/* Two integers of any type are equal. */
#define CHECK_EQ(actual, expected)                                                                                    \
    check_equal((uint64_t)(actual), (uint64_t)(expected), #actual " == " #expected, __FILE__, __LINE__)

#define CHECK_STRING(actual, expected) check_string(actual, expected, #actual, __FILE__, __LINE__)

static inline void check_equal(uint64_t actual, uint64_t expected, const char *words, const char *file, int line)
{
    if (actual == expected)
        return;
    fprintf(stderr, "%s:%d: not so: %s (%" PRId64 ", not %" PRId64 ")\n", file, line, words, (int64_t)actual,
            (int64_t)expected);
    exit(1);
}

static inline void check_string(const char *actual, const char *expected, const char *words, const char *file, int line)
{
    if (actual && strcmp(actual, expected) == 0)
        return;
    fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", file, line, words, actual ? actual : "(null)", expected);
    exit(1);
}

#endif
