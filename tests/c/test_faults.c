/* test_faults.c - system calls that fail, and what other threads do during those
 * that wait: what went wrong is told, nothing is half done, and the same call works
 * afterwards. */
#include "faults.h"
#include "harness.h"

#include <unistd.h>

/* ---- epoll ---------------------------------------------------------------- */

static void no_epoll_set_is_no_mux(int mechanism)
{
    static const int errors[] = {EMFILE, ENFILE, ENOMEM};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        fmux_t *mux = NULL;
        int result, failures;
        FAIL_EACH(FAULT_EPOLL_CREATE, errors[i], fmux_open(mechanism, &mux),
                  mux == NULL);
        CHECK_EQ(0, result);
        CHECK_EQ(1, failures);
        fmux_free(mux);
    }
}

static void what_the_kernel_refuses_is_not_registered(int mechanism)
{
    static const int errors[] = {ENOSPC, ENOMEM};
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        int result, failures;
        FAIL_EACH(FAULT_EPOLL_CTL, errors[i], fmux_add(mux, ends[0], EPOLLIN),
                  fmux_remove(mux, ends[0]) == -ENOENT &&
                      fmux_wait_now(array.ready) == 0);
        CHECK_EQ(0, result);
        CHECK_EQ(1, failures);
        CHECK_EQ(1, fmux_wait_now(array.ready));
        CHECK_EQ(0, fmux_remove(mux, ends[0]));
    }
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_change_that_the_kernel_refuses_leaves_the_old_mask(int mechanism)
{
    int ends[2];
    int result, failures;
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    FAIL_EACH(FAULT_EPOLL_CTL, ENOMEM, fmux_modify(mux, ends[0], EPOLLPRI),
              fmux_wait_now(array.ready) == 1);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    CHECK_EQ(0, fmux_wait_now(array.ready));
    CHECK_EQ(0, fmux_modify(mux, ends[0], EPOLLIN));
    /* This one is a delete and an add. */
    FAIL_EACH(FAULT_EPOLL_CTL, ENOSPC,
              fmux_modify(mux, ends[0], EPOLLOUT | EPOLLEXCLUSIVE),
              fmux_wait_now(array.ready) == 1);
    CHECK_EQ(0, result);
    CHECK_EQ(2, failures);
    CHECK_EQ(0, fmux_wait_now(array.ready));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void what_can_be_watched_under_neither_mask_is_forgotten(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    fault_arm(FAULT_EPOLL_CTL, 2, 2, ENOSPC); /* both of the adds */
    CHECK_EQ(-ENOENT, fmux_modify(mux, ends[0], EPOLLIN | EPOLLEXCLUSIVE));
    CHECK_EQ(2, fault_disarm());
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    CHECK_EQ(0, fmux_wait_now(array.ready));
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(1, fmux_wait_now(array.ready));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void removing_does_not_fail_with_the_kernel(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    fault_arm(FAULT_EPOLL_CTL, 1, 1, ENOMEM);
    CHECK_EQ(0, fmux_remove(mux, ends[0]));
    CHECK_EQ(1, fault_disarm());
    CHECK_EQ(0, fmux_wait_now(array.ready)); /* still in the set, but silent */
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(1, fmux_wait_now(array.ready));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_wake_up_without_memory_for_its_descriptor(int mechanism)
{
    int result, failures;
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    int descriptors = open_descriptors();
    FAIL_EACH(FAULT_EVENTFD, ENOMEM, fmux_wait(array.ready, MILLISECOND, 4),
              open_descriptors() == descriptors);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, fmux_wait_forever(array.ready));
    array_close(&array);
    fmux_free(mux);
}

/* Nobody has asked for it, so nobody is told. */
static void epoll_can_wait_without_a_wake_up(int mechanism)
{
    static const struct {
        int kind;
        int error;
    } faults[] = {
        {FAULT_EVENTFD, ENOMEM},
        {FAULT_EPOLL_CTL, ENOMEM},
        {FAULT_EPOLL_CTL, ENOSPC},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        fmux_t *mux = mux_open(mechanism);
        array_t array = array_open(mux, 4, PRIVATE);
        int descriptors = open_descriptors();
        fault_arm(faults[i].kind, 1, 1000, faults[i].error);
        CHECK_EQ(0, fmux_wait(array.ready, MILLISECOND, 4));
        CHECK_EQ(-EINTR, fmux_wait_forever(array.ready)); /* looks up */
        CHECK_EQ(0, fmux_wakeup(mux));
        CHECK_EQ(0, fmux_wait_forever(array.ready));
        CHECK_EQ(4, fault_disarm());
        CHECK_EQ(descriptors, open_descriptors());
        CHECK_EQ(0, fmux_wakeup(mux));
        CHECK_EQ(0, fmux_wait_forever(array.ready));
        array_close(&array);
        fmux_free(mux);
    }
}

static void without_descriptors_in_the_whole_system(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    fault_arm(FAULT_EVENTFD, 1, 1000, ENFILE);
    CHECK_EQ(0, fmux_wakeup(mux)); /* kept for a wait */
    if (mechanism == FMUX_EPOLL) {
        CHECK_EQ(0, fmux_wait_forever(array.ready));
        CHECK_EQ(-EINTR, fmux_wait_forever(array.ready)); /* looks up */
    } else {
        CHECK_EQ(-ENFILE, fmux_wait_forever(array.ready));
    }
    (void)fault_disarm();
    if (mechanism == FMUX_EPOLL)
        CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, fmux_wait_forever(array.ready));
    array_close(&array);
    fmux_free(mux);
}

/* ---- waiting -------------------------------------------------------------- */

static void a_wait_that_fails_is_told_and_costs_nothing(int mechanism)
{
    static const int errors[] = {EINTR, ENOMEM};
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        int result, failures;
        fmux_t *mux = mux_open(mechanism);
        array_t array = array_open(mux, 4, SHARED);
        CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
        FAIL_EACH(FAULT_WAITING, errors[i], fmux_wait(array.ready, SECOND, 4),
                  array_flag(&array) == 0);
        CHECK_EQ(ends[0] * 4 + 1, result);
        CHECK_EQ(1, failures);
        FAIL_EACH(FAULT_WAITING, errors[i], fmux_wait_try(array.ready),
                  array_flag(&array) == 0);
        CHECK_EQ(ends[0] * 4 + 1, result);
        CHECK_EQ(1, failures);
        array_close(&array);
        fmux_free(mux);
    }
    pipe_close(ends);
}

