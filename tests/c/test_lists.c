/* test_once.c - one call of poll or select on lists of the caller's own, and bare
 * epoll sets: the parts under the mirrors of the standard library. */
#include "faults.h"
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* ---- lists --------------------------------------------------------------- */

/* A list, in memory that is exactly as large as it has to be. */
typedef struct {
    int32_t *memory;
    int mechanism;
    int capacity;
    int asked;
} list_t;

static list_t list_open(int mechanism, int capacity)
{
    list_t list = {.mechanism = mechanism, .capacity = capacity};
    int size = fmux_once_size(mechanism, capacity);
    CHECK(size > 0);
    list.memory = calloc((size_t)size, sizeof *list.memory);
    list.memory[1] = capacity;
    return list;
}

static void list_close(list_t *list)
{
    free(list->memory);
}

/* Ask about fd; for select, kinds have to come in order. */
static void list_add(list_t *list, int kind, int fd, short events)
{
    struct pollfd *record =
        (struct pollfd *)(list->memory + 8) + list->asked++;
    record->fd = fd;
    record->events = events;
    list->memory[2 + kind]++;
}

/* Column 0 to 2 of a row of poll's answer; column 0 is select's only one. */
static int32_t list_row(const list_t *list, int column, int row)
{
    int records = list->capacity + (list->mechanism == FMUX_POLL);
    return list->memory[8 + 2 * records + column * list->capacity + row];
}

static void list_mark_read(list_t *list)
{
    *(uint8_t *)list->memory = 0;
}

static void the_size_of_a_list_is_checked(int mechanism)
{
    CHECK_EQ(-EINVAL, fmux_once_size(mechanism, 0));
    CHECK_EQ(-EINVAL, fmux_once_size(mechanism, -1));
    CHECK_EQ(-EINVAL, fmux_once_size(mechanism, INT32_MAX));
    CHECK(fmux_once_size(mechanism, 1) > 8);
}

static void one_indexed_event_is_the_result_itself(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    list_t list = list_open(FMUX_POLL, 2);
    list_add(&list, 0, ends[0], POLLIN);
    list_add(&list, 0, ends[1], POLLIN);
    CHECK_EQ(0, fmux_poll_once_now(list.memory));
    put(ends[1]);
    CHECK_EQ(ends[0] * 4 + 1, fmux_poll_once_now(list.memory));
    CHECK_EQ(ends[0] * 4 + 1, fmux_poll_once(list.memory, -1, -1));
    list_close(&list);
    pipe_close(ends);
}

static void rows_keep_the_list_until_they_are_read(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    put(ends[1]);
    list_t list = list_open(FMUX_POLL, 2);
    list_add(&list, 0, ends[1], POLLOUT);
    list_add(&list, 0, ends[0], POLLIN);
    CHECK_EQ(FMUX_ROWS + 2, fmux_poll_once(list.memory, SECOND, -1));
    CHECK_EQ(ends[1], list_row(&list, 1, 0));
    CHECK_EQ(POLLOUT, list_row(&list, 2, 0));
    CHECK_EQ(ends[1] * 4 + 2, list_row(&list, 0, 0));
    CHECK_EQ(ends[0] * 4 + 1, list_row(&list, 0, 1));
    CHECK_EQ(-EBUSY, fmux_poll_once_now(list.memory));
    list_mark_read(&list);
    CHECK_EQ(FMUX_ROWS + 2, fmux_poll_once_now(list.memory));
    list_close(&list);
    pipe_close(ends);
}

static void a_bad_descriptor_is_reported_and_a_negative_one_skipped(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    pipe_close(ends);
    list_t list = list_open(FMUX_POLL, 2);
    list_add(&list, 0, -1, POLLIN);
    list_add(&list, 0, ends[0], POLLIN);
    CHECK_EQ(FMUX_ROWS + 1, fmux_poll_once_now(list.memory));
    CHECK_EQ(ends[0], list_row(&list, 1, 0));
    CHECK_EQ(POLLNVAL, list_row(&list, 2, 0));
    CHECK_EQ(FMUX_UNKNOWN, list_row(&list, 0, 0));
    list_close(&list);
}

