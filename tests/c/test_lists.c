/* test_lists.c - one call of poll or select on a list, and bare epoll sets: what the
 * drop-in modules for select and selectors use. */
#include "faults.h"
#include "harness.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- lists --------------------------------------------------------------- */

/* A list of exactly as many records and places as descriptors, for the sanitizers. */
typedef struct {
    int mechanism;
    int length;
    struct pollfd *records;
    fmux_select_list_t select;
} list_t;

static list_t list_open(int mechanism)
{
    return (list_t){.mechanism = mechanism};
}

static void list_close(list_t *list)
{
    free(list->records);
    free(list->select.places);
}

/* Append a descriptor. On select, kind is 0 to read, 1 to write, 2 for exceptions,
 * in ascending order; on poll, the kind is unused. */
static void list_add(list_t *list, int kind, int fd, int events)
{
    size_t length = (size_t)++list->length;
    list->records = realloc(list->records, length * sizeof *list->records);
    list->records[length - 1] =
        (struct pollfd){.fd = fd, .events = (short)events};
    list->select.records = list->records;
    list->select.places =
        realloc(list->select.places, length * sizeof *list->select.places);
    list->select.asked[kind]++;
}

static int list_wait(list_t *list, int64_t timeout_ns)
{
    if (list->mechanism == FMUX_SELECT)
        return fmux_select_list(&list->select, timeout_ns);
    return fmux_poll_list(list->records, list->length, timeout_ns);
}

static void poll_counts_the_records_with_events(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    list_t list = list_open(mechanism);
    list_add(&list, 0, ends[0], POLLIN);
    list_add(&list, 0, ends[1], POLLIN);
    CHECK_EQ(0, list_wait(&list, 0));
    put(ends[1]);
    CHECK_EQ(1, list_wait(&list, 0));
    CHECK_EQ(POLLIN, list.records[0].revents);
    CHECK_EQ(0, list.records[1].revents);
    CHECK_EQ(1, list_wait(&list, -1));
    list.records[1].events = POLLOUT;
    CHECK_EQ(2, list_wait(&list, SECOND));
    CHECK_EQ(POLLIN, list.records[0].revents);
    CHECK_EQ(POLLOUT, list.records[1].revents);
    list_close(&list);
    pipe_close(ends);
}

static void poll_reports_a_bad_descriptor_and_skips_a_negative_one(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    pipe_close(ends);
    list_t list = list_open(mechanism);
    list_add(&list, 0, -1, POLLIN);
    list_add(&list, 0, ends[0], POLLIN);
    CHECK_EQ(1, list_wait(&list, 0));
    CHECK_EQ(0, list.records[0].revents);
    CHECK_EQ(POLLNVAL, list.records[1].revents);
    list_close(&list);
}

static void poll_reports_a_duplicate_twice(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    list_t list = list_open(mechanism);
    list_add(&list, 0, ends[1], POLLOUT);
    list_add(&list, 0, ends[1], POLLOUT);
    CHECK_EQ(2, list_wait(&list, 0));
    list_close(&list);
    pipe_close(ends);
}

static void a_list_longer_than_the_limit_of_descriptors_is_EINVAL(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    list_t list = list_open(mechanism);
    for (int i = 0; i < 100; i++)
        list_add(&list, 0, ends[0], POLLIN);
    use_up_descriptors();
    /* valgrind emulates the limit, but not for poll(2): expect what that returns. */
    int limited = poll(list.records, 100, 0) < 0 ? -errno : 100;
    CHECK(limited == -EINVAL || limited == 100);
    /* select has no such limit: its bitmaps are as long as the highest number. */
    CHECK_EQ(mechanism == FMUX_POLL ? limited : 100, list_wait(&list, 0));
    allow_descriptors();
    CHECK_EQ(100, list_wait(&list, 0));
    list_close(&list);
    pipe_close(ends);
}

static void an_empty_list_sleeps_for_the_timeout(int mechanism)
{
    list_t list = list_open(mechanism);
    CHECK_EQ(0, list_wait(&list, 0));
    const int64_t timeouts[] = {1, 100 * MICROSECOND, 2 * MILLISECOND};
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        int64_t began_ns = now_ns();
        CHECK_EQ(0, list_wait(&list, timeouts[i]));
        CHECK(now_ns() - began_ns >= timeouts[i]);
    }
    list_close(&list);
}

