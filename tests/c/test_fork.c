/* test_fork.c - the sets of a forked child: what they watch, and that nothing in the
 * child affects the parent. */
#include "faults.h"
#include "harness.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A mux that watches the read end of a pipe, as parent and child see it. */
typedef struct {
    fmux_t *mux;
    array_t array;
    int ends[2];
    int fileno; /* in the parent */
} watch_t;

static watch_t watch_open(int mechanism, uint32_t mask, int shared)
{
    watch_t watch;
    pipe_open(watch.ends);
    watch.mux = mux_open(mechanism);
    watch.array = array_open(watch.mux, 8, shared);
    watch.fileno = fmux_fileno(watch.mux);
    CHECK_EQ(0, fmux_add(watch.mux, watch.ends[0], mask));
    return watch;
}

static void watch_close(watch_t *watch)
{
    array_close(&watch->array);
    fmux_free(watch->mux);
    pipe_close(watch->ends);
}

/* ---- what the child watches ---------------------------------------------- */

static void use_all(void *argument)
{
    watch_t *watch = argument;
    CHECK_EQ(0, array_wait(&watch->array, 0));
    put(watch->ends[1]);
    CHECK_EQ(1, array_wait(&watch->array, SECOND));
    CHECK_EQ(watch->ends[0], array_fd(&watch->array, 0));
    CHECK_EQ(0, array_tag(&watch->array, 0));
    take(watch->ends[0]);
    CHECK_EQ(0, fmux_wakeup(watch->mux));
    CHECK_EQ(0, array_wait(&watch->array, -1));
    CHECK_EQ(0, fmux_modify(watch->mux, watch->ends[0], EPOLLIN));
    CHECK_EQ(1, fmux_add(watch->mux, watch->ends[1], 0));
    CHECK_EQ(1, fmux_remove(watch->mux, watch->ends[1]));
}

static void a_child_has_the_registrations_of_its_parent(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    in_a_child(use_all, &watch);
    CHECK_EQ(0, array_wait(&watch.array, 0));
    use_all(&watch);
    watch_close(&watch);
}

static void use_the_one_shot(void *argument)
{
    watch_t *watch = argument;
    CHECK_EQ(0, array_wait(&watch->array, 0));
    CHECK_OK(fmux_modify(watch->mux, watch->ends[0], EPOLLIN | EPOLLONESHOT));
    CHECK_EQ(1, array_wait(&watch->array, 0));
    CHECK_EQ(0, array_wait(&watch->array, 0));
    CHECK_OK(fmux_remove(watch->mux, watch->ends[0]));
}

static void a_one_shot_that_has_fired_stays_disarmed_in_a_child(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN | EPOLLONESHOT, PRIVATE);
    put(watch.ends[1]);
    CHECK_EQ(1, array_wait(&watch.array, 0));
    in_a_child(use_the_one_shot, &watch);
    use_the_one_shot(&watch);
    watch_close(&watch);
}

