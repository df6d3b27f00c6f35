/* lists.c - one call of poll or select on a list of the caller's, without a mux.
 *
 * The mechanisms of poll.c keep the set, allow changes during a wait, and have a
 * wake-up. A program that builds its lists for every call, as programs around
 * select do, needs none of that, and these calls do not have its cost.
 */

/* On macOS: without it, pselect() refuses descriptors above FD_SETSIZE. */
#define _DARWIN_UNLIMITED_SELECT 1

#include "internal.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

enum {
    FMUX__WORD_BITS = (int)(sizeof(unsigned long) * CHAR_BIT),
    FMUX__SMALL = 1024 / FMUX__WORD_BITS /* words that need no allocation */
};

/* ---- the system calls -------------------------------------------------- */

static struct timespec fmux__timespec(int64_t ns)
{
    struct timespec result = {
        .tv_sec = (time_t)(ns / 1000000000),
        .tv_nsec = (long)(ns % 1000000000),
    };
    return result;
}

int fmux_poll_list(struct pollfd *records, int length, int64_t timeout_ns)
{
    int n;
#if defined(__linux__)
    /* Only for a sleep: ppoll takes 100 ns longer than poll, because it copies the
     * timeout in and out. */
    if (timeout_ns > 0) {
        struct timespec timeout = fmux__timespec(timeout_ns);
        n = ppoll(records, (nfds_t)length, &timeout, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return n < 0 ? -errno : n;
    }
#endif
    bool cut = false;
    int ms = timeout_ns <= 0 ? -(timeout_ns < 0)
                             : fmux_milliseconds(timeout_ns, &cut);
    n = poll(records, (nfds_t)length, ms);
    if (n == 0 && cut)
        return -EINTR;
    return n < 0 ? -errno : n;
}

int fmux_ask_select(int bits, unsigned long *maps[3], int64_t timeout_ns)
{
    struct timespec timeout = fmux__timespec(timeout_ns);
    int n = pselect(bits, (fd_set *)(void *)maps[0], (fd_set *)(void *)maps[1],
                    (fd_set *)(void *)maps[2],
                    timeout_ns < 0 ? NULL : &timeout, NULL);
    return n < 0 ? -errno : n;
}

/* ---- select -------------------------------------------------------------
 *
 * By poll(2) where that gives the same result, because it is cheaper: select(2)
 * copies six bitmaps and walks all numbers up to the highest. The kernel derives
 * both results from the same events of a file, by the table below. There are two
 * differences. poll ends for a hang-up or an error even if the descriptor is in a
 * list that does not report it; select(2) then waits for the rest of the time. And
 * poll visits a descriptor once for each list that contains it.
 */

/* The events that poll requests for each of the three lists, and the ones that
 * make a descriptor ready. */
static const struct {
    int ask, answer;
} fmux_select__kinds[3] = {
    {POLLIN | POLLRDNORM | POLLRDBAND,
     POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR},
    {POLLOUT | POLLWRNORM | POLLWRBAND,
     POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR},
    {POLLPRI, POLLPRI},
};

static int fmux_select__total(const fmux_select_list_t *s)
{
    return s->asked[0] + s->asked[1] + s->asked[2];
}

/* Use poll. Sets *not_out if this may not be the result of select, which the caller
 * then uses instead. */
static int fmux_select__by_poll(fmux_select_list_t *s, int64_t timeout_ns,
                                bool *not_out)
{
    struct pollfd *record = s->records;
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < s->asked[kind]; i++, record++) {
            *not_out = record->fd < 0; /* which poll would skip */
            if (*not_out)
                return -EBADF;
            record->events = (short)fmux_select__kinds[kind].ask;
        }

    int left = fmux_poll_list(s->records, fmux_select__total(s), timeout_ns);
    *not_out = left > 0 || left == -EINVAL; /* more than RLIMIT_NOFILE */
    if (left <= 0)
        return left;

    int n = 0;
    record = s->records;
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < s->asked[kind] && left > 0; i++, record++) {
            int events = record->revents;
            if (events == 0)
                continue;
            left--;
            if (events & POLLNVAL)
                return 0; /* select(2) decides whether this is an error */
            if (events & fmux_select__kinds[kind].answer) {
                s->places[n++] = i;
                s->found[kind]++;
            }
        }
    *not_out = n == 0;
    return n;
}

static int fmux_select__by_select(fmux_select_list_t *s, int64_t timeout_ns)
{
    int highest = -1;
    for (int i = 0; i < fmux_select__total(s); i++) {
        if (s->records[i].fd < 0)
            return -EBADF;
        if (s->records[i].fd > highest)
            highest = s->records[i].fd;
    }
    /* The kernel ignores numbers beyond the end of the descriptor table instead of
     * refusing them. If the highest number is open, all are below the end. (Below
     * FD_SETSIZE, the behaviour of select(2) is kept.) */
    if (highest >= FD_SETSIZE && fcntl(highest, F_GETFD) < 0)
        return -errno;
    int words = highest / FMUX__WORD_BITS + 1;
    unsigned long small[3 * FMUX__SMALL];
    unsigned long *bits = small;
    if (words > FMUX__SMALL) {
        bits = calloc((size_t)words * 3, sizeof *bits);
        if (bits == NULL)
            return -ENOMEM;
    } else {
        memset(bits, 0, (size_t)words * 3 * sizeof *bits);
    }
    unsigned long *maps[3], *question[3];
    struct pollfd *record = s->records;
    for (int kind = 0; kind < 3; kind++) {
        maps[kind] = bits + kind * words;
        /* NULL costs the kernel less than an empty set. */
        question[kind] = s->asked[kind] > 0 ? maps[kind] : NULL;
        for (int i = 0; i < s->asked[kind]; i++, record++)
            maps[kind][record->fd / FMUX__WORD_BITS] |=
                1UL << (record->fd % FMUX__WORD_BITS);
    }

    int n = fmux_ask_select(highest + 1, question, timeout_ns);

    s->found[0] = s->found[1] = s->found[2] = 0;
    if (n >= 0) {
        /* Not only if n > 0: the kernel leaves the bits as they are that it ignores. */
        n = 0;
        record = s->records;
        for (int kind = 0; kind < 3; kind++)
            for (int i = 0; i < s->asked[kind]; i++, record++)
                if (maps[kind][record->fd / FMUX__WORD_BITS] &
                    1UL << (record->fd % FMUX__WORD_BITS)) {
                    s->places[n++] = i;
                    s->found[kind]++;
                }
    }
    if (bits != small)
        free(bits);
    return n;
}

int fmux_select_list(fmux_select_list_t *list, int64_t timeout_ns)
{
    int total = fmux_select__total(list);
    list->found[0] = list->found[1] = list->found[2] = 0;

    int n = 0;
    bool again = true;
    int64_t now_ns = timeout_ns > 0 ? fmux_now_ns() : 0;
    /* A timeout that overflows the clock, after 292 years, is for ever. */
    if (timeout_ns > INT64_MAX - now_ns)
        timeout_ns = -1;
    int64_t deadline_ns = now_ns + timeout_ns;
    if (total <= FMUX_FEW || list->asked[0] == total || list->asked[1] == total)
        n = fmux_select__by_poll(list, timeout_ns, &again);
    if (again) {
        if (timeout_ns > 0) {
            timeout_ns = deadline_ns - fmux_now_ns();
            if (timeout_ns < 0)
                timeout_ns = 0;
        }
        n = fmux_select__by_select(list, timeout_ns);
    }
    return n;
}
