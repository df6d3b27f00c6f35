/* test_sets.c - epoll sets without a mux: errors as of epoll_ctl and epoll_wait, events
 * in columns, timeouts in nanoseconds. */
#include "faults.h"
#include "harness.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

/* The longest wait that allocates no memory. */
enum { FEW = 1023 };

/* A set, and columns of the exact size, for the sanitizers. */
typedef struct {
    int fd;
    int max;
    int32_t *fds;
    uint32_t *events;
} set_t;

static set_t set_open(int max)
{
    set_t set = {.fd = fmux_set_open(), .max = max};
    CHECK_OK(set.fd);
    set.fds = malloc((size_t)max * sizeof *set.fds);
    set.events = malloc((size_t)max * sizeof *set.events);
    return set;
}

static void set_close(set_t *set)
{
    close(set->fd);
    free(set->fds);
    free(set->events);
}

static int set_add(const set_t *set, int fd, uint32_t mask)
{
    return fmux_set_control(set->fd, FMUX_SET_ADD, fd, mask);
}

static int set_modify(const set_t *set, int fd, uint32_t mask)
{
    return fmux_set_control(set->fd, FMUX_SET_MODIFY, fd, mask);
}

static int set_remove(const set_t *set, int fd)
{
    return fmux_set_control(set->fd, FMUX_SET_REMOVE, fd, 0);
}

static int set_wait(const set_t *set, int64_t timeout_ns)
{
    return fmux_set_wait(set->fd, set->fds, set->events, set->max, timeout_ns);
}

/* The events of fd in the first rows; 0: not reported. */
static uint32_t events_of(const set_t *set, int rows, int fd)
{
    for (int row = 0; row < rows; row++)
        if (set->fds[row] == fd)
            return set->events[row];
    return 0;
}

/* ---- sets and registrations ------------------------------------------------ */

static void a_set_is_close_on_exec(int mechanism)
{
    (void)mechanism;
    int set = fmux_set_open();
    CHECK_EQ(FD_CLOEXEC, fcntl(set, F_GETFD));
    close(set);
}

static void an_error_of_epoll_create_is_returned(int mechanism)
{
    static const int errors[] = {EMFILE, ENFILE, ENOMEM};
    (void)mechanism;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        int result, failures;
        FAIL_EACH(FAULT_EPOLL_CREATE, errors[i], fmux_set_open(), true);
        CHECK_OK(result);
        CHECK_EQ(1, failures);
        close(result);
    }
    use_up_descriptors();
    CHECK_EQ(-EMFILE, fmux_set_open());
    allow_descriptors();
}

static void control_returns_the_results_of_epoll_ctl(int mechanism)
{
    int ends[2];
    (void)mechanism;
    CHECK_EQ(EPOLL_CTL_ADD, FMUX_SET_ADD);
    CHECK_EQ(EPOLL_CTL_DEL, FMUX_SET_REMOVE);
    CHECK_EQ(EPOLL_CTL_MOD, FMUX_SET_MODIFY);
    pipe_open(ends);
    set_t set = set_open(1);
    CHECK_EQ(-ENOENT, set_modify(&set, ends[0], EPOLLIN));
    CHECK_EQ(-ENOENT, set_remove(&set, ends[0]));
    CHECK_EQ(0, set_add(&set, ends[0], EPOLLIN));
    CHECK_EQ(-EEXIST, set_add(&set, ends[0], EPOLLIN));
    CHECK_EQ(0, set_modify(&set, ends[0], EPOLLPRI));
    CHECK_EQ(0, set_remove(&set, ends[0]));
    CHECK_EQ(-ENOENT, set_remove(&set, ends[0]));
    CHECK_EQ(0, set_add(&set, ends[0], EPOLLIN));
    CHECK_EQ(-EINVAL, fmux_set_control(set.fd, 0, ends[0], EPOLLIN));
    CHECK_EQ(-EINVAL, set_add(&set, ends[1], EPOLLEXCLUSIVE | EPOLLONESHOT));
    CHECK_EQ(-EINVAL, set_add(&set, set.fd, EPOLLIN));
    pipe_close(ends);
    CHECK_EQ(-EBADF, set_add(&set, ends[0], EPOLLIN));
    CHECK_EQ(-EBADF, set_modify(&set, ends[0], EPOLLIN));
    CHECK_EQ(-EBADF, set_remove(&set, ends[0]));
    CHECK_EQ(-EBADF, set_add(&set, -1, EPOLLIN));
    CHECK_EQ(-EBADF, set_add(&set, INT_MAX, EPOLLIN));
    set_close(&set);
}