/* Wait often enough for a new set in place of one with something stale in it; not
 * for a second attempt. */
static void wait_for_a_renewal(array_t *array)
{
    for (int i = 0; i < 20; i++)
        (void)fmux_wait_now(array->ready);
}

static void a_renewal_that_fails_leaves_a_set_that_works(int mechanism)
{
    static const struct {
        int kind, error;
    } faults[] = {
        {FAULT_EPOLL_CREATE, EMFILE},
        {FAULT_EVENTFD, ENFILE},
        {FAULT_EPOLL_CTL, ENOSPC},
        {FAULT_EPOLL_CTL, ENOMEM},
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        for (int first = 1, struck = 1; struck > 0; first++) {
            int hidden[2], fired[2], other[2];
            pipe_open(hidden);
            pipe_open(fired);
            pipe_open(other);
            put(hidden[1]);
            put(fired[1]);
            fmux_t *mux = mux_open(mechanism);
            array_t array = array_open(mux, 4, PRIVATE);
            CHECK_EQ(0, fmux_add(mux, hidden[0], EPOLLIN));
            CHECK_EQ(0, fmux_add(mux, other[0], EPOLLIN));
            CHECK_EQ(0, fmux_add(mux, fired[0], EPOLLIN | EPOLLONESHOT));
            CHECK_EQ(2, fmux_wait(array.ready, MILLISECOND, 4));
            int copy = dup(hidden[0]);
            close(hidden[0]);
            CHECK_EQ(0, fmux_remove(mux, hidden[0]));

            fault_arm(faults[i].kind, first, 1, faults[i].error);
            wait_for_a_renewal(&array);
            struck = fault_disarm();

            close(copy); /* nothing stale ends a wait any more */
            CHECK_EQ(0, fmux_wakeup(mux));
            int64_t began_ns = now_ns();
            CHECK_EQ(0, fmux_wait(array.ready, SECOND, 4));
            CHECK(now_ns() - began_ns < SECOND);
            CHECK_EQ(0, fmux_modify(mux, fired[0], EPOLLIN));
            CHECK_EQ(1, fmux_wait_now(array.ready));
            put(other[1]);
            CHECK_EQ(2, fmux_wait_now(array.ready));
            array_close(&array);
            fmux_free(mux);
            close(hidden[1]);
            pipe_close(fired);
            pipe_close(other);
        }
    }
}

