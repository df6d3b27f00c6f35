/* test_threads.c - several threads on one mux: waits, wake-ups, changes and closing,
 * first one at a time, then all at once. */
#include "harness.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---- one at a time ----------------------------------------------------- */

static void a_wake_up_ends_a_wait_in_progress(int mechanism)
{
    waiter_t waiter;
    fmux_t *mux = mux_open(mechanism);
    for (int i = 0; i < 5; i++) {
        waiter_start(&waiter, mux, -1);
        waiter_asleep(&waiter);
        CHECK_EQ(0, fmux_wakeup(mux));
        CHECK_EQ(0, waiter_join(&waiter));
    }
    fmux_free(mux);
}

static void a_wake_up_ends_exactly_one_of_two_waits(int mechanism)
{
    waiter_t waiters[2];
    fmux_t *mux = mux_open(mechanism);
    for (int i = 0; i < 2; i++)
        waiter_start(&waiters[i], mux, 60 * SECOND);
    for (int i = 0; i < 2; i++)
        waiter_asleep(&waiters[i]);
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_SOON(atomic_load(&waiters[0].done) || atomic_load(&waiters[1].done));
    int first = atomic_load(&waiters[0].done) ? 0 : 1;
    CHECK_EQ(0, waiter_join(&waiters[first]));
    sleep_ns(20 * MILLISECOND);
    CHECK(!atomic_load(&waiters[1 - first].done));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, waiter_join(&waiters[1 - first]));
    CHECK(waiters[1 - first].took_ns < 60 * SECOND);
    fmux_free(mux);
}

static void closing_ends_all_waits_and_releases_the_descriptors(int mechanism)
{
    enum { WAITERS = 4 };
    int ends[2];
    waiter_t waiters[WAITERS];
    pipe_open(ends);
    int before = open_descriptors();
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    for (int i = 0; i < WAITERS; i++)
        waiter_start(&waiters[i], mux, i % 2 == 0 ? -1 : 60 * SECOND);
    for (int i = 0; i < WAITERS; i++)
        waiter_asleep(&waiters[i]);
    CHECK(open_descriptors() > before);
    CHECK_EQ(0, fmux_close(mux));
    for (int i = 0; i < WAITERS; i++)
        CHECK_EQ(-ESHUTDOWN, waiter_join(&waiters[i]));
    CHECK_EQ(before, open_descriptors());
    fmux_free(mux);
    pipe_close(ends);
}

static void ignore_signal(int number)
{
    (void)number;
}

static void a_signal_ends_a_wait_with_EINTR(int mechanism)
{
    struct sigaction action, old_action;
    memset(&action, 0, sizeof action); /* without SA_RESTART */
    action.sa_handler = ignore_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, &old_action);
    const int64_t timeouts[] = {-1, 60 * SECOND};
    fmux_t *mux = mux_open(mechanism);
    for (int i = 0; i < 2; i++) {
        waiter_t waiter;
        waiter_start(&waiter, mux, timeouts[i]);
        waiter_asleep(&waiter);
        pthread_kill(waiter.thread, SIGUSR1);
        CHECK_SOON(atomic_load(&waiter.done));
        CHECK_EQ(0, fmux_wakeup(mux)); /* in case of a failure */
        CHECK_EQ(-EINTR, waiter_join(&waiter));
        array_t array = array_open(mux, 1, PRIVATE);
        CHECK_EQ(0, array_wait(&array, 0)); /* consume the wake-up */
        array_close(&array);
    }
    sigaction(SIGUSR1, &old_action, NULL);
    fmux_free(mux);
}