static void a_regular_file_and_a_directory_are_EPERM(int mechanism)
{
    (void)mechanism;
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int directory = open("/", O_RDONLY | O_CLOEXEC);
    set_t set = set_open(1);
    CHECK_EQ(-EPERM, set_add(&set, file, EPOLLIN));
    CHECK_EQ(-EPERM, set_add(&set, directory, EPOLLIN));
    set_close(&set);
    close(file);
    close(directory);
}

static void sets_that_watch_each_other_are_ELOOP(int mechanism)
{
    (void)mechanism;
    set_t set = set_open(1), other = set_open(1);
    CHECK_EQ(0, set_add(&set, other.fd, EPOLLIN));
    CHECK_EQ(-ELOOP, set_add(&other, set.fd, EPOLLIN));
    set_close(&set);
    set_close(&other);
}

static void a_descriptor_that_is_no_set_is_refused(int mechanism)
{
    int ends[2];
    int32_t fd;
    uint32_t events;
    (void)mechanism;
    pipe_open(ends);
    CHECK_EQ(-EINVAL, fmux_set_control(ends[0], FMUX_SET_ADD, ends[1], EPOLLIN));
    CHECK_EQ(-EINVAL, fmux_set_wait(ends[0], &fd, &events, 1, 0));
    CHECK_EQ(-EINVAL, fmux_set_wait(ends[0], &fd, &events, 1, SECOND));
    pipe_close(ends);
    CHECK_EQ(-EBADF, fmux_set_control(ends[0], FMUX_SET_ADD, 0, EPOLLIN));
    CHECK_EQ(-EBADF, fmux_set_wait(ends[0], &fd, &events, 1, 0));
    CHECK_EQ(-EBADF, fmux_set_wait(-1, &fd, &events, 1, -1));
}

static void an_error_of_epoll_ctl_changes_nothing(int mechanism)
{
    int ends[2];
    int result, failures;
    (void)mechanism;
    pipe_open(ends);
    put(ends[1]);
    set_t set = set_open(1);
    FAIL_EACH(FAULT_EPOLL_CTL, ENOSPC, set_add(&set, ends[0], EPOLLIN),
              set_wait(&set, 0) == 0);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    FAIL_EACH(FAULT_EPOLL_CTL, ENOMEM, set_modify(&set, ends[0], EPOLLPRI),
              set_wait(&set, 0) == 1);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    CHECK_EQ(0, set_wait(&set, 0));
    set_close(&set);
    pipe_close(ends);
}

static void without_epoll_all_are_EINVAL(int mechanism)
{
    int32_t fd;
    uint32_t events;
    (void)mechanism;
    if ((fmux_mechanisms() & ON_EPOLL) != 0)
        return;
    CHECK_EQ(-EINVAL, fmux_set_open());
    CHECK_EQ(-EINVAL, fmux_set_control(0, FMUX_SET_ADD, 0, EPOLLIN));
    CHECK_EQ(-EINVAL, fmux_set_wait(0, &fd, &events, 1, -1));
}

/* ---- events ---------------------------------------------------------------- */