static void the_wake_up_ends_a_wait_and_is_not_reported(int mechanism)
{
    int ends[2], wake[2];
    (void)mechanism;
    pipe_open(ends);
    pipe_open(wake);
    put(wake[1]);
    list_t list = list_open(FMUX_POLL, 1);
    list_add(&list, 0, ends[0], POLLIN);
    CHECK_EQ(0, fmux_poll_once(list.memory, -1, wake[0]));
    put(ends[1]);
    CHECK_EQ(ends[0] * 4 + 1, fmux_poll_once(list.memory, -1, wake[0]));
    list_close(&list);
    pipe_close(ends);
    pipe_close(wake);
}

static void an_empty_list_sleeps_for_the_time_out(int mechanism)
{
    list_t list = list_open(mechanism, 1);
    int64_t begin_ns = now_ns();
    CHECK_EQ(0, mechanism == FMUX_POLL
                    ? fmux_poll_once(list.memory, 2 * MILLISECOND, -1)
                    : fmux_select_once(list.memory, 2 * MILLISECOND));
    CHECK(now_ns() - begin_ns >= 2 * MILLISECOND);
    list_close(&list);
}

static void nothing(int number)
{
    (void)number;
}

static void a_signal_ends_a_call_with_EINTR(int mechanism)
{
    /* SIGALRM is the harness's watchdog, which this borrows and gives back. */
    struct sigaction action, watchdog;
    struct itimerval soon = {{0, 50000}, {0, 1000}}, left; /* and again */
    memset(&action, 0, sizeof action); /* without SA_RESTART */
    action.sa_handler = nothing;
    list_t list = list_open(mechanism, 1);
    sigaction(SIGALRM, &action, &watchdog);
    setitimer(ITIMER_REAL, &soon, &left);
    CHECK_EQ(-EINTR, mechanism == FMUX_POLL
                         ? fmux_poll_once(list.memory, -1, -1)
                         : fmux_select_once(list.memory, -1));
    setitimer(ITIMER_REAL, &left, NULL);
    sigaction(SIGALRM, &watchdog, NULL);
    CHECK_EQ(0, mechanism == FMUX_POLL ? fmux_poll_once_now(list.memory)
                                       : fmux_select_once(list.memory, 0));
    list_close(&list);
}

static void select_tells_places_in_the_order_of_the_question(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    put(ends[1]);
    list_t list = list_open(FMUX_SELECT, 6);
    list_add(&list, 0, ends[1], 0);
    list_add(&list, 0, ends[0], 0);
    list_add(&list, 0, ends[0], 0);
    list_add(&list, 1, ends[0], 0);
    list_add(&list, 1, ends[1], 0);
    list_add(&list, 2, ends[0], 0);
    CHECK_EQ(3, fmux_select_once(list.memory, -1));
    CHECK_EQ(2, list.memory[5]);
    CHECK_EQ(1, list.memory[6]);
    CHECK_EQ(0, list.memory[7]);
    CHECK_EQ(1, list_row(&list, 0, 0));
    CHECK_EQ(2, list_row(&list, 0, 1));
    CHECK_EQ(1, list_row(&list, 0, 2));
    list_close(&list);
    pipe_close(ends);
}

/* poll reports hang-ups unasked; to select, one is neither writing nor urgent. */
static void select_sleeps_through_a_hang_up_that_it_has_no_word_for(int mechanism)
{
    int ends[2];
    (void)mechanism;
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    close(ends[1]);
    list_t list = list_open(FMUX_SELECT, 1);
    list_add(&list, 2, ends[0], 0);
    int64_t begin_ns = now_ns();
    CHECK_EQ(0, fmux_select_once(list.memory, 2 * MILLISECOND));
    CHECK(now_ns() - begin_ns >= 2 * MILLISECOND);
    list.memory[2] = 1; /* asked as readable instead */
    list.memory[4] = 0;
    CHECK_EQ(1, fmux_select_once(list.memory, 2 * MILLISECOND));
    list_close(&list);
    close(ends[0]);
}

static void select_refuses_what_is_not_open(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    pipe_close(ends);
    list_t list = list_open(FMUX_SELECT, 2);
    list_add(&list, 0, ends[0], 0);
    CHECK_EQ(-EBADF, fmux_select_once(list.memory, -1));
    struct pollfd *record = (struct pollfd *)(list.memory + 8);
    record->fd = -1;
    CHECK_EQ(-EBADF, fmux_select_once(list.memory, 0));
    list_close(&list);
}