static void any_timeout_is_accepted(int mechanism)
{
    const int64_t timeouts[] = {-1, INT64_MIN, INT64_MAX, 60 * SECOND, 0};
    int ends[2];
    pipe_open(ends);
    list_t list = list_open(mechanism);
    list_add(&list, 1, ends[1], POLLOUT);
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++)
        CHECK_EQ(1, list_wait(&list, timeouts[i]));
    list_close(&list);
    pipe_close(ends);
}

static void ignore_signal(int number)
{
    (void)number;
}

static void a_signal_ends_a_call_with_EINTR(int mechanism)
{
    /* SIGALRM belongs to the watchdog of the harness; restored below. */
    struct sigaction action, watchdog;
    struct itimerval soon = {{0, 50000}, {0, 1000}}, left; /* repeats */
    memset(&action, 0, sizeof action);                     /* no SA_RESTART */
    action.sa_handler = ignore_signal;
    list_t list = list_open(mechanism);
    sigaction(SIGALRM, &action, &watchdog);
    setitimer(ITIMER_REAL, &soon, &left);
    CHECK_EQ(-EINTR, list_wait(&list, -1));
    CHECK_EQ(-EINTR, list_wait(&list, 60 * SECOND));
    setitimer(ITIMER_REAL, &left, NULL);
    sigaction(SIGALRM, &watchdog, NULL);
    CHECK_EQ(0, list_wait(&list, 0));
    list_close(&list);
}

static void select_reports_places_in_the_order_of_the_list(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    list_t list = list_open(mechanism);
    list_add(&list, 0, ends[1], 0);
    list_add(&list, 0, ends[0], 0);
    list_add(&list, 0, ends[0], 0);
    list_add(&list, 1, ends[0], 0);
    list_add(&list, 1, ends[1], 0);
    list_add(&list, 2, ends[0], 0);
    CHECK_EQ(3, list_wait(&list, -1));
    CHECK_EQ(2, list.select.found[0]);
    CHECK_EQ(1, list.select.found[1]);
    CHECK_EQ(0, list.select.found[2]);
    CHECK_EQ(1, list.select.places[0]);
    CHECK_EQ(2, list.select.places[1]);
    CHECK_EQ(1, list.select.places[2]);
    take(ends[0]);
    CHECK_EQ(1, list_wait(&list, 0)); /* the counts start anew */
    CHECK_EQ(0, list.select.found[0]);
    CHECK_EQ(1, list.select.found[1]);
    CHECK_EQ(1, list.select.places[0]);
    list_close(&list);
    pipe_close(ends);
}

/* poll reports a hang-up without a request; in select it makes nothing writable or
 * exceptional. */
static void select_sleeps_through_a_hang_up_that_no_list_requests(int mechanism)
{
    int ends[2];
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    close(ends[1]);
    list_t list = list_open(mechanism);
    list_add(&list, 2, ends[0], 0);
    int64_t began_ns = now_ns();
    CHECK_EQ(0, list_wait(&list, 2 * MILLISECOND));
    CHECK(now_ns() - began_ns >= 2 * MILLISECOND);
    list.select.asked[0] = 1; /* to read, instead */
    list.select.asked[2] = 0;
    CHECK_EQ(1, list_wait(&list, 2 * MILLISECOND));
    list_close(&list);
    close(ends[0]);
}

static void select_refuses_a_closed_or_negative_descriptor(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    pipe_close(ends);
    for (int kind = 0; kind < 3; kind++) {
        list_t list = list_open(mechanism);
        list_add(&list, kind, ends[0], 0);
        CHECK_EQ(-EBADF, list_wait(&list, -1));
        list.records[0].fd = -1;
        CHECK_EQ(-EBADF, list_wait(&list, 0));
        list.records[0].fd = INT_MIN;
        CHECK_EQ(-EBADF, list_wait(&list, 0));
        list_close(&list);
    }
}

static void select_refuses_a_number_beyond_the_descriptor_table(int mechanism)
{
    static const int numbers[] = {FD_SETSIZE, 100000, INT32_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        list_t list = list_open(mechanism);
        list_add(&list, 0, STDOUT_FILENO, 0);
        list_add(&list, 2, numbers[i], 0);
        CHECK_EQ(-EBADF, list_wait(&list, -1));
        list_close(&list);
    }
}