static void each_ready_descriptor_is_one_row(int mechanism)
{
    int full[2], empty[2], broken[2];
    (void)mechanism;
    pipe_open(full);
    pipe_open(empty);
    pipe_open(broken);
    put(full[1]);
    set_t set = set_open(8);
    CHECK_EQ(0, set_wait(&set, 0));
    CHECK_EQ(0, set_add(&set, full[0], EPOLLIN));
    CHECK_EQ(0, set_add(&set, empty[0], EPOLLIN));
    CHECK_EQ(0, set_add(&set, full[1], EPOLLIN | EPOLLOUT));
    CHECK_EQ(0, set_add(&set, broken[1], 0));
    close(broken[0]);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(3, set_wait(&set, i - 1)); /* for ever, now, 1 ns */
        CHECK_EQ(EPOLLIN, events_of(&set, 3, full[0]));
        CHECK_EQ(EPOLLOUT, events_of(&set, 3, full[1]));
        CHECK_EQ(EPOLLERR, events_of(&set, 3, broken[1]));
    }
    take(full[0]);
    CHECK_EQ(0, set_modify(&set, full[1], 0));
    CHECK_EQ(0, set_remove(&set, broken[1]));
    CHECK_EQ(0, set_wait(&set, 0));
    set_close(&set);
    close(broken[1]);
    pipe_close(empty);
    pipe_close(full);
}

static void edges_and_one_shots_are_reported_once(int mechanism)
{
    static const uint32_t masks[] = {EPOLLIN | (uint32_t)EPOLLET,
                                     EPOLLIN | EPOLLONESHOT};
    (void)mechanism;
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        int ends[2];
        pipe_open(ends);
        put(ends[1]);
        set_t set = set_open(2);
        CHECK_EQ(0, set_add(&set, ends[0], masks[i]));
        for (int round = 0; round < 2; round++) {
            CHECK_EQ(1, set_wait(&set, 0));
            CHECK_EQ(EPOLLIN, events_of(&set, 1, ends[0]));
            CHECK_EQ(0, set_wait(&set, 0));
            CHECK_EQ(0, set_modify(&set, ends[0], masks[i]));
        }
        set_close(&set);
        pipe_close(ends);
    }
}

static void at_most_max_events_are_reported_and_the_rest_next(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    put(ends[1]);
    set_t set = set_open(1);
    CHECK_EQ(0, set_add(&set, ends[0], EPOLLIN));
    CHECK_EQ(0, set_add(&set, ends[1], EPOLLOUT));
    CHECK_EQ(1, set_wait(&set, 0));
    int32_t first = set.fds[0];
    CHECK_EQ(1, set_wait(&set, SECOND));
    CHECK_EQ(ends[0] + ends[1], first + set.fds[0]);
    set_close(&set);
    pipe_close(ends);
}

/* The fuzzer tries negative ones, for which valgrind complains. */
static void a_max_of_0_is_EINVAL(int mechanism)
{
    (void)mechanism;
    set_t set = set_open(1);
    CHECK_EQ(-EINVAL, fmux_set_wait(set.fd, set.fds, set.events, 0, 0));
    CHECK_EQ(-EINVAL, fmux_set_wait(set.fd, set.fds, set.events, 0, SECOND));
    set_close(&set);
}

/* A mux drops this report. */
static void a_closed_file_behind_a_dup_is_reported(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    set_t set = set_open(2);
    CHECK_EQ(0, set_add(&set, ends[0], EPOLLIN));
    int copy = dup(ends[0]);
    close(ends[0]);
    put(ends[1]);
    CHECK_EQ(1, set_wait(&set, 0));
    CHECK_EQ(EPOLLIN, events_of(&set, 1, ends[0]));
    close(copy);
    CHECK_EQ(0, set_wait(&set, 0));
    close(ends[1]);
    set_close(&set);
}

