/* test_lists.c - one call of poll or select on a list, for the drop-in modules. */
#include "faults.h"
#include "harness.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/socket.h>
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

static void a_signal_ends_a_call_with_EINTR(int mechanism)
{
    list_t list = list_open(mechanism);
    signals_begin();
    CHECK_EQ(-EINTR, list_wait(&list, -1));
    CHECK_EQ(-EINTR, list_wait(&list, 60 * SECOND));
    signals_end();
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
    {NULL, NULL, 0},
};