static void a_wait_in_progress_sees_an_added_descriptor(int mechanism)
{
    waiter_t waiter;
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    waiter_start(&waiter, mux, 60 * SECOND);
    waiter_asleep(&waiter);
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    CHECK_EQ(1, waiter_join(&waiter));
    CHECK_EQ(ends[1], waiter.fd);
    CHECK(waiter.took_ns < 60 * SECOND);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_wait_in_progress_sees_a_modified_mask(int mechanism)
{
    waiter_t waiter;
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, ends[1], 0));
    waiter_start(&waiter, mux, 60 * SECOND);
    waiter_asleep(&waiter);
    CHECK_OK(fmux_modify(mux, ends[1], EPOLLOUT));
    CHECK_EQ(1, waiter_join(&waiter));
    CHECK_EQ(ends[1], waiter.fd);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_wait_in_progress_sees_a_removed_descriptor(int mechanism)
{
    waiter_t waiter;
    int gone[2], kept[2];
    pipe_open(gone);
    pipe_open(kept);
    fmux_t *mux = mux_open(mechanism);
    CHECK_OK(fmux_add(mux, gone[0], EPOLLIN));
    CHECK_OK(fmux_add(mux, kept[0], EPOLLIN));
    waiter_start(&waiter, mux, -1);
    waiter_asleep(&waiter);
    CHECK_OK(fmux_remove(mux, gone[0]));
    put(gone[1]);
    put(kept[1]);
    CHECK_EQ(1, waiter_join(&waiter));
    CHECK_EQ(kept[0], waiter.fd);
    fmux_free(mux);
    pipe_close(gone);
    pipe_close(kept);
}

static void changes_do_not_extend_a_wait(int mechanism)
{
    waiter_t waiter;
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    waiter_start(&waiter, mux, 30 * MILLISECOND);
    for (int i = 0; i < 20 && !atomic_load(&waiter.done); i++) {
        CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
        CHECK_OK(fmux_remove(mux, ends[0]));
        sleep_ns(MILLISECOND);
    }
    CHECK_EQ(0, waiter_join(&waiter));
    CHECK(waiter.took_ns >= 30 * MILLISECOND);
    CHECK(waiter.took_ns < 5 * SECOND);
    fmux_free(mux);
    pipe_close(ends);
}

static void a_wait_that_sees_a_change_goes_back_to_sleep(int mechanism)
{
    enum { CALM_MS = 100 };
    waiter_t waiters[2];
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    waiter_start(&waiters[0], mux, -1);
    waiter_start(&waiters[1], mux, -1);
    waiter_asleep(&waiters[0]);
    waiter_asleep(&waiters[1]);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_SOON(atomic_load(&waiters[0].done) || atomic_load(&waiters[1].done));
    clock_t began = clock(); /* CPU time */
    sleep_ns(CALM_MS * MILLISECOND);
    CHECK(clock() - began < CALM_MS * CLOCKS_PER_SEC / 1000 / 2);
    CHECK_EQ(0, fmux_wakeup(mux));
    for (int i = 0; i < 2; i++)
        CHECK_EQ(0, waiter_join(&waiters[i]));
    fmux_free(mux);
    pipe_close(ends);
}

typedef struct {
    const array_t *array;
    _Atomic bool begun;
    int result;
} shared_wait_t;

static void *wait_on_shared(void *argument)
{
    shared_wait_t *wait = argument;
    atomic_store(&wait->begun, true);
    do /* the array may be busy because of the check below */
        wait->result = array_wait(wait->array, -1);
    while (wait->result == -EBUSY);
    return NULL;
}

static void a_shared_array_in_use_is_EBUSY(int mechanism)
{
    pthread_t thread;
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, SHARED);
    shared_wait_t wait = {.array = &array};
    atomic_init(&wait.begun, false);
    pthread_create(&thread, NULL, wait_on_shared, &wait);
    CHECK_SOON(atomic_load(&wait.begun));
    CHECK_SOON(array_wait(&array, 0) == -EBUSY);
    CHECK_EQ(-EBUSY, fmux_wait(array.ready, 0, 4));
    CHECK_EQ(0, fmux_wakeup(mux));
    pthread_join(thread, NULL);
    CHECK_EQ(0, wait.result);
    array_close(&array);
    fmux_free(mux);
}

/* ---- continuous changes ------------------------------------------------ */

/* A thread that changes the set of a mux in a loop. */
typedef struct {
    fmux_t *mux;
    int fd;
    _Atomic bool stop;
    void (*change)(fmux_t *mux, int fd);
    pthread_t thread;
} changer_t;

static void *changer_main(void *argument)
{
    changer_t *changer = argument;
    while (!atomic_load(&changer->stop))
        changer->change(changer->mux, changer->fd);
    return NULL;
}

