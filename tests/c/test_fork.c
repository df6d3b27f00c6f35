/* test_fork.c - what a child gets, what it cannot do to its parent, and sets that are
 * renewed because of a closed file behind a dup. */
#include "harness.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a child does with a mux and a ready array of its parent's; it returns how
 * many things are wrong. */
typedef int task_t(fmux_t *mux, array_t *array, const int ends[2]);

/* Run it in a child; with the address sanitizer a child takes no part in looking
 * for leaks. */
static void in_a_child(task_t *task, fmux_t *mux, array_t *array,
                       const int ends[2])
{
    pid_t child = fork();
    if (child == 0)
        _exit(task(mux, array, ends));
    int status = -1;
    CHECK_EQ(child, waitpid(child, &status, 0));
    CHECK_EQ(0, status);
}

/* A mux that watches one end of a pipe. */
typedef struct {
    fmux_t *mux;
    array_t array;
    int ends[2];
} watch_t;

static watch_t watch_open(int mechanism, uint32_t mask)
{
    watch_t watch;
    pipe_open(watch.ends);
    watch.mux = mux_open(mechanism);
    watch.array = array_open(watch.mux, 8, PRIVATE);
    CHECK_EQ(0, fmux_add(watch.mux, watch.ends[0], mask));
    return watch;
}

static void watch_close(watch_t *watch)
{
    array_close(&watch->array);
    fmux_free(watch->mux);
    pipe_close(watch->ends);
}

/* ---- forks --------------------------------------------------------------- */

static int use_what_is_there(fmux_t *mux, array_t *array, const int ends[2])
{
    int wrong = fmux_wait_now(array->ready) != 0;
    put(ends[1]);
    wrong += fmux_wait(array->ready, SECOND, 8) != 1;
    wrong += array_fd(array, 0) != ends[0];
    take(ends[0]);
    wrong += fmux_wakeup(mux) != 0;
    wrong += fmux_wait(array->ready, -1, 8) != 0;
    return wrong;
}

static void a_child_has_the_registrations_of_its_parent(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN);
    CHECK_EQ(0, fmux_wait(watch.array.ready, 1, 8)); /* makes the wake-up */
    in_a_child(use_what_is_there, watch.mux, &watch.array, watch.ends);
    CHECK_EQ(0, fmux_wait_now(watch.array.ready));
    CHECK_EQ(0, use_what_is_there(watch.mux, &watch.array, watch.ends));
    watch_close(&watch);
}

static int change_all(fmux_t *mux, array_t *array, const int ends[2])
{
    int wrong = fmux_remove(mux, ends[0]) != 0;
    wrong += fmux_add(mux, ends[1], EPOLLOUT) != 0;
    wrong += fmux_wait_now(array->ready) != 1;
    wrong += fmux_wakeup(mux) != 0;
    fmux_ready_free(array->ready);
    fmux_free(mux);
    return wrong;
}

static void a_child_changes_nothing_of_its_parent(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN);
    put(watch.ends[1]);
    in_a_child(change_all, watch.mux, &watch.array, watch.ends);
    CHECK_EQ(1, fmux_wait_now(watch.array.ready));
    CHECK_EQ(watch.ends[0], array_fd(&watch.array, 0));
    watch_close(&watch);
}

static int remove_it(fmux_t *mux, array_t *array, const int ends[2])
{
    (void)array;
    return fmux_remove(mux, ends[0]) != 0;
}

static void a_shared_set_is_the_same_in_parent_and_child(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN);
    CHECK_EQ(0, fmux_set_shared(watch.mux, 1));
    put(watch.ends[1]);
    in_a_child(remove_it, watch.mux, &watch.array, watch.ends);
    CHECK_EQ(0, fmux_wait_now(watch.array.ready));
    watch_close(&watch);
}

static int close_it(fmux_t *mux, array_t *array, const int ends[2])
{
    int before = open_descriptors();
    int set = fmux_fileno(mux) >= 0;
    int wrong = fmux_wakeup(mux) != 0;
    wrong += fmux_close(mux) != 0;
    wrong += fmux_wait_now(array->ready) != -ESHUTDOWN;
    wrong += open_descriptors() > before - set;
    (void)ends;
    return wrong;
}

static void a_child_does_not_disturb_a_wait_of_its_parent(int mechanism)
{
    waiter_t waiter;
    watch_t watch = watch_open(mechanism, EPOLLIN);
    waiter_start(&waiter, watch.mux, -1);
    waiter_asleep(&waiter);
    in_a_child(close_it, watch.mux, &watch.array, watch.ends);
    in_a_child(use_what_is_there, watch.mux, &watch.array, watch.ends);
    sleep_ns(20 * MILLISECOND);
    CHECK(!atomic_load(&waiter.done) || waiter.result == 1);
    CHECK_EQ(0, fmux_wakeup(watch.mux));
    CHECK(waiter_join(&waiter) >= 0);
    watch_close(&watch);
}