static void reuse_the_number(void *argument)
{
    watch_t *watch = argument;
    int other[2];
    pipe_open(other);
    put(other[1]);
    CHECK_EQ(watch->ends[0], dup2(other[0], watch->ends[0]));
    CHECK_EQ(0, array_wait(&watch->array, 0));
    CHECK_EQ(-ENOENT, fmux_modify(watch->mux, watch->ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_add(watch->mux, watch->ends[0], EPOLLIN));
    CHECK_EQ(1, array_wait(&watch->array, 0));
}

static void a_file_that_a_child_has_replaced_is_not_watched(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    in_a_child(reuse_the_number, &watch);
    watch_close(&watch);
}

static void find_no_stale_file(void *argument)
{
    watch_t *watch = argument;
    fmux_stats_t stats;
    CHECK_EQ(0, array_wait(&watch->array, MILLISECOND));
    CHECK_EQ(0, fmux_stats(watch->mux, &stats));
    CHECK_EQ(1, stats.renewals);
    CHECK_EQ(1, stats.stale_events); /* of the parent */
}

/* The parent keeps the file of a closed descriptor in its set, because of a dup. */
static void a_closed_file_behind_a_dup_is_not_in_the_set_of_a_child(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    put(watch.ends[1]);
    int copy = dup(watch.ends[0]);
    close(watch.ends[0]);
    CHECK_OK(fmux_remove(watch.mux, watch.ends[0]));
    CHECK_EQ(-EINTR, array_wait(&watch.array, MILLISECOND));
    in_a_child(find_no_stale_file, &watch);
    CHECK_EQ(-EINTR, array_wait(&watch.array, MILLISECOND));
    CHECK_EQ(watch.ends[0], dup2(copy, watch.ends[0]));
    close(copy);
    watch_close(&watch);
}

static void compare_filenos(void *argument)
{
    watch_t *watch = argument;
    fmux_stats_t stats;
    CHECK_EQ(watch->fileno, fmux_fileno(watch->mux));
    CHECK_EQ(0, fmux_stats(watch->mux, &stats));
    CHECK_EQ(1, stats.renewals);
}

static void a_new_set_has_the_number_of_the_old_one(int mechanism)
{
    fmux_stats_t stats;
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    in_a_child(compare_filenos, &watch);
    CHECK_EQ(0, fmux_stats(watch.mux, &stats));
    CHECK_EQ(0, stats.renewals);
    watch_close(&watch);
}

/* ---- held arrays --------------------------------------------------------- */

static void use_the_held_array(void *argument)
{
    watch_t *watch = argument;
    CHECK_EQ(1, array_wait(&watch->array, 0));
    CHECK_EQ(watch->ends[0], array_fd(&watch->array, 0));
    CHECK_EQ(-EBUSY, array_wait(&watch->array, 0));
    fmux_ready_release(watch->array.ready);
    CHECK_EQ(1, array_try(&watch->array));
}

static void check_held_arrays(int mechanism, int shared_set)
{
    watch_t watch = watch_open(mechanism, EPOLLIN, SHARED);
    CHECK_EQ(0, fmux_set_shared(watch.mux, shared_set));
    put(watch.ends[1]);
    CHECK_EQ(1, array_wait(&watch.array, 0));
    in_a_child(use_the_held_array, &watch);
    CHECK_EQ(-EBUSY, array_wait(&watch.array, 0));
    fmux_ready_release(watch.array.ready);
    CHECK_EQ(1, array_wait(&watch.array, 0));
    watch_close(&watch);
}

static void a_held_array_is_released_in_a_child(int mechanism)
{
    check_held_arrays(mechanism, 0);
    check_held_arrays(mechanism, 1);
}

static void wait_for_a_byte(void *argument)
{
    watch_t *watch = argument;
    put(watch->ends[1]);
    CHECK_EQ(1, array_wait(&watch->array, SECOND));
}

static void an_array_in_use_is_free_in_a_child(int mechanism)
{
    waiter_t waiter;
    watch_t watch = watch_open(mechanism, EPOLLIN, SHARED);
    waiter_start_on(&waiter, &watch.array, -1);
    waiter_asleep(&waiter);
    CHECK_EQ(-EBUSY, array_wait(&watch.array, 0));
    in_a_child(wait_for_a_byte, &watch);
    CHECK_EQ(1, waiter_join(&waiter));
    watch_close(&watch);
}

/* ---- parent and child apart ---------------------------------------------- */

static void change_all(void *argument)
{
    watch_t *watch = argument;
    CHECK_OK(fmux_remove(watch->mux, watch->ends[0]));
    CHECK_OK(fmux_add(watch->mux, watch->ends[1], EPOLLOUT));
    CHECK_EQ(1, array_wait(&watch->array, 0));
    CHECK_EQ(0, fmux_wakeup(watch->mux));
    fmux_ready_free(watch->array.ready);
    fmux_free(watch->mux);
}

static void a_child_changes_nothing_in_its_parent(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    put(watch.ends[1]);
    in_a_child(change_all, &watch);
    CHECK_EQ(1, array_wait(&watch.array, 0));
    CHECK_EQ(watch.ends[0], array_fd(&watch.array, 0));
    watch_close(&watch);
}

static void remove_it(void *argument)
{
    watch_t *watch = argument;
    fmux_stats_t stats;
    CHECK_OK(fmux_remove(watch->mux, watch->ends[0]));
    CHECK_EQ(0, fmux_stats(watch->mux, &stats));
    CHECK_EQ(0, stats.renewals);
}

static void a_shared_set_is_the_same_in_parent_and_child(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    CHECK_EQ(0, fmux_set_shared(watch.mux, 1));
    put(watch.ends[1]);
    in_a_child(remove_it, &watch);
    CHECK_EQ(0, array_wait(&watch.array, 0));
    watch_close(&watch);
}

/* A thread that waits until a wake-up or the end of the mux. */
static void *wait_until_woken(void *argument)
{
    waiter_t *waiter = argument;
    array_t array = array_open(waiter->mux, 8, PRIVATE);
    atomic_store(&waiter->id, 1);
    do
        waiter->result = array_wait(&array, -1);
    while (waiter->result == -EINTR);
    atomic_store(&waiter->done, true);
    array_close(&array);
    return NULL;
}

static void thread_begin(waiter_t *waiter, fmux_t *mux)
{
    *waiter = (waiter_t){.mux = mux};
    CHECK_EQ(0, pthread_create(&waiter->thread, NULL, wait_until_woken, waiter));
    CHECK_SOON(atomic_load(&waiter->id) != 0);
}

/* ThreadSanitizer does not support threads in the child of a process with threads. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
enum { THREADS_IN_CHILDREN = 0 };
#else
enum { THREADS_IN_CHILDREN = 1 };
#endif

static void end_own_waits(void *argument)
{
    watch_t *watch = argument;
    waiter_t waiter;
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(0, fmux_wakeup(watch->mux));
        CHECK_EQ(0, array_wait(&watch->array, i % 2 == 0 ? -1 : 0));
        if (!THREADS_IN_CHILDREN)
            continue;
        thread_begin(&waiter, watch->mux);
        CHECK_EQ(0, fmux_wakeup(watch->mux));
        CHECK_EQ(0, waiter_join(&waiter));
    }
    waiter_t others[3];
    int count = THREADS_IN_CHILDREN ? 3 : 0;
    for (int i = 0; i < count; i++)
        thread_begin(&others[i], watch->mux);
    CHECK_EQ(0, fmux_close(watch->mux));
    for (int i = 0; i < count; i++)
        CHECK_EQ(-ESHUTDOWN, waiter_join(&others[i]));
}

static void end_own_waits_twice(void *argument)
{
    in_a_child(end_own_waits, argument);
    end_own_waits(argument);
}

static void a_wake_up_and_a_close_are_of_one_process(int mechanism)
{
    for (int shared = 0; shared < 2; shared++) {
        waiter_t waiters[2];
        watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
        CHECK_EQ(0, fmux_set_shared(watch.mux, shared));
        for (int i = 0; i < 2; i++)
            thread_begin(&waiters[i], watch.mux);
        in_a_child(end_own_waits_twice, &watch);
        CHECK(!atomic_load(&waiters[0].done) && !atomic_load(&waiters[1].done));
        CHECK_EQ(0, fmux_wakeup(watch.mux));
        CHECK_SOON(atomic_load(&waiters[0].done) || atomic_load(&waiters[1].done));
        CHECK(!atomic_load(&waiters[0].done) || !atomic_load(&waiters[1].done));
        CHECK_EQ(0, fmux_wakeup(watch.mux));
        CHECK_EQ(0, waiter_join(&waiters[0]));
        CHECK_EQ(0, waiter_join(&waiters[1]));
        end_own_waits(&watch);
        watch_close(&watch);
    }
}

/* Both processes wait at once. The child must not consume what is the parent's. */
static void a_waiting_child_takes_no_wake_up_of_its_parent(int mechanism)
{
    int done[2];
    pipe_open(done);
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    CHECK_EQ(0, fmux_set_shared(watch.mux, 1));
    CHECK_EQ(0, fmux_wakeup(watch.mux)); /* pending at the fork */
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        put(done[1]);
        while (array_wait(&watch.array, -1) == -EINTR)
            ;
        _exit(1);
    }
    CHECK_EQ(0, array_wait(&watch.array, -1));
    struct pollfd ready = {.fd = done[0], .events = POLLIN};
    CHECK_EQ(1, poll(&ready, 1, 10000));
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(0, fmux_wakeup(watch.mux));
        CHECK_EQ(0, array_wait(&watch.array, -1));
    }
    CHECK_EQ(0, kill(child, SIGKILL));
    int status;
    CHECK_EQ(child, waitpid(child, &status, 0));
    CHECK(WIFSIGNALED(status));

    /* A process that was killed makes the other one neither spin nor miss anything. */
    CHECK_EQ(0, array_wait(&watch.array, MILLISECOND));
    put(watch.ends[1]);
    CHECK_EQ(1, array_wait(&watch.array, -1));
    watch_close(&watch);
    pipe_close(done);
}

