/* test_memory.c - memory that runs out, at each allocation of each function: it is
 * told, nothing is half done, and the same call works afterwards. (A sanitizer
 * sees what is lost on the way. The calls on lists are in test_once.c.) */
#include "faults.h"
#include "harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* A number whose chunk of the table no test has needed before. */
enum { FAR = 5000 };

/* A copy of fd with a high number. */
static int far_copy(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, FAR);
    CHECK(copy >= FAR);
    return copy;
}

static void open_without_memory_makes_nothing(int mechanism)
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

static void adopt_without_memory_leaves_the_descriptor(int mechanism)
{
    (void)mechanism;
    fmux_t *mux = NULL;
    int result, failures;
    int set = epoll_create1(EPOLL_CLOEXEC);
    FAIL_EACH(FAULT_MEMORY, ENOMEM, fmux_adopt(set, &mux),
              mux == NULL && fcntl(set, F_GETFD) >= 0);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    fmux_free(mux);
}

static void an_array_without_memory_is_none(int mechanism)
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
    CHECK_EQ(0, fmux_wait_now(ready));
    fmux_ready_free(ready);
    free(memory);
    fmux_free(mux);
}

static void adding_without_memory_registers_nothing(int mechanism)
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
                  fmux_wait_now(array.ready) == 0);
    CHECK_EQ(0, result);
    CHECK_EQ(mechanism == FMUX_EPOLL ? 1 : 2, failures);
    CHECK_EQ(1, fmux_wait_now(array.ready));
    CHECK_EQ(far, array_fd(&array, 0));
    CHECK_EQ(0, fmux_remove(mux, far));
    array_close(&array);
    fmux_free(mux);
    close(far);
    pipe_close(ends);
}

static void a_set_that_cannot_grow_keeps_what_it_has(int mechanism)
{
    enum { MANY = 64 }; /* what the first piece of memory holds */
    int ends[2], copies[MANY + 1];
    int result, failures;
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, MANY + 1, PRIVATE);
    for (int i = 0; i <= MANY; i++)
        copies[i] = far_copy(ends[0]);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(0, fmux_add(mux, copies[i], EPOLLIN));
    FAIL_EACH(FAULT_MEMORY, ENOMEM, fmux_add(mux, copies[MANY], EPOLLIN),
              fmux_wait_now(array.ready) == MANY);
    CHECK_EQ(0, result);
    CHECK_EQ(1, failures);
    CHECK_EQ(MANY + 1, fmux_wait_now(array.ready));
    array_close(&array);
    fmux_free(mux);
    for (int i = 0; i <= MANY; i++)
        close(copies[i]);
    pipe_close(ends);
}

static void a_wait_without_memory_can_be_repeated(int mechanism)
{
    enum { MANY = 200 }; /* more than a first copy has room for */
    int ends[2], copies[MANY];
    int result, failures;
    pipe_open(ends);
    put(ends[1]);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, MANY, PRIVATE);
    /* A wake-up is there for a wait that takes place. */
    CHECK_EQ(0, fmux_wakeup(mux));
    FAIL_EACH(FAULT_MEMORY, ENOMEM, fmux_wait_forever(array.ready), true);
    CHECK_EQ(0, result);
    CHECK_EQ(mechanism == FMUX_POLL ? 2 : mechanism == FMUX_SELECT ? 3
                                                                   : 0,
             failures);
    for (int i = 0; i < MANY; i++) {
        copies[i] = far_copy(ends[0]);
        CHECK_EQ(0, fmux_add(mux, copies[i], EPOLLIN));
    }
    FAIL_EACH(FAULT_MEMORY, ENOMEM, fmux_wait_now(array.ready), true);
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

static void what_makes_nothing_needs_no_memory(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    fmux_t *mux = mux_open(mechanism);
    array_t array = array_open(mux, 4, PRIVATE);
    CHECK_EQ(0, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_wait(array.ready, 1, 4));
    fault_arm(FAULT_MEMORY, 1, 1000, ENOMEM);
    CHECK_EQ(0, fmux_modify(mux, ends[0], EPOLLIN | EPOLLPRI));
    CHECK_EQ(-EEXIST, fmux_add(mux, ends[0], EPOLLIN));
    CHECK_EQ(-EBADF, fmux_add(mux, FAR, EPOLLIN));
    CHECK_EQ(0, fmux_wakeup(mux));
    CHECK_EQ(0, fmux_wait_forever(array.ready));
    CHECK_EQ(0, fmux_remove(mux, ends[0]));
    CHECK_EQ(0, fmux_close(mux));
    CHECK_EQ(0, fault_disarm());
    array_close(&array);
    fmux_free(mux);
    pipe_close(ends);
}

const test_t memory_tests[] = {
    TEST(open_without_memory_makes_nothing, ON_ALL),
    TEST(adopt_without_memory_leaves_the_descriptor, ON_EPOLL),
    TEST(an_array_without_memory_is_none, ON_ALL),
    TEST(adding_without_memory_registers_nothing, ON_ALL),
    TEST(a_set_that_cannot_grow_keeps_what_it_has, ON_COPIES),
    TEST(a_wait_without_memory_can_be_repeated, ON_ALL),
    TEST(what_makes_nothing_needs_no_memory, ON_ALL),
    {NULL, NULL, 0},
};