static void select_has_no_limit_of_1024(int mechanism)
{
    enum { COUNT = 1500 };
    int ends[2], copies[COUNT];
    pipe_open(ends);
    put(ends[1]);
    list_t list = list_open(mechanism);
    for (int i = 0; i < COUNT; i++) {
        copies[i] = dup(ends[0]);
        list_add(&list, 0, copies[i], 0);
    }
    CHECK(copies[COUNT - 1] > 1024);
    CHECK_EQ(COUNT, list_wait(&list, -1));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(i, list.select.places[i]);
    /* With two long lists, it uses select(2) instead of poll(2). */
    for (int i = 0; i < COUNT; i++)
        list_add(&list, 1, copies[i], 0);
    CHECK_EQ(COUNT, list_wait(&list, -1));
    CHECK_EQ(COUNT, list.select.found[0]);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(i, list.select.places[i]);
    list_close(&list);
    for (int i = 0; i < COUNT; i++)
        close(copies[i]);
    pipe_close(ends);
}

/* ---- memory and system calls that fail ------------------------------------ */

static void select_without_memory_can_be_repeated(int mechanism)
{
    int ends[2];
    int result, failures;
    pipe_open(ends);
    int far = fcntl(ends[1], F_DUPFD, 5000);
    close(ends[0]);
    /* The pipe has an error, which the third list does not request: poll(2) does not
     * suffice, and select(2) needs long bitmaps. */
    list_t list = list_open(mechanism);
    list_add(&list, 2, far, 0);
    FAIL_EACH(FAULT_MEMORY, ENOMEM, list_wait(&list, 0), true);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    list_close(&list);
    close(far);
    close(ends[1]);
}

static void poll_is_the_fallback_where_ppoll_is_refused(int mechanism)
{
    static const int errors[] = {ENOSYS, EPERM};
    int ends[2];
    pipe_open(ends);
    list_t list = list_open(mechanism);
    list_add(&list, 0, ends[0], POLLIN);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        int64_t began_ns = now_ns();
        fault_arm(FAULT_PPOLL, 1, 1, errors[i]);
        CHECK_EQ(0, list_wait(&list, MILLISECOND / 2));
        CHECK_EQ(1, fault_disarm());
        CHECK(now_ns() - began_ns >= MILLISECOND / 2);
    }
    list_close(&list);
    pipe_close(ends);
}

static void a_failed_call_can_be_repeated(int mechanism)
{
    static const int errors[] = {EINTR, ENOMEM};
    int ends[2];
    int result, failures;
    pipe_open(ends);
    put(ends[1]);
    list_t list = list_open(mechanism);
    list_add(&list, 0, ends[0], POLLIN);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        FAIL_EACH(FAULT_WAITING, errors[i], list_wait(&list, 0), true);
        CHECK_EQ(1, result);
        CHECK_EQ(1, failures);
        FAIL_EACH(FAULT_WAITING, errors[i], list_wait(&list, SECOND), true);
        CHECK_EQ(1, result);
        CHECK_EQ(1, failures);
    }
    list_close(&list);
    pipe_close(ends);
}

/* ---- bare sets ------------------------------------------------------------ */