/* One event wakes the waits of both processes; one of them gets it. */
static void take_bytes(void *argument)
{
    watch_t *watch = argument;
    char byte;
    for (int taken = 0; taken < 200;) {
        int n = array_wait(&watch->array, SECOND);
        CHECK(n == 0 || n == 1 || n == -EINTR);
        if (n == 0)
            break;
        taken += n == 1 && read(watch->ends[0], &byte, 1) == 1;
    }
}

static void events_of_a_shared_set_reach_a_process_that_waits(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN | EPOLLET, PRIVATE);
    CHECK_EQ(0, fmux_set_shared(watch.mux, 1));
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        take_bytes(&watch);
        _exit(0);
    }
    for (int i = 0; i < 50; i++) {
        put(watch.ends[1]);
        int left = 1;
        CHECK_SOON(ioctl(watch.ends[0], FIONREAD, &left) == 0 && left == 0);
    }
    CHECK_EQ(0, kill(child, SIGKILL));
    CHECK_EQ(child, waitpid(child, NULL, 0));
    put(watch.ends[1]);
    CHECK_EQ(1, array_wait(&watch.array, -1));
    watch_close(&watch);
}

static void close_it(void *argument)
{
    watch_t *watch = argument;
    int before = open_descriptors();
    int own = fmux_fileno(watch->mux) >= 0;
    CHECK_EQ(0, fmux_wakeup(watch->mux));
    CHECK_EQ(0, fmux_close(watch->mux));
    CHECK_EQ(-ESHUTDOWN, array_wait(&watch->array, 0));
    CHECK(open_descriptors() <= before - own);
}