/* ---- meanwhile ------------------------------------------------------------ */

/* What others do while a wait is in the kernel. */
typedef struct {
    fmux_t *mux;
    int fd;
} scene_t;

static void close_the_mux(void *argument)
{
    scene_t *scene = argument;
    CHECK_EQ(0, fmux_close(scene->mux));
}

static void remove_and_close_the_file(void *argument)
{
    scene_t *scene = argument;
    CHECK_EQ(0, fmux_remove(scene->mux, scene->fd));
    close(scene->fd);
}

static void remove_close_and_wake_up(void *argument)
{
    scene_t *scene = argument;
    remove_and_close_the_file(argument);
    CHECK_EQ(0, fmux_wakeup(scene->mux));
}

/* How a wait of 100 ms on a pipe with a byte in it ends. */
static int wait_while(int mechanism, void (*action)(void *), int64_t *took_ns)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    scene_t scene = {mux_open(mechanism), ends[0]};
    array_t array = array_open(scene.mux, 4, PRIVATE);
    CHECK_EQ(0, fmux_add(scene.mux, ends[0], EPOLLIN));
    int64_t began_ns = now_ns();
    fault_meanwhile(FAULT_WAITING, action, &scene);
    int result = fmux_wait(array.ready, 100 * MILLISECOND, 4);
    CHECK_EQ(1, fault_disarm());
    *took_ns = now_ns() - began_ns;
    array_close(&array);
    fmux_free(scene.mux);
    if (action == close_the_mux)
        close(ends[0]);
    close(ends[1]);
    return result;
}

static void closing_meanwhile_ends_a_wait_although_there_is_an_event(
    int mechanism)
{
    int64_t took_ns;
    CHECK_EQ(-ESHUTDOWN, wait_while(mechanism, close_the_mux, &took_ns));
}

static void what_is_removed_and_closed_meanwhile_is_not_missed(int mechanism)
{
    int64_t took_ns;
    CHECK_EQ(0, wait_while(mechanism, remove_and_close_the_file, &took_ns));
    CHECK(took_ns >= 100 * MILLISECOND);
}

static void a_wake_up_is_not_lost_with_what_was_removed(int mechanism)
{
    int64_t took_ns;
    CHECK_EQ(0, wait_while(mechanism, remove_close_and_wake_up, &took_ns));
    CHECK(took_ns < 100 * MILLISECOND);
}

const test_t fault_tests[] = {
    TEST(no_epoll_set_is_no_mux, ON_EPOLL),
    TEST(what_the_kernel_refuses_is_not_registered, ON_EPOLL),
    TEST(a_change_that_the_kernel_refuses_leaves_the_old_mask, ON_EPOLL),
    TEST(what_can_be_watched_under_neither_mask_is_forgotten, ON_EPOLL),
    TEST(removing_does_not_fail_with_the_kernel, ON_EPOLL),
    TEST(a_wake_up_without_memory_for_its_descriptor, ON_COPIES),
    TEST(epoll_can_wait_without_a_wake_up, ON_EPOLL),
    TEST(without_descriptors_in_the_whole_system, ON_ALL),
    TEST(a_wait_that_fails_is_told_and_costs_nothing, ON_ALL),
    TEST(a_renewal_that_fails_leaves_a_set_that_works, ON_EPOLL),
    TEST(closing_meanwhile_ends_a_wait_although_there_is_an_event, ON_ALL),
    TEST(what_is_removed_and_closed_meanwhile_is_not_missed, ON_ALL),
    TEST(a_wake_up_is_not_lost_with_what_was_removed, ON_ALL),
    {NULL, NULL, 0},
};
