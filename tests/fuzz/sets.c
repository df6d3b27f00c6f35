/* sets.c - an epoll set without a mux, and a twin: a set of this file's own that gets
 * the same calls from the kernel directly. Results and events must be equal. */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { MOST_EVENTS = 2000 };

typedef struct {
    int set, twin;
} twins_t;

static twins_t own = {-1, -1};

static bool has_epoll(void)
{
    return (fmux_mechanisms() & 1 << FMUX_EPOLL) != 0;
}

static void set_open(void)
{
    begin_call();
    int set = end_call("fmux_set_open", 0, fmux_set_open());
    if (!has_epoll())
        REQUIRE(set == -EINVAL);
    else
        REQUIRE(fault_error != 0 ? set == -fault_error : set >= 0);
    if (set < 0)
        return;
    own.set = set;
    own.twin = epoll_create1(EPOLL_CLOEXEC);
    REQUIRE(own.twin >= 0);
}

void set_close(void)
{
    if (own.set >= 0) {
        REQUIRE(close(own.set) == 0);
        REQUIRE(close(own.twin) == 0);
    }
    own = (twins_t){-1, -1};
}

/* Usually the two sets; sometimes a descriptor that is no set, as both. */
static twins_t input_twins(void)
{
    if (input_byte() < 240)
        return own;
    int fd = input_fd(), place = place_of(fd);
    return place >= 0 && files[place].kind >= SET ? own : (twins_t){fd, fd};
}

static void control(void)
{
    static const int operations[] = {FMUX_SET_ADD, FMUX_SET_ADD, FMUX_SET_MODIFY,
                                     FMUX_SET_REMOVE};
    unsigned choice = input_byte();
    int operation = choice < 240 ? operations[choice % 4] : input_int();
    twins_t twins = input_twins();
    int fd = input_fd();
    struct epoll_event event = {.events = input_mask(), .data.fd = fd};
    int result = CALL(fmux_set_control, fd, twins.set, operation, fd, event.events);
    if (!has_epoll())
        REQUIRE(result == -EINVAL);
    else if (fault_error != 0)
        REQUIRE(result == -fault_error);
    else
        REQUIRE(result == (epoll_ctl(twins.twin, operation, fd, &event) < 0
                               ? -errno
                               : 0));
}

static int input_max(void)
{
    static const int special[] = {0, -1, INT32_MIN, 1023, 1024, MOST_EVENTS};
    unsigned choice = input_byte();
    return choice < 192 ? 1 + (int)choice % (2 * NUMBERS)
                        : special[choice % (sizeof special / sizeof *special)];
}

static void wait_on_both(void)
{
    static const int64_t times_ns[] = {0, 1, 1000, 20000};
    static const int64_t endless_ns[] = {-1, INT64_MIN, INT64_MAX, 1000000000};
    static struct epoll_event expected[MOST_EVENTS];
    twins_t twins = input_twins();
    int max = input_max();
    unsigned time = input_byte();
    int rows = epoll_wait(twins.twin, expected, max, 0);
    if (rows < 0)
        rows = -errno;
    int64_t timeout_ns =
        rows != 0 && time >= 128 ? endless_ns[time % 4] : times_ns[time % 4];
    size_t bytes = max > 0 ? (size_t)max * sizeof(int32_t) : 0;
    int32_t *fds = malloc(bytes);
    uint32_t *events = malloc(bytes);
    REQUIRE(bytes == 0 || (fds != NULL && events != NULL));
    int64_t began_ns = fmux_now_ns();
    int result = CALL(fmux_set_wait, timeout_ns, twins.set, fds, events, max,
                      timeout_ns);
    if (result == 0)
        REQUIRE(fmux_now_ns() - began_ns >= timeout_ns);
    if (fault_error != 0)
        REQUIRE(result == -fault_error);
    if (fault_error != 0 || result == -EINTR) /* nothing is lost */
        result = fmux_set_wait(twins.set, fds, events, max, 0);
    REQUIRE(result == (has_epoll() ? rows : -EINVAL));
    for (int row = 0; row < result; row++) {
        REQUIRE(fds[row] == expected[row].data.fd);
        REQUIRE(events[row] == expected[row].events);
    }
    free(fds);
    free(events);
}

void do_set(void)
{
    for (unsigned round = input_pick(8) + 1; round > 0; round--) {
        unsigned choice = input_pick(16);
        if (own.set < 0)
            set_open();
        else if (choice == 0)
            set_close();
        if (choice < 9)
            control();
        else
            wait_on_both();
    }
}