static void a_bare_set_returns_the_results_of_epoll_ctl(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    fmux_t *mux = mux_open(FMUX_BARE_EPOLL);
    CHECK_EQ(-ENOENT, fmux_modify(mux, ends[0], EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_modify(mux, ends[0], EPOLLPRI));
    CHECK_EQ(0, fmux_remove(mux, ends[0]));
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_add(mux, ends[1], EPOLLOUT)); /* no tags */
    CHECK_EQ(-ENOENT, fmux_tag(mux, ends[0]));
    CHECK_EQ(-EEXIST, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EINVAL, fmux_add(mux, fmux_fileno(mux), EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, -1, EPOLLIN));
    pipe_close(ends);
    CHECK_EQ(-EBADF, fmux_modify(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EBADF, fmux_remove(mux, ends[0]));
    CHECK_EQ(-EOPNOTSUPP, fmux_wakeup(mux));
    CHECK_EQ(0, fmux_close(mux));
    CHECK_EQ(-ESHUTDOWN, fmux_remove(mux, ends[0]));
    CHECK_EQ(-ESHUTDOWN, fmux_fileno(mux));
    fmux_free(mux);
}

static void a_bare_set_reports_a_closed_file_behind_a_dup(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    fmux_t *mux = mux_open(FMUX_BARE_EPOLL);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    int copy = dup(ends[0]);
    close(ends[0]);
    put(ends[1]);
    CHECK_EQ(1, array_wait(&array, 0));
    CHECK_EQ(ends[0], array_fd(&array, 0));
    CHECK_EQ(EPOLLIN, array_events(&array, 0));
    CHECK_EQ(-1, array_tag(&array, 0));
    CHECK_EQ(-EBUSY, array_wait(&array, 0));
    close(copy);
    close(ends[1]);
    array_close(&array);
    fmux_free(mux);
}

static void an_adopted_set_is_closed_with_its_mux(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    event.data.u64 = UINT64_C(0xABCD) << 32 | (uint32_t)ends[0];
    CHECK_EQ(0, epoll_ctl(epoll_fd, EPOLL_CTL_ADD, ends[0], &event));
    fmux_t *mux = NULL;
    CHECK_EQ(-EINVAL, fmux_adopt(-1, &mux));
    CHECK_EQ(0, fmux_adopt(epoll_fd, &mux));
    array_t array = array_open(mux, 1, SHARED);
    put(ends[1]);
    CHECK_EQ(1, fmux_wait(array.ready, -1, 1));
    CHECK_EQ(ends[0], array_fd(&array, 0)); /* the low half */
    CHECK_EQ(-1, array_tag(&array, 0));
    CHECK_EQ(0, fmux_close(mux)); /* while the array is held */
    array_close(&array);
    fmux_free(mux);
    CHECK_EQ(-1, fcntl(epoll_fd, F_GETFD));
    pipe_close(ends);
}

static void an_adopted_descriptor_is_checked_at_its_first_use(int mechanism)
{
    int ends[2];
    fmux_t *mux = NULL;
    (void)mechanism;
    pipe_open(ends);
    CHECK_EQ(0, fmux_adopt(ends[0], &mux));
    array_t array = array_open(mux, 1, SHARED);
    CHECK_EQ(-EINVAL, array_wait(&array, 0));
    CHECK_EQ(-EINVAL, fmux_add(mux, ends[1], EPOLLOUT));
    array_close(&array);
    fmux_free(mux);
    close(ends[1]);
}

const test_t list_tests[] = {
    TEST(poll_counts_the_records_with_events, ON_POLL),
    TEST(poll_reports_a_bad_descriptor_and_skips_a_negative_one, ON_POLL),
    TEST(poll_reports_a_duplicate_twice, ON_POLL),
    TEST(a_list_longer_than_the_limit_of_descriptors_is_EINVAL, ON_COPIES),
    TEST(an_empty_list_sleeps_for_the_timeout, ON_COPIES),
    TEST(any_timeout_is_accepted, ON_COPIES),
    TEST(a_signal_ends_a_call_with_EINTR, ON_COPIES),
    TEST(select_reports_places_in_the_order_of_the_list, ON_SELECT),
    TEST(select_sleeps_through_a_hang_up_that_no_list_requests, ON_SELECT),
    TEST(select_refuses_a_closed_or_negative_descriptor, ON_SELECT),
    TEST(select_refuses_a_number_beyond_the_descriptor_table, ON_SELECT),
    TEST(select_has_no_limit_of_1024, ON_SELECT),
    TEST(select_without_memory_can_be_repeated, ON_SELECT),
    TEST(poll_is_the_fallback_where_ppoll_is_refused, ON_POLL),
    TEST(a_failed_call_can_be_repeated, ON_COPIES),
    TEST(a_bare_set_returns_the_results_of_epoll_ctl, ON_EPOLL),
    TEST(a_bare_set_reports_a_closed_file_behind_a_dup, ON_EPOLL),
    TEST(an_adopted_set_is_closed_with_its_mux, ON_EPOLL),
    TEST(an_adopted_descriptor_is_checked_at_its_first_use, ON_EPOLL),
    {NULL, NULL, 0},
};