static void many_events_fit_in_one_call(int mechanism)
{
    enum { COUNT = 1500 };
    int ends[2], copies[COUNT];
    (void)mechanism;
    pipe_open(ends);
    put(ends[1]);
    set_t set = set_open(COUNT), few = set_open(FEW);
    for (int i = 0; i < COUNT; i++) {
        copies[i] = dup(ends[0]);
        CHECK_EQ(0, set_add(&set, copies[i], EPOLLIN));
        CHECK_EQ(0, set_add(&few, copies[i], EPOLLIN));
    }
    CHECK_EQ(FEW, set_wait(&few, 0));
    CHECK_EQ(COUNT, set_wait(&set, 0));
    CHECK_EQ(COUNT, set_wait(&set, -1));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(EPOLLIN, events_of(&set, COUNT, copies[i]));
    for (int i = 0; i < COUNT; i++)
        close(copies[i]);
    set_close(&set);
    set_close(&few);
    pipe_close(ends);
}

/* ---- timeouts and signals -------------------------------------------------- */

/* Wait for the timeout on an idle set, and check that it is over. */
static void sleep_on(const set_t *set, int64_t timeout_ns)
{
    int64_t began_ns = now_ns();
    CHECK_EQ(0, set_wait(set, timeout_ns));
    int64_t took_ns = now_ns() - began_ns;
    CHECK(took_ns >= timeout_ns);
    CHECK(took_ns < 2 * SECOND);
}

static void a_timeout_of_a_set_is_never_early(int mechanism)
{
    static const int64_t timeouts[] = {0, 1, 100 * MICROSECOND, 2 * MILLISECOND};
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    set_t set = set_open(4);
    CHECK_EQ(0, set_add(&set, ends[0], EPOLLIN));
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++)
        for (int round = 0; round < 20; round++)
            sleep_on(&set, timeouts[i]);
    set_close(&set);
    pipe_close(ends);
}

static void any_timeout_is_accepted_by_a_set(int mechanism)
{
    static const int64_t timeouts[] = {-1, INT64_MIN, INT64_MAX, 60 * SECOND};
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    set_t set = set_open(4);
    CHECK_EQ(0, set_add(&set, ends[1], EPOLLOUT));
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++)
        CHECK_EQ(1, set_wait(&set, timeouts[i]));
    set_close(&set);
    pipe_close(ends);
}

/* In a child: the process does not try epoll_pwait2 again. */
static void wait_in_milliseconds(void *argument)
{
    const int *error = argument;
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(4);
    CHECK_EQ(0, set_add(&set, ends[0], EPOLLIN));
    if (fmux_epoll_nanoseconds()) { /* not under valgrind */
        fault_arm(FAULT_EPOLL_WAIT, 1, 1, *error);
        sleep_on(&set, 100 * MICROSECOND);
        CHECK_EQ(1, fault_disarm());
    }
    CHECK_EQ(0, fmux_epoll_nanoseconds());
    fault_arm(FAULT_EPOLL_WAIT, 2, 1, ENOMEM); /* no second call */
    sleep_on(&set, MILLISECOND + 1);
    CHECK_EQ(0, fault_disarm());
    put(ends[1]);
    CHECK_EQ(1, set_wait(&set, INT64_MAX));
    CHECK_EQ(1, set_wait(&set, -1));
    set_close(&set);
    pipe_close(ends);
}

static void milliseconds_are_the_fallback_where_epoll_pwait2_is_refused(
    int mechanism)
{
    int errors[] = {ENOSYS, EPERM};
    (void)mechanism;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        in_a_child(wait_in_milliseconds, &errors[i]);
}

static void a_signal_ends_a_wait_of_a_set_with_EINTR(int mechanism)
{
    (void)mechanism;
    set_t set = set_open(4), long_set = set_open(FEW + 1);
    signals_begin();
    CHECK_EQ(-EINTR, set_wait(&set, -1));
    CHECK_EQ(-EINTR, set_wait(&set, 60 * SECOND));
    CHECK_EQ(-EINTR, set_wait(&long_set, -1));
    signals_end();
    CHECK_EQ(0, set_wait(&set, 0));
    set_close(&set);
    set_close(&long_set);
}

