/* once.c - one call of poll or select on lists that the caller keeps.
 *
 * The mechanisms of poll.c remember what is watched, can be changed while
 * somebody waits, and can be woken. Whoever needs none of that (a program that
 * builds its lists anew for every call, as programs around select do) would pay
 * for it. Here the question is in the caller's memory, the kernel is asked
 * once, and the answer goes behind the question.
 *
 * A byte of the memory keeps a second thread out. The rules are two: who finds a
 * 0 may make it a 1, and who has made it a 1 must leave a 0, or a 2 with rows
 * that are to be read.
 */
#include "internal.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

enum {
    FMUX__CAPACITY = 1,
    FMUX__ASKED = 2, /* three numbers */
    FMUX__FOUND = 5, /* three numbers */
    FMUX__BODY = 8,

    FMUX__FREE = 0,
    FMUX__BUSY = 1,
    FMUX__UNREAD = 2,

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

int fmux_ask_poll(struct pollfd *records, nfds_t length, int64_t timeout_ns)
{
    int n;
#if defined(__linux__)
    /* Only where it makes a difference: ppoll takes 100 ns longer than poll, for
     * the time that it copies in and out. */
    if (timeout_ns > 0) {
        struct timespec timeout = fmux__timespec(timeout_ns);
        n = ppoll(records, length, &timeout, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return n < 0 ? -errno : n;
    }
#endif
    bool cut = false;
    int ms = timeout_ns <= 0 ? -(timeout_ns < 0)
                             : fmux_milliseconds(timeout_ns, &cut);
    n = poll(records, length, ms);
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

/* ---- the caller's memory ------------------------------------------------ */

int fmux_once_size(int mechanism, int capacity)
{
    /* Two numbers per struct pollfd; poll answers in three columns, select in one.
     * One pollfd more: poll's wake-up. */
    int each = mechanism == FMUX_SELECT ? 3 : 5;
    if (capacity < 1 || capacity > INT_MAX / each - FMUX__BODY - 2)
        return -EINVAL;
    return FMUX__BODY + capacity * each + (mechanism == FMUX_SELECT ? 0 : 2);
}

static bool fmux_once__take(int32_t *memory)
{
    uint8_t expected = FMUX__FREE;
    return atomic_compare_exchange_strong((_Atomic uint8_t *)memory, &expected,
                                          FMUX__BUSY);
}

static void fmux_once__give(int32_t *memory, uint8_t state)
{
    atomic_store_explicit((_Atomic uint8_t *)memory, state,
                          memory_order_release);
}

/* ---- poll --------------------------------------------------------------- */

int fmux_poll_once(int32_t *memory, int64_t timeout_ns, int wake_fd)
{
    if (!fmux_once__take(memory))
        return -EBUSY;
    int capacity = memory[FMUX__CAPACITY];
    int length = memory[FMUX__ASKED];
    struct pollfd *records = (struct pollfd *)(memory + FMUX__BODY);
    int32_t *indices = (int32_t *)(records + capacity + 1);
    int32_t *fds = indices + capacity;
    uint32_t *events = (uint32_t *)(fds + capacity);

    int total = length;
    if (wake_fd >= 0) {
        records[total].fd = wake_fd;
        records[total++].events = POLLIN;
    }
    int n = fmux_ask_poll(records, (nfds_t)total, timeout_ns);
    int rows = 0;
    for (int i = 0; rows < n && i < length; i++) {
        uint32_t found = (uint16_t)records[i].revents;
        if (found == 0)
            continue;
        indices[rows] = fmux_index(records[i].fd, found);
        fds[rows] = records[i].fd;
        events[rows++] = found;
    }
    uint8_t state = FMUX__FREE;
    if (rows == 1 && indices[0] != FMUX_UNKNOWN) {
        n = indices[0];
    } else if (rows > 0) {
        n = FMUX_ROWS + rows;
        state = FMUX__UNREAD;
    } else if (n > 0) {
        n = 0;
    }
    fmux_once__give(memory, state);
    return n;
}

int fmux_poll_once_now(int32_t *memory)
{
    return fmux_poll_once(memory, 0, -1);
}

/* ---- select -------------------------------------------------------------
 *
 * By poll(2) where that gives the same answer, because it takes less: select(2)
 * copies six bitmaps and walks all numbers up to the highest. The kernel derives
 * both from the same events of a file, as the table below says. Two things differ.
 * poll ends for a hang-up or an error even if nobody asks for what these are to
 * select; then select has to wait for the rest of the time. And poll visits a
 * descriptor once for each list that it is in.
 */

/* What is asked of poll for each of the three lists, and what it may answer. */
static const struct {
    int ask, answer;
} fmux_select__kinds[3] = {
    {POLLIN | POLLRDNORM | POLLRDBAND,
     POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR},
    {POLLOUT | POLLWRNORM | POLLWRBAND,
     POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR},
    {POLLPRI, POLLPRI},
};

/* The parts of the memory. */
typedef struct {
    const int32_t *asked;
    int32_t *found;
    struct pollfd *records;
    int32_t *places;
    int total;
} fmux_select_t;

/* Ask by poll. *not_out: the answer is not one that select could have given. */
static int fmux_select__by_poll(const fmux_select_t *s, int64_t timeout_ns,
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

    int left = fmux_ask_poll(s->records, (nfds_t)s->total, timeout_ns);
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
                return 0; /* an error only if select(2) finds it is one */
            if (events & fmux_select__kinds[kind].answer) {
                s->places[n++] = i;
                s->found[kind]++;
            }
        }
    *not_out = n == 0;
    return n;
}

static int fmux_select__by_select(const fmux_select_t *s, int64_t timeout_ns)
{
    int highest = -1;
    for (int i = 0; i < s->total; i++) {
        if (s->records[i].fd < 0)
            return -EBADF;
        if (s->records[i].fd > highest)
            highest = s->records[i].fd;
    }
    /* The kernel skips numbers above all that it has a place for, instead of
     * refusing them; if the highest is open, none of them is. (Below FD_SETSIZE
     * programs know select(2) as it is.) */
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
        /* A set that is not there costs the kernel less than an empty one. */
        question[kind] = s->asked[kind] > 0 ? maps[kind] : NULL;
        for (int i = 0; i < s->asked[kind]; i++, record++)
            maps[kind][record->fd / FMUX__WORD_BITS] |=
                1UL << (record->fd % FMUX__WORD_BITS);
    }

    int n = fmux_ask_select(highest + 1, question, timeout_ns);

    s->found[0] = s->found[1] = s->found[2] = 0;
    if (n > 0) {
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

int fmux_select_once(int32_t *memory, int64_t timeout_ns)
{
    if (!fmux_once__take(memory))
        return -EBUSY;
    fmux_select_t s = {
        .asked = memory + FMUX__ASKED,
        .found = memory + FMUX__FOUND,
        .records = (struct pollfd *)(memory + FMUX__BODY),
        .places = memory + FMUX__BODY + 2 * memory[FMUX__CAPACITY],
    };
    s.total = s.asked[0] + s.asked[1] + s.asked[2];
    s.found[0] = s.found[1] = s.found[2] = 0;

    int n = 0;
    bool again = true;
    int64_t now_ns = timeout_ns > 0 ? fmux_now_ns() : 0;
    /* The greatest time-outs are for ever: they overflow after 292 years. */
    if (timeout_ns > INT64_MAX - now_ns)
        timeout_ns = -1;
    int64_t deadline_ns = now_ns + timeout_ns;
    if (s.total <= FMUX_FEW || s.asked[0] == s.total || s.asked[1] == s.total)
        n = fmux_select__by_poll(&s, timeout_ns, &again);
    if (again) {
        if (timeout_ns > 0) {
            timeout_ns = deadline_ns - fmux_now_ns();
            if (timeout_ns < 0)
                timeout_ns = 0;
        }
        n = fmux_select__by_select(&s, timeout_ns);
    }
    fmux_once__give(memory, FMUX__FREE);
    return n;
}
