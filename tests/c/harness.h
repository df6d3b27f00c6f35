/* harness.h - shared by the test files: checks, descriptors, arrays, waiters.
 *
 * The tests use the core through csrc/fastmux.h only. Each test runs once per
 * mechanism that it applies to, and must not leak descriptors. Linux only: the
 * states of threads and the open descriptors come from /proc.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "fastmux.h"

/* ---- tests and checks -------------------------------------------------- */

/* The mechanisms that a test applies to: a set like that of fmux_mechanisms. */
enum {
    ON_EPOLL = 1 << FMUX_EPOLL,
    ON_POLL = 1 << FMUX_POLL,
    ON_SELECT = 1 << FMUX_SELECT,
    ON_COPIES = ON_POLL | ON_SELECT,
    ON_ALL = ON_EPOLL | ON_COPIES
};

/* A test of one behaviour, which the name of the function states. */
typedef struct {
    const char *name; /* NULL: end of the table */
    void (*run)(int mechanism);
    int mechanisms;
} test_t;

#define TEST(function, mechanisms) {#function, function, (mechanisms)}

extern const test_t core_tests[];
extern const test_t ready_tests[];
extern const test_t list_tests[];
extern const test_t set_tests[];
extern const test_t memory_tests[];
extern const test_t fault_tests[];
extern const test_t thread_tests[];
extern const test_t fork_tests[];
extern const test_t number_tests[];

/* Record a failure; from any thread. */
void check_failed(const char *file, int line, const char *what);
void check_equal(const char *file, int line, const char *what,
                 int64_t expected, int64_t actual);
void check_succeeded(const char *file, int line, const char *what, int result);

/* Run a task in a forked child. Checks that fail there fail this test. */
void in_a_child(void (*task)(void *argument), void *argument);

/* Interrupt system calls by signals, every 50 ms; stop that. */
void signals_begin(void);
void signals_end(void);

#define CHECK(condition)                                  \
    do {                                                  \
        if (!(condition))                                 \
            check_failed(__FILE__, __LINE__, #condition); \
    } while (0)

#define CHECK_EQ(expected, actual)                                \
    check_equal(__FILE__, __LINE__, #actual, (int64_t)(expected), \
                (int64_t)(actual))

/* Check that a call with a result >= 0 or -errno succeeds. */
#define CHECK_OK(call) \
    check_succeeded(__FILE__, __LINE__, #call, (call))

/* Poll for an effect of another thread. Fails after 10 seconds. */
#define CHECK_SOON(condition)                         \
    do {                                              \
        int64_t give_up_ns = now_ns() + 10 * SECOND;  \
        while (!(condition) && now_ns() < give_up_ns) \
            sleep_ns(100 * MICROSECOND);              \
        CHECK(condition);                             \
    } while (0)

/* ---- time, descriptors ------------------------------------------------- */

#define MICROSECOND INT64_C(1000)
#define MILLISECOND INT64_C(1000000)
#define SECOND INT64_C(1000000000)

int64_t now_ns(void);
void sleep_ns(int64_t ns);

/* Count the open descriptors of this process. */
int open_descriptors(void);

/* Lower the limit so that no more descriptors can be opened; restore it. */
void use_up_descriptors(void);
void allow_descriptors(void);

/* Open a pipe: ends[0] to read, ends[1] to write. */
void pipe_open(int ends[2]);
void pipe_close(const int ends[2]);

/* Write and read one byte. */
void put(int fd);
void take(int fd);

/* ---- muxes and ready arrays -------------------------------------------- */

fmux_t *mux_open(int mechanism);

/* A ready array and its memory, which has the exact size, for the sanitizers. */
typedef struct {
    fmux_t *mux;
    unsigned char *memory;
    fmux_ready_t *ready;
    int capacity;
} array_t;

enum {
    PRIVATE = 0,
    SHARED = 1
};

array_t array_open(fmux_t *mux, int capacity, int shared);
void array_close(array_t *array);

/* fmux_wait and fmux_try with the capacity as max_events. */
int array_wait(const array_t *array, int64_t timeout_ns);
int array_try(const array_t *array);

/* The columns of a row. array_fd checks that the tag is the one of the descriptor. */
int32_t array_fd(const array_t *array, int row);
uint32_t array_events(const array_t *array, int row);
int32_t array_tag(const array_t *array, int row);

/* True if one of the first rows reports fd. */
bool array_has(const array_t *array, int rows, int fd);

/* ---- waiters ----------------------------------------------------------- */

/* A thread that waits once, with an array of its own or a given one. */
typedef struct {
    fmux_t *mux;
    const array_t *array; /* NULL: the thread opens a private one */
    int64_t timeout_ns;
    pthread_t thread;
    _Atomic int id;    /* thread ID, set just before the wait */
    _Atomic bool done; /* the wait has returned */
    int result;        /* of the wait */
    int fd;            /* of row 0 */
    int64_t took_ns;
} waiter_t;

void waiter_start(waiter_t *waiter, fmux_t *mux, int64_t timeout_ns);
void waiter_start_on(waiter_t *waiter, const array_t *array,
                     int64_t timeout_ns);

/* Return when the waiter is blocked in the kernel. */
void waiter_asleep(waiter_t *waiter);

/* Join the thread; returns the result of its wait. */
int waiter_join(waiter_t *waiter);

#endif