static void changer_start(changer_t *changer)
{
    atomic_init(&changer->stop, false);
    pthread_create(&changer->thread, NULL, changer_main, changer);
}

static void changer_stop(changer_t *changer)
{
    atomic_store(&changer->stop, true);
    pthread_join(changer->thread, NULL);
}

static void change_mask(fmux_t *mux, int fd)
{
    CHECK_OK(fmux_modify(mux, fd, EPOLLIN | EPOLLPRI));
    CHECK_OK(fmux_modify(mux, fd, EPOLLIN));
}

static void continuous_changes_do_not_prevent_a_wait_from_ending(int mechanism)
{
    enum { IDLE = 400 };
    int idle[IDLE], ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    for (int i = 0; i < IDLE; i++) {
        idle[i] = eventfd(0, EFD_CLOEXEC);
        CHECK_OK(fmux_add(mux, idle[i], EPOLLIN));
    }
    changer_t changer = {.mux = mux, .fd = idle[0], .change = change_mask};
    changer_start(&changer);
    int64_t began_ns = now_ns();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(0, fmux_wait(array.ready, 10 * MILLISECOND, 4));
    CHECK_OK(fmux_add(mux, ends[1], EPOLLOUT));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(1, fmux_wait(array.ready, -1, 4));
    CHECK(now_ns() - began_ns < 3 * SECOND);
    changer_stop(&changer);
    for (int i = 0; i < IDLE; i++)
        close(idle[i]);
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

static void add_and_remove(fmux_t *mux, int fd)
{
    int copy = dup(fd);
    CHECK_OK(fmux_add(mux, copy, EPOLLIN));
    CHECK_OK(fmux_remove(mux, copy));
    close(copy);
}

static void removing_before_closing_has_no_effect_on_a_wait(int mechanism)
{
    enum { CHANGERS = 3 };
    changer_t changers[CHANGERS];
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    /* A high number makes select slow, and the race likely. */
    int high = fcntl(ends[0], F_DUPFD_CLOEXEC, 15000);
    CHECK_OK(fmux_add(mux, high, EPOLLIN));
    for (int i = 0; i < CHANGERS; i++) {
        changers[i].mux = mux;
        changers[i].fd = ends[0];
        changers[i].change = add_and_remove;
        changer_start(&changers[i]);
    }
    int64_t end_ns = now_ns() + SECOND;
    int result = 0;
    while (result == 0 && now_ns() < end_ns)
        result = array_wait(&array, 0);
    CHECK_EQ(0, result);
    for (int i = 0; i < CHANGERS; i++)
        changer_stop(&changers[i]);
    close(high);
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

/* ---- all at once ------------------------------------------------------- */

enum {
    BUSY_PIPES = 8,
    BUSY_THREADS = 7,
    BUSY_CAPACITY = 5
};

typedef struct {
    fmux_t *mux;
    array_t shared;
    int pipes[BUSY_PIPES][2];
    _Atomic bool stop;
    _Atomic int events; /* number of reported events */
} busy_t;

typedef struct {
    busy_t *busy;
    int number;
} busy_thread_t;

static void busy_check_row(busy_t *busy, const array_t *array, int row)
{
    int fd = array_fd(array, row);
    bool ours = false;
    for (int i = 0; i < BUSY_PIPES; i++)
        ours |= fd == busy->pipes[i][0];
    CHECK(ours);
    CHECK_EQ(EPOLLIN, array_events(array, row));
    atomic_fetch_add(&busy->events, 1);
}

static void busy_check_error(int result)
{
    CHECK(result == -EINTR || result == -EBUSY || result == -ESHUTDOWN);
}

static void busy_wait_on_shared(busy_t *busy)
{
    int result = fmux_wait(busy->shared.ready, MILLISECOND, BUSY_CAPACITY);
    if (result > 0) {
        CHECK(result <= BUSY_CAPACITY);
        for (int row = 0; row < result; row++)
            busy_check_row(busy, &busy->shared, row);
        fmux_ready_release(busy->shared.ready);
    } else if (result < 0) {
        busy_check_error(result);
    }
}

static void busy_wait_on_private(busy_t *busy, array_t *array)
{
    int result = fmux_wait(array->ready, MILLISECOND, BUSY_CAPACITY);
    for (int row = 0; row < result; row++)
        busy_check_row(busy, array, row);
    if (result < 0) {
        CHECK(result != -EBUSY);
        busy_check_error(result);
    }
}

/* Change one half of the pipes, which no other thread changes. */
static void busy_change(busy_t *busy, int half)
{
    for (int i = half; i < BUSY_PIPES && !atomic_load(&busy->stop); i += 2) {
        const int *ends = busy->pipes[i];
        CHECK_OK(fmux_add(busy->mux, ends[0], EPOLLIN));
        put(ends[1]);
        sleep_ns(20 * MICROSECOND);
        CHECK_OK(fmux_modify(busy->mux, ends[0], EPOLLPRI));
        CHECK_OK(fmux_modify(busy->mux, ends[0], EPOLLIN));
        take(ends[0]);
        CHECK_EQ(-EEXIST, fmux_add(busy->mux, ends[0], EPOLLIN));
        CHECK_OK(fmux_remove(busy->mux, ends[0]));
        CHECK_EQ(-ENOENT, fmux_remove(busy->mux, ends[0]));
    }
}

static void *busy_main(void *argument)
{
    const busy_thread_t *thread = argument;
    busy_t *busy = thread->busy;
    array_t mine = array_open(busy->mux, BUSY_CAPACITY, PRIVATE);
    while (!atomic_load(&busy->stop)) {
        switch (thread->number) {
        case 0:
        case 1:
            busy_change(busy, thread->number);
            break;
        case 2:
        case 3:
            busy_wait_on_private(busy, &mine);
            break;
        case 4:
        case 5:
            busy_wait_on_shared(busy);
            break;
        default:
            CHECK_EQ(0, fmux_wakeup(busy->mux));
            if (array_wait(&busy->shared, 0) > 0)
                fmux_ready_release(busy->shared.ready);
            sleep_ns(50 * MICROSECOND);
        }
    }
    array_close(&mine);
    return NULL;
}

static void all_operations_can_run_at_once(int mechanism)
{
    pthread_t threads[BUSY_THREADS];
    busy_thread_t arguments[BUSY_THREADS];
    static busy_t busy;
    busy.mux = mux_open(mechanism);
    busy.shared = array_open(busy.mux, BUSY_CAPACITY, SHARED);
    atomic_store(&busy.stop, false);
    atomic_store(&busy.events, 0);
    for (int i = 0; i < BUSY_PIPES; i++)
        pipe_open(busy.pipes[i]);
    for (int i = 0; i < BUSY_THREADS; i++) {
        arguments[i] = (busy_thread_t){&busy, i};
        pthread_create(&threads[i], NULL, busy_main, &arguments[i]);
    }
    sleep_ns(SECOND);
    atomic_store(&busy.stop, true);
    for (int i = 0; i < BUSY_THREADS; i++)
        pthread_join(threads[i], NULL);
    CHECK(atomic_load(&busy.events) > 0);
    array_close(&busy.shared);
    fmux_free(busy.mux);
    for (int i = 0; i < BUSY_PIPES; i++)
        pipe_close(busy.pipes[i]);
}

/* ---- closing during waits ---------------------------------------------- */

enum {
    CLOSE_ROUNDS = 300,
    CLOSE_WAITERS = 4
};

typedef struct {
    fmux_t *mux; /* of this round */
    array_t shared;
    int round;
    int fd;
    pthread_barrier_t begin, opened, end; /* of each round */
} closing_t;

typedef struct {
    closing_t *closing;
    int number;
} closing_thread_t;

/* Wait until the mux is closed; on the shared array if it is free. */
static void wait_until_closed(closing_t *closing, array_t *mine, bool shared)
{
    int result;
    do {
        result = -EBUSY;
        if (shared)
            result = array_wait(&closing->shared, -1);
        if (result == -EBUSY)
            result = array_wait(mine, -1);
    } while (result == 0 || result == -EINTR);
    CHECK_EQ(-ESHUTDOWN, result);
}

/* Use the mux until it is closed. */
static void use_until_closed(const closing_t *closing)
{
    int result;
    do {
        result = fmux_add(closing->mux, closing->fd, EPOLLIN);
        if (result >= 0)
            result = fmux_wakeup(closing->mux);
        if (result >= 0)
            result = fmux_remove(closing->mux, closing->fd);
    } while (result >= 0);
    CHECK_EQ(-ESHUTDOWN, result);
}

static void *closing_main(void *argument)
{
    const closing_thread_t *thread = argument;
    closing_t *closing = thread->closing;
    for (int round = 0; round < CLOSE_ROUNDS; round++) {
        pthread_barrier_wait(&closing->begin);
        array_t mine = array_open(closing->mux, 4, PRIVATE);
        pthread_barrier_wait(&closing->opened);
        /* Not in the rounds in which the mux is freed: after that only the
         * arrays may be used. */
        if (thread->number == 0 && round % 3 == 1)
            use_until_closed(closing);
        else
            wait_until_closed(closing, &mine, thread->number % 2 == 0);
        array_close(&mine);
        pthread_barrier_wait(&closing->end);
    }
    return NULL;
}

static void closing_races_with_waits_and_none_hangs(int mechanism)
{
    pthread_t threads[CLOSE_WAITERS];
    closing_thread_t arguments[CLOSE_WAITERS];
    static closing_t closing;
    int ends[2];
    pipe_open(ends);
    closing.fd = ends[0];
    int before = open_descriptors();
    pthread_barrier_init(&closing.begin, NULL, CLOSE_WAITERS + 1);
    pthread_barrier_init(&closing.opened, NULL, CLOSE_WAITERS + 1);
    pthread_barrier_init(&closing.end, NULL, CLOSE_WAITERS + 1);
    for (int i = 0; i < CLOSE_WAITERS; i++) {
        arguments[i] = (closing_thread_t){&closing, i};
        pthread_create(&threads[i], NULL, closing_main, &arguments[i]);
    }
    for (int round = 0; round < CLOSE_ROUNDS; round++) {
        closing.mux = mux_open(mechanism);
        closing.shared = array_open(closing.mux, 4, SHARED);
        pthread_barrier_wait(&closing.begin);
        pthread_barrier_wait(&closing.opened);
        /* From immediately to after all of them are asleep. */
        int64_t close_ns = now_ns() + round % 60 * 3 * MICROSECOND;
        while (now_ns() < close_ns)
            continue;
        if (round % 3 == 0)
            fmux_free(closing.mux);
        else
            fmux_close(closing.mux);
        pthread_barrier_wait(&closing.end);
        CHECK_EQ(before, open_descriptors());
        array_close(&closing.shared);
        if (round % 3 != 0)
            fmux_free(closing.mux);
    }
    for (int i = 0; i < CLOSE_WAITERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&closing.begin);
    pthread_barrier_destroy(&closing.opened);
    pthread_barrier_destroy(&closing.end);
    pipe_close(ends);
}

const test_t thread_tests[] = {
    TEST(a_wake_up_ends_a_wait_in_progress, ON_ALL),
    TEST(a_wake_up_ends_exactly_one_of_two_waits, ON_ALL),
    TEST(closing_ends_all_waits_and_releases_the_descriptors, ON_ALL),
    TEST(a_signal_ends_a_wait_with_EINTR, ON_ALL),
    TEST(a_wait_in_progress_sees_an_added_descriptor, ON_ALL),
    TEST(a_wait_in_progress_sees_a_modified_mask, ON_ALL),
    TEST(a_wait_in_progress_sees_a_removed_descriptor, ON_ALL),
    TEST(changes_do_not_extend_a_wait, ON_ALL),
    TEST(a_wait_that_sees_a_change_goes_back_to_sleep, ON_ALL),
    TEST(a_shared_array_in_use_is_EBUSY, ON_ALL),
    TEST(continuous_changes_do_not_prevent_a_wait_from_ending, ON_ALL),
    TEST(removing_before_closing_has_no_effect_on_a_wait, ON_ALL),
    TEST(all_operations_can_run_at_once, ON_ALL),
    TEST(closing_races_with_waits_and_none_hangs, ON_ALL),
    {NULL, NULL, 0},
};
