/* harness.h - what the test files share: checks, descriptors, arrays, waiters.
 *
 * The tests drive the core through csrc/fastmux.h only. Each runs once per
 * mechanism that it applies to, and must leave as many descriptors open as it
 * found. Linux only: it looks at /proc to see who is asleep and what is open.
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

/* What a test applies to, as a set like that of fmux_mechanisms. */
enum {
    ON_EPOLL = 1 << FMUX_EPOLL,
    ON_POLL = 1 << FMUX_POLL,
    ON_SELECT = 1 << FMUX_SELECT,
    ON_COPIES = ON_POLL | ON_SELECT,
    ON_ALL = ON_EPOLL | ON_COPIES
};

/* One behaviour; the name of its function says which. */
typedef struct {
    const char *name; /* NULL: the end of a table */
    void (*run)(int mechanism);
    int mechanisms;
} test_t;

#define TEST(function, mechanisms) {#function, function, (mechanisms)}

extern const test_t core_tests[];
extern const test_t ready_tests[];
extern const test_t once_tests[];
extern const test_t stream_tests[];
extern const test_t memory_tests[];
extern const test_t fault_tests[];
extern const test_t thread_tests[];
extern const test_t fork_tests[];

/* Complain; from any thread. */
void check_failed(const char *file, int line, const char *what);
void check_equal(const char *file, int line, const char *what,
                 int64_t expected, int64_t actual);

#define CHECK(condition)                                  \
    do {                                                  \
        if (!(condition))                                 \
            check_failed(__FILE__, __LINE__, #condition); \
    } while (0)

#define CHECK_EQ(expected, actual)                                \
    check_equal(__FILE__, __LINE__, #actual, (int64_t)(expected), \
                (int64_t)(actual))

/* For what another thread is about to do. Fails after many seconds. */
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

/* How many descriptors this process has open. */
int open_descriptors(void);

/* Let no more descriptors be opened, and end that. */
void use_up_descriptors(void);
void allow_descriptors(void);

/* A pipe: ends[0] to read, ends[1] to write. */
void pipe_open(int ends[2]);
void pipe_close(const int ends[2]);

/* Write and read one byte. */
void put(int fd);
void take(int fd);

/* ---- muxes and ready arrays -------------------------------------------- */

fmux_t *mux_open(int mechanism);

/* A ready array and its memory, which is exactly as large as it has to be. */
typedef struct {
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

/* The columns of a row. */
int32_t array_index(const array_t *array, int row);
int32_t array_fd(const array_t *array, int row);
uint32_t array_events(const array_t *array, int row);

/* The flag byte of a shared array, and the reader's way to clear it. */
int array_flag(const array_t *array);
void array_mark_read(array_t *array);

/* Whether one of the first rows is about fd. */
bool array_has(const array_t *array, int rows, int fd);

/* ---- waiters ----------------------------------------------------------- */

/* A thread with a private array that waits once. */
typedef struct {
    fmux_t *mux;
    int64_t timeout_ns;
    pthread_t thread;
    _Atomic int id;    /* the kernel's number for it, once it is about to wait */
    _Atomic bool done; /* its wait has returned */
    int result;        /* what the wait returned */
    int fd;            /* of row 0 */
    int64_t took_ns;
} waiter_t;

void waiter_start(waiter_t *waiter, fmux_t *mux, int64_t timeout_ns);

/* Return when it is blocked in the kernel. */
void waiter_asleep(waiter_t *waiter);

/* Join it; returns what its wait returned. */
int waiter_join(waiter_t *waiter);

#endif
