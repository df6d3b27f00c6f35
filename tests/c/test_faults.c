/* test_faults.c - system calls that fail, and changes by other threads during a wait:
 * the error is returned, no change is left half done, and the same call works
 * afterwards. (Renewal after a fork: test_fork.c. Lists: test_lists.c.) */
#include "faults.h"
#include "harness.h"

#include <unistd.h>

/* ---- epoll ---------------------------------------------------------------- */

static void without_an_epoll_set_open_fails(int mechanism)
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
        mux = NULL;
        int descriptors = open_descriptors();
        FAIL_EACH(FAULT_FCNTL, errors[i], fmux_open(mechanism, &mux),
                  mux == NULL && open_descriptors() == descriptors);
        CHECK_EQ(0, result);
        CHECK_EQ(1, failures);
        fmux_free(mux);
    }
}

/* Wake-ups and waits of a set that cannot have the socket. */
static void a_mux_works_without_a_watch_for_the_socket(int mechanism)
{
    static const int errors[] = {ENOSPC, ENOMEM};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        fmux_t *mux = mux_open(mechanism);
        array_t array = array_open(mux, 4, PRIVATE);
        fault_arm(FAULT_EPOLL_CTL, 1, 5, errors[i]);
        CHECK_EQ(0, array_wait(&array, 1));
        CHECK_EQ(-EINTR, array_wait(&array, -1)); /* to be continued */
        CHECK_EQ(0, fmux_wakeup(mux));
        CHECK_EQ(0, array_wait(&array, -1));
        CHECK_EQ(0, fmux_wakeup(mux));
        CHECK_EQ(5, fault_disarm());
        CHECK_EQ(0, array_wait(&array, -1)); /* the socket is added */
        CHECK_EQ(0, fmux_wakeup(mux));
        CHECK_EQ(0, array_wait(&array, -1));
        array_close(&array);
        fmux_free(mux);
    }
}

static void an_add_that_the_kernel_refuses_registers_nothing(int mechanism)
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
                      array_wait(&array, 0) == 0);
        CHECK_EQ(0, result);
        CHECK_EQ(1, failures);
        CHECK_EQ(1, array_wait(&array, 0));
        CHECK_OK(fmux_remove(mux, ends[0]));
    }
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_modify_that_the_kernel_refuses_keeps_the_old_mask(int mechanism)
{
    int ends[2];
    int result, failures;
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    FAIL_EACH(FAULT_EPOLL_CTL, ENOMEM, fmux_modify(mux, ends[0], EPOLLPRI),
              array_wait(&array, 0) == 1);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    CHECK_EQ(0, array_wait(&array, 0));
    CHECK_OK(fmux_modify(mux, ends[0], EPOLLIN));
    /* With EPOLLEXCLUSIVE it is a delete and an add. */
    FAIL_EACH(FAULT_EPOLL_CTL, ENOSPC,
              fmux_modify(mux, ends[0], EPOLLOUT | EPOLLEXCLUSIVE),
              array_wait(&array, 0) == 1);
    CHECK_EQ(0, result);
    CHECK_EQ(2, failures);
    CHECK_EQ(0, array_wait(&array, 0));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_modify_that_cannot_be_undone_forgets_the_descriptor(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    fault_arm(FAULT_EPOLL_CTL, 2, 2, ENOSPC); /* both adds */
    CHECK_EQ(-ENOENT, fmux_modify(mux, ends[0], EPOLLIN | EPOLLEXCLUSIVE));
    CHECK_EQ(2, fault_disarm());
    CHECK_EQ(-ENOENT, fmux_remove(mux, ends[0]));
    CHECK_EQ(0, array_wait(&array, 0));
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(1, array_wait(&array, 0));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void remove_succeeds_even_if_the_kernel_refuses(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    fault_arm(FAULT_EPOLL_CTL, 1, 1, ENOMEM);
    CHECK_OK(fmux_remove(mux, ends[0]));
    CHECK_EQ(1, fault_disarm());
    CHECK_EQ(0, array_wait(&array, 0)); /* in the set, but stale */
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(1, array_wait(&array, 0));
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void without_a_pipe_a_wait_fails(int mechanism)
{
    static const int errors[] = {EMFILE, ENFILE};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        int result, failures;
        fmux_t *mux = mux_open(mechanism);
        array_t array = array_open(mux, 4, PRIVATE);
        int descriptors = open_descriptors();
        CHECK_EQ(0, fmux_wakeup(mux)); /* pending */
        FAIL_EACH(FAULT_PIPE, errors[i], array_wait(&array, -1),
                  open_descriptors() == descriptors);
        CHECK_EQ(0, result);
        CHECK_EQ(1, failures);
        array_close(&array);
        fmux_free(mux);
    }
}

/* ---- waiting -------------------------------------------------------------- */

static void a_failed_wait_leaves_the_array_free(int mechanism)
{
    static const int errors[] = {EINTR, ENOMEM};
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        int result, failures;
        fmux_t *mux = mux_open(mechanism);
        array_t array = array_open(mux, 4, SHARED);
        CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
        FAIL_EACH(FAULT_WAITING, errors[i], fmux_wait(array.ready, SECOND, 4),
                  true);
        CHECK_EQ(1, result);
        CHECK_EQ(1, failures);
        fmux_ready_release(array.ready);
        FAIL_EACH(FAULT_WAITING, errors[i], array_try(&array),
                  true);
        CHECK_EQ(1, result);
        CHECK_EQ(1, failures);
        array_close(&array);
        fmux_free(mux);
    }
    pipe_close(ends);
}

/* ---- changes during a wait ------------------------------------------------ */

/* The arguments of an action that runs while a wait is in the kernel. */
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
    CHECK_OK(fmux_remove(scene->mux, scene->fd));
    close(scene->fd);
}

