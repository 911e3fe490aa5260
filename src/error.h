/* The words behind a negative errno: this thread's last error, as fusewire_last_error() hands it out. */
#ifndef FUSEWIRE_ERROR_H
#define FUSEWIRE_ERROR_H

/* Keeps the words and returns `error` (a negative errno), so that a function can say `return fail(-EINVAL, "...")`. The
 * words are a sentence without a full stop that says what is wrong and, where it can, what to do about it. */
int fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* The same, with ": " and the errno's own description behind the words. */
int fail_errno(int error, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

const char *last_error(void);

#endif