/* ---- failures -------------------------------------------------------------- */

static void a_wait_that_fails_loses_nothing(int mechanism)
{
    static const int errors[] = {EINTR, ENOMEM};
    int ends[2];
    int result, failures;
    (void)mechanism;
    pipe_open(ends);
    put(ends[1]);
    set_t set = set_open(4);
    CHECK_EQ(0, set_add(&set, ends[0], EPOLLIN));
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        FAIL_EACH(FAULT_EPOLL_WAIT, errors[i], set_wait(&set, 0), true);
        CHECK_EQ(1, result);
        CHECK_EQ(1, failures);
        FAIL_EACH(FAULT_EPOLL_WAIT, errors[i], set_wait(&set, SECOND), true);
        CHECK_EQ(1, result);
        CHECK_EQ(1, failures);
    }
    set_close(&set);
    pipe_close(ends);
}

static void a_large_max_without_memory_loses_nothing(int mechanism)
{
    static const uint32_t masks[] = {EPOLLIN, EPOLLIN | (uint32_t)EPOLLET,
                                     EPOLLIN | EPOLLONESHOT};
    int ends[2];
    int result, failures;
    (void)mechanism;
    pipe_open(ends);
    put(ends[1]);
    set_t few = set_open(FEW), many = set_open(FEW + 1);
    CHECK_EQ(0, set_add(&few, ends[0], EPOLLIN));
    FAIL_EACH(FAULT_MEMORY, ENOMEM, set_wait(&few, 0), true);
    CHECK_EQ(1, result);
    CHECK_EQ(0, failures);
    CHECK_EQ(0, set_add(&many, ends[0], 0));
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        CHECK_EQ(0, set_modify(&many, ends[0], masks[i]));
        FAIL_EACH(FAULT_MEMORY, ENOMEM, set_wait(&many, -1), true);
        CHECK_EQ(1, result);
        CHECK_EQ(1, failures);
        CHECK_EQ(EPOLLIN, events_of(&many, 1, ends[0]));
    }
    set_close(&few);
    set_close(&many);
    pipe_close(ends);
}

const test_t set_tests[] = {
    TEST(a_set_is_close_on_exec, ON_EPOLL),
    TEST(an_error_of_epoll_create_is_returned, ON_EPOLL),
    TEST(control_returns_the_results_of_epoll_ctl, ON_EPOLL),
    TEST(a_regular_file_and_a_directory_are_EPERM, ON_EPOLL),
    TEST(sets_that_watch_each_other_are_ELOOP, ON_EPOLL),
    TEST(a_descriptor_that_is_no_set_is_refused, ON_EPOLL),
    TEST(an_error_of_epoll_ctl_changes_nothing, ON_EPOLL),
    TEST(without_epoll_all_are_EINVAL, ON_POLL),
    TEST(each_ready_descriptor_is_one_row, ON_EPOLL),
    TEST(edges_and_one_shots_are_reported_once, ON_EPOLL),
    TEST(at_most_max_events_are_reported_and_the_rest_next, ON_EPOLL),
    TEST(a_max_of_0_is_EINVAL, ON_EPOLL),
    TEST(a_closed_file_behind_a_dup_is_reported, ON_EPOLL),
    TEST(many_events_fit_in_one_call, ON_EPOLL),
    TEST(a_timeout_of_a_set_is_never_early, ON_EPOLL),
    TEST(any_timeout_is_accepted_by_a_set, ON_EPOLL),
    TEST(milliseconds_are_the_fallback_where_epoll_pwait2_is_refused, ON_EPOLL),
    TEST(a_signal_ends_a_wait_of_a_set_with_EINTR, ON_EPOLL),
    TEST(a_wait_that_fails_loses_nothing, ON_EPOLL),
    TEST(a_large_max_without_memory_loses_nothing, ON_EPOLL),
    {NULL, NULL, 0},
};