static void remove_close_and_wake_up(void *argument)
{
    scene_t *scene = argument;
    remove_and_close_the_file(argument);
    CHECK_EQ(0, fmux_wakeup(scene->mux));
}

/* Wait 100 ms on a pipe with a byte in it, with an action meanwhile. */
static int wait_while(int mechanism, void (*action)(void *), int64_t *took_ns)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    scene_t scene = {mux_open(mechanism), ends[0]};
    array_t array = array_open(scene.mux, 4, PRIVATE);
    CHECK_OK(fmux_add(scene.mux, ends[0], EPOLLIN));
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

static void closing_ends_a_wait_even_if_there_is_an_event(
    int mechanism)
{
    int64_t took_ns;
    CHECK_EQ(-ESHUTDOWN, wait_while(mechanism, close_the_mux, &took_ns));
}

static void removing_and_closing_during_a_wait_does_not_end_it(int mechanism)
{
    int64_t took_ns;
    CHECK_EQ(0, wait_while(mechanism, remove_and_close_the_file, &took_ns));
    CHECK(took_ns >= 100 * MILLISECOND);
}

static void a_wake_up_is_not_lost_with_a_stale_event(int mechanism)
{
    int64_t took_ns;
    CHECK_EQ(0, wait_while(mechanism, remove_close_and_wake_up, &took_ns));
    CHECK(took_ns < 100 * MILLISECOND);
}

static void a_failed_wait_does_not_lose_a_wake_up(int mechanism)
{
    static const int errors[] = {EINTR, ENOMEM};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        fmux_stats_t stats;
        fmux_t *mux = mux_open(mechanism);
        array_t array = array_open(mux, 4, PRIVATE);
        CHECK_EQ(0, fmux_wakeup(mux));
        fault_arm(FAULT_WAITING, 1, 1, errors[i]);
        int result = array_wait(&array, -1);
        CHECK_EQ(1, fault_disarm());
        if (mechanism == FMUX_EPOLL) { /* not consumed yet */
            CHECK_EQ(-errors[i], result);
            result = array_wait(&array, -1);
        }
        CHECK_EQ(0, result);
        CHECK_EQ(0, fmux_stats(mux, &stats));
        CHECK_EQ(1, stats.wakeups);
        array_close(&array);
        fmux_free(mux);
    }
}

const test_t fault_tests[] = {
    TEST(without_an_epoll_set_open_fails, ON_EPOLL),
    TEST(a_mux_works_without_a_watch_for_the_socket, ON_EPOLL),
    TEST(an_add_that_the_kernel_refuses_registers_nothing, ON_EPOLL),
    TEST(a_modify_that_the_kernel_refuses_keeps_the_old_mask, ON_EPOLL),
    TEST(a_modify_that_cannot_be_undone_forgets_the_descriptor, ON_EPOLL),
    TEST(remove_succeeds_even_if_the_kernel_refuses, ON_EPOLL),
    TEST(without_a_pipe_a_wait_fails, ON_COPIES),
    TEST(a_failed_wait_leaves_the_array_free, ON_ALL),
    TEST(closing_ends_a_wait_even_if_there_is_an_event, ON_ALL),
    TEST(removing_and_closing_during_a_wait_does_not_end_it, ON_ALL),
    TEST(a_wake_up_is_not_lost_with_a_stale_event, ON_ALL),
    TEST(a_failed_wait_does_not_lose_a_wake_up, ON_ALL),
    {NULL, NULL, 0},
};