static void select_refuses_what_is_beyond_all_that_was_ever_open(int mechanism)
{
    static const int numbers[] = {FD_SETSIZE, 100000, INT32_MAX};
    (void)mechanism;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        list_t list = list_open(FMUX_SELECT, 2);
        list_add(&list, 0, STDOUT_FILENO, 0);
        list_add(&list, 2, numbers[i], 0);
        CHECK_EQ(-EBADF, fmux_select_once(list.memory, -1));
        list_close(&list);
    }
}

static void select_has_no_limit_of_1024(int mechanism)
{
    enum { COUNT = 1500 };
    int ends[2], copies[COUNT];
    (void)mechanism;
    pipe_open(ends);
    put(ends[1]);
    list_t list = list_open(FMUX_SELECT, 2 * COUNT);
    for (int i = 0; i < COUNT; i++) {
        copies[i] = dup(ends[0]);
        list_add(&list, 0, copies[i], 0);
    }
    CHECK(copies[COUNT - 1] > 1024);
    CHECK_EQ(COUNT, fmux_select_once(list.memory, -1));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(i, list_row(&list, 0, i));
    /* Mixed, it goes by select(2) instead of poll(2). */
    for (int i = 0; i < COUNT; i++)
        list_add(&list, 1, copies[i], 0);
    CHECK_EQ(COUNT, fmux_select_once(list.memory, -1));
    CHECK_EQ(COUNT, list.memory[5]);
    list_close(&list);
    for (int i = 0; i < COUNT; i++)
        close(copies[i]);
    pipe_close(ends);
}

/* ---- memory and system calls that fail ------------------------------------ */

static void select_without_memory_can_be_repeated(int mechanism)
{
    (void)mechanism;
    int ends[2];
    int result, failures;
    pipe_open(ends);
    int far = fcntl(ends[1], F_DUPFD, 5000);
    close(ends[0]); /* an error, which is not what the third list asks for, */
    list_t list = list_open(FMUX_SELECT, 1); /* so bitmaps have to tell */
    list_add(&list, 2, far, 0);
    FAIL_EACH(FAULT_MEMORY, ENOMEM, fmux_select_once(list.memory, 0),
              list.memory[0] == 0);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    list_close(&list);
    close(far);
    close(ends[1]);
}

static void where_ppoll_is_refused_poll_serves(int mechanism)
{
    static const int errors[] = {ENOSYS, EPERM};
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    list_t list = list_open(FMUX_POLL, 1);
    list_add(&list, 0, ends[0], POLLIN);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        int64_t began_ns = now_ns();
        fault_arm(FAULT_PPOLL, 1, 1, errors[i]);
        CHECK_EQ(0, fmux_poll_once(list.memory, MILLISECOND / 2, -1));
        CHECK_EQ(1, fault_disarm());
        CHECK(now_ns() - began_ns >= MILLISECOND / 2);
    }
    list_close(&list);
    pipe_close(ends);
}

static void a_call_that_fails_leaves_the_list_free(int mechanism)
{
    static const int errors[] = {EINTR, ENOMEM};
    int ends[2];
    int result, failures;
    pipe_open(ends);
    put(ends[1]);
    list_t list = list_open(mechanism, 1);
    list_add(&list, 0, ends[0], POLLIN);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        FAIL_EACH(FAULT_WAITING, errors[i],
                  mechanism == FMUX_POLL ? fmux_poll_once_now(list.memory)
                                         : fmux_select_once(list.memory, 0),
                  list.memory[0] == 0);
        CHECK_EQ(mechanism == FMUX_POLL ? ends[0] * 4 + 1 : 1, result);
        CHECK_EQ(1, failures);
    }
    list_close(&list);
    pipe_close(ends);
}

/* ---- bare sets ------------------------------------------------------------ */

static void a_bare_set_answers_as_epoll_ctl_does(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    fmux_t *mux = mux_open(FMUX_BARE_EPOLL);
    CHECK_EQ(-ENOENT, fmux_modify(mux, ends[0], EPOLLIN));
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
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

static void a_bare_set_reports_what_a_dup_keeps_alive(int mechanism)
{
    int ends[2];
    (void)mechanism;
    pipe_open(ends);
    fmux_t *mux = mux_open(FMUX_BARE_EPOLL);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    int copy = dup(ends[0]);
    close(ends[0]);
    put(ends[1]);
    CHECK_EQ(ends[0] * 4 + 1, fmux_wait_now(array.ready));
    close(copy);
    close(ends[1]);
    array_close(&array);
    fmux_free(mux);
}

static void an_adopted_set_is_shared_and_closed_with_its_mux(int mechanism)
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
    CHECK_EQ(ends[0] * 4 + 1, fmux_wait(array.ready, -1, 1));
    array_close(&array);
    fmux_free(mux);
    CHECK_EQ(-1, fcntl(epoll_fd, F_GETFD));
    pipe_close(ends);
}