static int ask_for_the_one_shot(fmux_t *mux, array_t *array, const int ends[2])
{
    int wrong = fmux_wait_now(array->ready) != 0;
    wrong += fmux_modify(mux, ends[0], EPOLLIN | EPOLLONESHOT) != 0;
    wrong += fmux_wait_now(array->ready) != 1;
    wrong += fmux_wait_now(array->ready) != 0;
    wrong += fmux_remove(mux, ends[0]) != 0;
    return wrong;
}

static void a_one_shot_that_has_fired_has_fired_in_a_child_too(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN | EPOLLONESHOT);
    put(watch.ends[1]);
    CHECK_EQ(1, fmux_wait_now(watch.array.ready));
    in_a_child(ask_for_the_one_shot, watch.mux, &watch.array, watch.ends);
    CHECK_EQ(0, ask_for_the_one_shot(watch.mux, &watch.array, watch.ends));
    watch_close(&watch);
}

static int reuse_the_number(fmux_t *mux, array_t *array, const int ends[2])
{
    int other[2];
    pipe_open(other);
    put(other[1]);
    int wrong = dup2(other[0], ends[0]) != ends[0];
    wrong += fmux_wait_now(array->ready) != 0;
    wrong += fmux_modify(mux, ends[0], EPOLLIN | EPOLLPRI) != -ENOENT;
    wrong += fmux_add(mux, ends[0], EPOLLIN) != 0;
    wrong += fmux_wait_now(array->ready) != 1;
    return wrong;
}

static void a_number_that_a_child_gave_to_another_file_is_not_watched(
    int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN);
    in_a_child(reuse_the_number, watch.mux, &watch.array, watch.ends);
    watch_close(&watch);
}

static int use_up(fmux_t *mux, array_t *array, const int ends[2])
{
    use_up_descriptors();
    int wrong = fmux_wait_now(array->ready) != -EMFILE;
    wrong += fmux_remove(mux, ends[0]) != -EMFILE;
    allow_descriptors();
    wrong += use_what_is_there(mux, array, ends);
    return wrong;
}

static void a_child_without_descriptors_can_try_again(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN);
    in_a_child(use_up, watch.mux, &watch.array, watch.ends);
    watch_close(&watch);
}

static int number_in_the_parent;

static int compare_numbers(fmux_t *mux, array_t *array, const int ends[2])
{
    fmux_stats_t stats;
    int wrong = fmux_fileno(mux) != number_in_the_parent;
    wrong += fmux_stats(mux, &stats) != 0;
    (void)array, (void)ends;
    return wrong + (stats.renewals != 1);
}

static void a_new_set_has_the_number_of_the_old_one(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN);
    number_in_the_parent = fmux_fileno(watch.mux);
    in_a_child(compare_numbers, watch.mux, &watch.array, watch.ends);
    watch_close(&watch);
}

/* A thread that takes the lock of a mux all the time. */
typedef struct {
    fmux_t *mux;
    int fd;
    _Atomic bool stop;
} busy_t;

static void *busy_main(void *argument)
{
    busy_t *busy = argument;
    while (!atomic_load(&busy->stop)) {
        (void)fmux_add(busy->mux, busy->fd, EPOLLIN);
        (void)fmux_remove(busy->mux, busy->fd);
    }
    return NULL;
}

static void a_fork_waits_for_every_lock(int mechanism)
{
    pthread_t thread;
    int other[2];
    pipe_open(other);
    watch_t watch = watch_open(mechanism, EPOLLIN);
    busy_t busy = {.mux = watch.mux, .fd = other[0]};
    pthread_create(&thread, NULL, busy_main, &busy);
    for (int i = 0; i < 20; i++)
        in_a_child(use_what_is_there, watch.mux, &watch.array, watch.ends);
    atomic_store(&busy.stop, true);
    pthread_join(thread, NULL);
    watch_close(&watch);
    pipe_close(other);
}

/* ---- a closed file behind a dup ------------------------------------------- */

/* Close the watched end, which is readable, and keep a dup of it. Returns that. */
static int hide_behind_a_dup(watch_t *watch)
{
    put(watch->ends[1]);
    int copy = dup(watch->ends[0]);
    close(watch->ends[0]);
    CHECK_EQ(0, fmux_remove(watch->mux, watch->ends[0]));
    return copy;
}

static void show_again(watch_t *watch, int copy)
{
    CHECK_EQ(watch->ends[0], dup2(copy, watch->ends[0]));
    close(copy);
}

/* Wait as a caller has to. Returns how often it was interrupted. */
static int wait_through(array_t *array, int64_t timeout_ns)
{
    int interruptions = 0;
    while (fmux_wait(array->ready, timeout_ns, array->capacity) == -EINTR)
        interruptions++;
    return interruptions;
}

