/* test_memory.c - a failure of each allocation of each function: -ENOMEM is returned,
 * no change is left half done, and the same call works afterwards. (The sanitizers
 * detect leaks. Lists: test_lists.c.) */
#include "faults.h"
#include "harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* A number in another chunk of the table than low ones. */
enum { FAR = 5000 };

/* Duplicate fd under a high number. */
static int far_copy(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, FAR);
    CHECK(copy >= FAR);
    return copy;
}

static void without_memory_open_makes_no_mux(int mechanism)
{
    fmux_t *mux = NULL;
    int result, failures;
    FAIL_EACH(FAULT_MEMORY, ENOMEM, fmux_open(mechanism, &mux), mux == NULL);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    fmux_free(mux);
    mux = NULL;
    FAIL_EACH(FAULT_MUTEX, ENOMEM, fmux_open(mechanism, &mux), mux == NULL);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    fmux_free(mux);
}

static void without_memory_ready_open_makes_no_array(int mechanism)
{
    fmux_t *mux = mux_open(mechanism);
    int bytes = fmux_ready_bytes(4);
    void *memory = malloc((size_t)bytes);
    fmux_ready_t *ready = NULL;
    int result, failures;
    FAIL_EACH(FAULT_MEMORY, ENOMEM,
              fmux_ready_open(mux, memory, bytes, 4, SHARED, &ready),
              ready == NULL);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    CHECK_EQ(0, fmux_wait(ready, 0, 4));
    fmux_ready_free(ready);
    free(memory);
    fmux_free(mux);
}

static void without_memory_add_registers_nothing(int mechanism)
{
    int ends[2];
    int result, failures;
    pipe_open(ends);
    put(ends[1]);
    int far = far_copy(ends[0]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    FAIL_EACH(FAULT_MEMORY, ENOMEM, fmux_add(mux, far, EPOLLIN),
              fmux_remove(mux, far) == -ENOENT &&
                  fmux_tag(mux, far) == -ENOENT &&
                  array_wait(&array, 0) == 0);
    CHECK_EQ(0, result);
    CHECK_EQ(mechanism == FMUX_EPOLL ? 1 : 2, failures);
    CHECK_EQ(1, array_wait(&array, 0));
    CHECK_EQ(far, array_fd(&array, 0));
    CHECK_OK(fmux_remove(mux, far));
    array_close(&array);
    fmux_free(mux);
    close(far);
    pipe_close(ends);
}

static void a_set_that_cannot_grow_keeps_its_descriptors(int mechanism)
{
    enum { MANY = 64 }; /* the size of the first allocation */
    int ends[2], copies[MANY + 1];
    int result, failures;
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, MANY + 1, PRIVATE);
    for (int i = 0; i <= MANY; i++)
        copies[i] = far_copy(ends[0]);
    for (int i = 0; i < MANY; i++)
        CHECK_OK(fmux_add(mux, copies[i], EPOLLIN));
    FAIL_EACH(FAULT_MEMORY, ENOMEM, fmux_add(mux, copies[MANY], EPOLLIN),
              array_wait(&array, 0) == MANY);
    CHECK_EQ(MANY, result);
    CHECK_EQ(1, failures);
    CHECK_EQ(MANY + 1, array_wait(&array, 0));
    array_close(&array);
    fmux_free(mux);
    for (int i = 0; i <= MANY; i++)
        close(copies[i]);
    pipe_close(ends);
}

static void a_wait_that_fails_for_memory_can_be_repeated(int mechanism)
{
    enum { MANY = 200 }; /* more than fit in the first copy */
    int ends[2], copies[MANY];
    int result, failures;
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, MANY, PRIVATE);
    /* A wait that fails does not consume the wake-up. */
    CHECK_EQ(0, fmux_wakeup(mux));
    FAIL_EACH(FAULT_MEMORY, ENOMEM, array_wait(&array, -1), true);
    CHECK_EQ(0, result);
    CHECK_EQ(mechanism == FMUX_POLL ? 2 : mechanism == FMUX_SELECT ? 3
                                                                   : 0,
             failures);
    for (int i = 0; i < MANY; i++) {
        copies[i] = far_copy(ends[0]);
        CHECK_OK(fmux_add(mux, copies[i], EPOLLIN));
    }
    FAIL_EACH(FAULT_MEMORY, ENOMEM, array_wait(&array, 0), true);
    CHECK_EQ(MANY, result);
    CHECK_EQ(mechanism == FMUX_POLL ? 2 : mechanism == FMUX_SELECT ? 3
                                                                   : 0,
             failures);
    array_close(&array);
    fmux_free(mux);
    for (int i = 0; i < MANY; i++)
        close(copies[i]);
    pipe_close(ends);
}

static void most_calls_allocate_nothing(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_OK(fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_wait(array.ready, 1, 4));
    fault_arm(FAULT_MEMORY, 1, 1000, ENOMEM);
    CHECK_OK(fmux_modify(mux, ends[0], EPOLLIN | EPOLLPRI));
    CHECK_EQ(-EEXIST, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, FAR, EPOLLIN));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, array_wait(&array, -1));
    CHECK_OK(fmux_remove(mux, ends[0]));
    CHECK_EQ(0, fmux_close(mux));
    CHECK_EQ(0, fault_disarm());
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

const test_t memory_tests[] = {
    TEST(without_memory_open_makes_no_mux, ON_ALL),
    TEST(without_memory_ready_open_makes_no_array, ON_ALL),
    TEST(without_memory_add_registers_nothing, ON_ALL),
    TEST(a_set_that_cannot_grow_keeps_its_descriptors, ON_COPIES),
    TEST(a_wait_that_fails_for_memory_can_be_repeated, ON_ALL),
    TEST(most_calls_allocate_nothing, ON_ALL),
    {NULL, NULL, 0},
};