static void a_child_does_not_disturb_a_wait_of_its_parent(int mechanism)
{
    waiter_t waiter;
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    waiter_start(&waiter, watch.mux, -1);
    waiter_asleep(&waiter);
    in_a_child(close_it, &watch);
    in_a_child(use_all, &watch);
    sleep_ns(20 * MILLISECOND);
    CHECK(!atomic_load(&waiter.done) || waiter.result == 1);
    CHECK_EQ(0, fmux_wakeup(watch.mux));
    CHECK(waiter_join(&waiter) >= 0);
    watch_close(&watch);
}

/* A thread that takes the lock of a mux in a loop. */
typedef struct {
    fmux_t *mux;
    int fd;
    _Atomic bool stop;
} busy_t;

static void *busy_main(void *argument)
{
    busy_t *busy = argument;
    while (!atomic_load(&busy->stop)) {
        (void)fmux_add(busy->mux, busy->fd, 0);
        (void)fmux_remove(busy->mux, busy->fd);
    }
    return NULL;
}

static void put_and_wait(void *argument)
{
    watch_t *watch = argument;
    put(watch->ends[1]);
    CHECK_EQ(1, array_wait(&watch->array, SECOND));
    take(watch->ends[0]);
    CHECK_OK(fmux_remove(watch->mux, watch->ends[0]));
}

static void a_fork_waits_for_every_lock(int mechanism)
{
    pthread_t thread;
    int other[2];
    pipe_open(other);
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    busy_t busy = {.mux = watch.mux, .fd = other[0]};
    pthread_create(&thread, NULL, busy_main, &busy);
    for (int i = 0; i < 20; i++)
        in_a_child(put_and_wait, &watch);
    atomic_store(&busy.stop, true);
    pthread_join(thread, NULL);
    watch_close(&watch);
    pipe_close(other);
}

/* ---- a new set that cannot be made --------------------------------------- */

static void use_up(void *argument)
{
    watch_t *watch = argument;
    use_up_descriptors();
    CHECK_EQ(-EMFILE, array_wait(&watch->array, 0));
    CHECK_EQ(-EMFILE, array_wait(&watch->array, -1));
    CHECK_EQ(-EMFILE, fmux_remove(watch->mux, watch->ends[0]));
    allow_descriptors();
    use_all(watch);
}

static void a_child_without_descriptors_can_try_again(int mechanism)
{
    watch_t watch = watch_open(mechanism, EPOLLIN, PRIVATE);
    in_a_child(use_up, &watch);
    watch_close(&watch);
}

/* A child in which every call of one kind fails once. */
typedef struct {
    watch_t watch;
    int fired[2]; /* with a byte in it; its one-shot registration has fired */
    int kind, error;
} failing_t;