static void what_is_wrong_with_an_adopted_descriptor_shows_when_used(int mechanism)
{
    int ends[2];
    fmux_t *mux = NULL;
    (void)mechanism;
    pipe_open(ends);
    CHECK_EQ(0, fmux_adopt(ends[0], &mux));
    array_t array = array_open(mux, 1, SHARED);
    CHECK_EQ(-EINVAL, fmux_wait_now(array.ready));
    CHECK_EQ(-EINVAL, fmux_add(mux, ends[1], EPOLLOUT));
    array_close(&array);
    fmux_free(mux);
    close(ends[1]);
}

/* ---- trying ---------------------------------------------------------------- */

static void trying_tells_nothing_from_a_wake_up(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EAGAIN, fmux_wait_try(array.ready));
    CHECK_EQ(-EAGAIN, fmux_wait_try_some(array.ready, 1));
    if (mechanism != FMUX_BARE_EPOLL) {
        CHECK_EQ(0, fmux_wakeup(mux));
        CHECK_EQ(0, fmux_wait_try(array.ready));
    }
    CHECK_EQ(-EAGAIN, fmux_wait_try(array.ready));
    put(ends[1]);
    CHECK_EQ(ends[0] * 4 + 1, fmux_wait_try(array.ready));
    CHECK_EQ(ends[0] * 4 + 1, fmux_wait_try_some(array.ready, 1));
    CHECK_EQ(-EINVAL, fmux_wait_try_some(array.ready, 5));
    CHECK_EQ(-EINVAL, fmux_wait_try_some(array.ready, 0));
    CHECK_EQ(-EBUSY, fmux_wait_try(NULL));
    CHECK_EQ(0, fmux_close(mux));
    CHECK_EQ(-ESHUTDOWN, fmux_wait_try(array.ready));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void trying_a_bare_set(int mechanism)
{
    (void)mechanism;
    trying_tells_nothing_from_a_wake_up(FMUX_BARE_EPOLL);
}

const test_t once_tests[] = {
    TEST(the_size_of_a_list_is_checked, ON_COPIES),
    TEST(one_indexed_event_is_the_result_itself, ON_POLL),
    TEST(rows_keep_the_list_until_they_are_read, ON_POLL),
    TEST(a_bad_descriptor_is_reported_and_a_negative_one_skipped, ON_POLL),
    TEST(the_wake_up_ends_a_wait_and_is_not_reported, ON_POLL),
    TEST(an_empty_list_sleeps_for_the_time_out, ON_COPIES),
    TEST(a_signal_ends_a_call_with_EINTR, ON_COPIES),
    TEST(select_tells_places_in_the_order_of_the_question, ON_SELECT),
    TEST(select_sleeps_through_a_hang_up_that_it_has_no_word_for, ON_SELECT),
    TEST(select_refuses_what_is_not_open, ON_SELECT),
    TEST(select_refuses_what_is_beyond_all_that_was_ever_open, ON_SELECT),
    TEST(select_has_no_limit_of_1024, ON_SELECT),
    TEST(select_without_memory_can_be_repeated, ON_SELECT),
    TEST(where_ppoll_is_refused_poll_serves, ON_POLL),
    TEST(a_call_that_fails_leaves_the_list_free, ON_COPIES),
    TEST(a_bare_set_answers_as_epoll_ctl_does, ON_EPOLL),
    TEST(a_bare_set_reports_what_a_dup_keeps_alive, ON_EPOLL),
    TEST(an_adopted_set_is_shared_and_closed_with_its_mux, ON_EPOLL),
    TEST(what_is_wrong_with_an_adopted_descriptor_shows_when_used, ON_EPOLL),
    TEST(trying_tells_nothing_from_a_wake_up, ON_ALL),
    TEST(trying_a_bare_set, ON_EPOLL),
    {NULL, NULL, 0},
};