static void a_closed_file_behind_a_dup_does_not_keep_a_wait_from_sleeping(
    int mechanism)
{
    fmux_stats_t stats;
    watch_t watch = watch_open(mechanism, EPOLLIN);
    int copy = hide_behind_a_dup(&watch);
    CHECK(wait_through(&watch.array, 20 * MILLISECOND) < 1000);
    CHECK_EQ(0, wait_through(&watch.array, 20 * MILLISECOND));
    CHECK_EQ(0, fmux_stats(watch.mux, &stats));
    CHECK_EQ(1, stats.renewals);
    CHECK(stats.stale_events > 0);
    show_again(&watch, copy);
    watch_close(&watch);
}

static void what_else_is_watched_stays_watched(int mechanism)
{
    int other[2], fired[2];
    pipe_open(other);
    pipe_open(fired);
    watch_t watch = watch_open(mechanism, EPOLLIN);
    CHECK_EQ(0, fmux_add(watch.mux, other[0], EPOLLIN));
    CHECK_EQ(0, fmux_add(watch.mux, fired[0], EPOLLIN | EPOLLONESHOT));
    put(fired[1]);
    CHECK_EQ(1, fmux_wait_now(watch.array.ready));
    int copy = hide_behind_a_dup(&watch);
    (void)wait_through(&watch.array, MILLISECOND);
    put(other[1]);
    CHECK_EQ(1, fmux_wait_now(watch.array.ready));
    CHECK_EQ(other[0], array_fd(&watch.array, 0));
    take(other[0]);
    CHECK_EQ(0, fmux_modify(watch.mux, fired[0], EPOLLIN | EPOLLONESHOT));
    CHECK_EQ(1, fmux_wait_now(watch.array.ready));
    CHECK_EQ(fired[0], array_fd(&watch.array, 0));
    show_again(&watch, copy);
    watch_close(&watch);
    pipe_close(other);
    pipe_close(fired);
}

static void other_waits_move_to_the_new_set(int mechanism)
{
    enum { WAITERS = 3 };
    waiter_t waiters[WAITERS];
    int other[2];
    pipe_open(other);
    watch_t watch = watch_open(mechanism, EPOLLIN);
    CHECK_EQ(0, fmux_add(watch.mux, other[0], EPOLLIN));
    for (int i = 0; i < WAITERS; i++)
        waiter_start(&waiters[i], watch.mux, -1);
    for (int i = 0; i < WAITERS; i++)
        waiter_asleep(&waiters[i]);
    int copy = hide_behind_a_dup(&watch);
    (void)wait_through(&watch.array, MILLISECOND);
    put(other[1]);
    for (int i = 0; i < WAITERS; i++) {
        /* A kick sends a waiter back to its caller, who would wait again. */
        int result = waiter_join(&waiters[i]);
        CHECK(result == 1 || result == -EINTR);
    }
    CHECK_EQ(1, fmux_wait_now(watch.array.ready));
    show_again(&watch, copy);
    watch_close(&watch);
    pipe_close(other);
}

static void a_wake_up_survives_a_new_set(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN);
    CHECK_EQ(0, fmux_wait(watch.array.ready, 1, 8)); /* makes the wake-up */
    int copy = hide_behind_a_dup(&watch);
    for (int i = 0; i < 15; i++)
        CHECK_EQ(-EINTR, fmux_wait(watch.array.ready, -1, 1));
    CHECK_EQ(0, fmux_wakeup(watch.mux));
    int result;
    do /* one at a time, so that the stale one may come before the wake-up */
        result = fmux_wait(watch.array.ready, -1, 1);
    while (result == -EINTR);
    CHECK_EQ(0, result);
    show_again(&watch, copy);
    watch_close(&watch);
}

const test_t fork_tests[] = {
    TEST(a_child_has_the_registrations_of_its_parent, ON_ALL),
    TEST(a_child_changes_nothing_of_its_parent, ON_ALL),
    TEST(a_shared_set_is_the_same_in_parent_and_child, ON_EPOLL),
    TEST(a_child_does_not_disturb_a_wait_of_its_parent, ON_ALL),
    TEST(a_one_shot_that_has_fired_has_fired_in_a_child_too, ON_EPOLL),
    TEST(a_number_that_a_child_gave_to_another_file_is_not_watched, ON_EPOLL),
    TEST(a_child_without_descriptors_can_try_again, ON_EPOLL),
    TEST(a_new_set_has_the_number_of_the_old_one, ON_EPOLL),
    TEST(a_fork_waits_for_every_lock, ON_ALL),
    TEST(a_closed_file_behind_a_dup_does_not_keep_a_wait_from_sleeping,
         ON_EPOLL),
    TEST(what_else_is_watched_stays_watched, ON_EPOLL),
    TEST(other_waits_move_to_the_new_set, ON_EPOLL),
    TEST(a_wake_up_survives_a_new_set, ON_EPOLL),
    {NULL, NULL, 0},
};