static void renew_in_spite_of_faults(void *argument)
{
    failing_t *child = argument;
    const array_t *array = &child->watch.array;
    fmux_t *mux = child->watch.mux;
    fmux_stats_t stats;
    int result, failures;
    FAIL_EACH(child->kind, child->error, array_wait(array, 0), true);
    CHECK_EQ(0, result);
    CHECK(failures > 0);
    CHECK_EQ(0, fmux_stats(mux, &stats));
    CHECK_EQ(1, stats.renewals);
    CHECK_OK(fmux_modify(mux, child->fired[0], EPOLLIN | EPOLLONESHOT));
    CHECK_EQ(1, array_wait(array, 0));
    CHECK_EQ(child->fired[0], array_fd(array, 0));
    CHECK_OK(fmux_remove(mux, child->fired[0]));
    put(child->watch.ends[1]);
    CHECK_EQ(1, array_wait(array, SECOND));
    CHECK_EQ(child->watch.ends[0], array_fd(array, 0));
    CHECK_OK(fmux_remove(mux, child->watch.ends[0]));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, array_wait(array, -1));
    take(child->watch.ends[0]);
}

static void a_failed_renewal_can_be_repeated(int mechanism)
{
    static const struct {
        int kind, error;
    } faults[] = {
        {FAULT_EPOLL_CREATE, EMFILE},
        {FAULT_EPOLL_CREATE, ENOMEM},
        {FAULT_FOPEN, ENFILE},
        {FAULT_EPOLL_CTL, ENOSPC},
        {FAULT_EPOLL_CTL, ENOMEM},
    };
    failing_t child = {.watch = watch_open(mechanism, EPOLLIN, PRIVATE)};
    pipe_open(child.fired);
    put(child.fired[1]);
    CHECK_OK(fmux_add(child.watch.mux, child.fired[0], EPOLLIN | EPOLLONESHOT));
    CHECK_EQ(1, array_wait(&child.watch.array, 1)); /* fires */
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        child.kind = faults[i].kind;
        child.error = faults[i].error;
        in_a_child(renew_in_spite_of_faults, &child);
    }
    watch_close(&child.watch);
    pipe_close(child.fired);
}

static void renew_without_proc(void *argument)
{
    failing_t *child = argument;
    fault_arm(FAULT_FOPEN, 1, 1, child->error);
    CHECK_EQ(0, array_wait(&child->watch.array, 0));
    CHECK_EQ(1, fault_disarm());
    use_all(&child->watch);
}

static void without_proc_the_table_is_the_fallback(int mechanism)
{
    failing_t child = {.watch = watch_open(mechanism, EPOLLIN, PRIVATE)};
    child.error = ENOENT;
    in_a_child(renew_without_proc, &child);
    child.error = EACCES;
    in_a_child(renew_without_proc, &child);
    watch_close(&child.watch);
}

const test_t fork_tests[] = {
    TEST(a_child_has_the_registrations_of_its_parent, ON_ALL),
    TEST(a_one_shot_that_has_fired_stays_disarmed_in_a_child, ON_EPOLL),
    TEST(a_file_that_a_child_has_replaced_is_not_watched, ON_EPOLL),
    TEST(a_closed_file_behind_a_dup_is_not_in_the_set_of_a_child, ON_EPOLL),
    TEST(a_new_set_has_the_number_of_the_old_one, ON_EPOLL),
    TEST(a_held_array_is_released_in_a_child, ON_ALL),
    TEST(an_array_in_use_is_free_in_a_child, ON_ALL),
    TEST(a_child_changes_nothing_in_its_parent, ON_ALL),
    TEST(a_shared_set_is_the_same_in_parent_and_child, ON_EPOLL),
    TEST(a_child_does_not_disturb_a_wait_of_its_parent, ON_ALL),
    TEST(a_wake_up_and_a_close_are_of_one_process, ON_ALL),
    TEST(a_waiting_child_takes_no_wake_up_of_its_parent, ON_ALL),
    TEST(events_of_a_shared_set_reach_a_process_that_waits, ON_EPOLL),
    TEST(a_fork_waits_for_every_lock, ON_ALL),
    TEST(a_child_without_descriptors_can_try_again, ON_EPOLL),
    TEST(a_failed_renewal_can_be_repeated, ON_EPOLL),
    TEST(without_proc_the_table_is_the_fallback, ON_EPOLL),
    {NULL, NULL, 0},
};
