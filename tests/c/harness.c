/* harness.c - runs the tests, and has what they share. See harness.h.
 *
 * Usage: test_core [part of a test's name]
 */
#include "harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* No test takes as long as this, not even under a sanitizer. */
enum { HANGING_SECONDS = 40 };

/* How many descriptors the tests need to be allowed. */
enum { DESCRIPTORS = 16384 };

/* More complaints of one test than this say nothing new. */
enum { MOST_COMPLAINTS = 5 };

static _Atomic int failed_checks;

/* ---- checks ------------------------------------------------------------ */

void check_failed(const char *file, int line, const char *what)
{
    if (atomic_fetch_add(&failed_checks, 1) < MOST_COMPLAINTS)
        printf("\n  %s:%d: not true: %s", file, line, what);
}

void check_equal(const char *file, int line, const char *what,
                 int64_t expected, int64_t actual)
{
    if (expected == actual)
        return;
    if (atomic_fetch_add(&failed_checks, 1) < MOST_COMPLAINTS)
        printf("\n  %s:%d: %s: expected %lld, got %lld", file, line, what,
               (long long)expected, (long long)actual);
}

/* The preparations of a test must not fail. */
static void must(bool condition, const char *what)
{
    if (condition)
        return;
    perror(what);
    exit(2);
}

/* ---- time, descriptors ------------------------------------------------- */

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * SECOND + now.tv_nsec;
}

void sleep_ns(int64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / SECOND),
                            .tv_nsec = (long)(ns % SECOND)};
    nanosleep(&time, NULL);
}

int open_descriptors(void)
{
    int count = -1; /* the directory's own does not count */
    DIR *directory = opendir("/proc/self/fd");
    must(directory != NULL, "/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static struct rlimit usual_limit;

void use_up_descriptors(void)
{
    int lowest_free = dup(STDIN_FILENO);
    must(lowest_free >= 0, "dup");
    close(lowest_free);
    struct rlimit limit = {.rlim_cur = (rlim_t)lowest_free,
                           .rlim_max = usual_limit.rlim_max};
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
}

void allow_descriptors(void)
{
    must(setrlimit(RLIMIT_NOFILE, &usual_limit) == 0, "setrlimit");
}

void pipe_open(int ends[2])
{
    must(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0, "pipe2");
}

void pipe_close(const int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

void put(int fd)
{
    must(write(fd, "x", 1) == 1, "write");
}

void take(int fd)
{
    char byte;
    must(read(fd, &byte, 1) == 1, "read");
}

/* ---- muxes and ready arrays -------------------------------------------- */

fmux_t *mux_open(int mechanism)
{
    fmux_t *mux = NULL;
    errno = -fmux_open(mechanism, &mux);
    must(mux != NULL, "fmux_open");
    return mux;
}

array_t array_open(fmux_t *mux, int capacity, int shared)
{
    array_t array = {.capacity = capacity};
    int bytes = fmux_ready_bytes(capacity);
    must(bytes > 0, "fmux_ready_bytes");
    array.memory = calloc(1, (size_t)bytes);
    must(array.memory != NULL, "calloc");
    errno = -fmux_ready_open(mux, array.memory, bytes, capacity, shared,
                             &array.ready);
    must(array.ready != NULL, "fmux_ready_open");
    return array;
}

void array_close(array_t *array)
{
    fmux_ready_free(array->ready);
    free(array->memory);
}

static const void *array_cell(const array_t *array, int column, int row)
{
    return array->memory + 16 + 4 * (column * array->capacity + row);
}

int32_t array_index(const array_t *array, int row)
{
    return *(const int32_t *)array_cell(array, 0, row);
}

int32_t array_fd(const array_t *array, int row)
{
    return *(const int32_t *)array_cell(array, 1, row);
}

uint32_t array_events(const array_t *array, int row)
{
    return *(const uint32_t *)array_cell(array, 2, row);
}

int array_flag(const array_t *array)
{
    return atomic_load((_Atomic unsigned char *)array->memory);
}

void array_mark_read(array_t *array)
{
    atomic_store((_Atomic unsigned char *)array->memory, 0);
}

bool array_has(const array_t *array, int rows, int fd)
{
    for (int row = 0; row < rows; row++)
        if (array_fd(array, row) == fd)
            return true;
    return false;
}

/* ---- waiters ----------------------------------------------------------- */

static void *waiter_main(void *argument)
{
    waiter_t *waiter = argument;
    array_t array = array_open(waiter->mux, 8, PRIVATE);
    atomic_store(&waiter->id, (int)syscall(SYS_gettid));
    int64_t began_ns = now_ns();
    waiter->result = fmux_wait(array.ready, waiter->timeout_ns, 8);
    waiter->took_ns = now_ns() - began_ns;
    waiter->fd = waiter->result > 0 ? array_fd(&array, 0) : -1;
    atomic_store(&waiter->done, true);
    array_close(&array);
    return NULL;
}

void waiter_start(waiter_t *waiter, fmux_t *mux, int64_t timeout_ns)
{
    waiter->mux = mux;
    waiter->timeout_ns = timeout_ns;
    waiter->result = 0;
    atomic_init(&waiter->id, 0);
    atomic_init(&waiter->done, false);
    errno = pthread_create(&waiter->thread, NULL, waiter_main, waiter);
    must(errno == 0, "pthread_create");
}

/* The letter that the kernel gives to a thread's state: S is asleep. */
static char thread_state(int id)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", id);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return '?';
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end == NULL ? '?' : name_end[2];
}

void waiter_asleep(waiter_t *waiter)
{
    CHECK_SOON(atomic_load(&waiter->id) != 0);
    /* Twice: the first may be a lock that it had to wait for. */
    for (int i = 0; i < 2; i++) {
        CHECK_SOON(thread_state(atomic_load(&waiter->id)) == 'S');
        sleep_ns(200 * MICROSECOND);
    }
}

int waiter_join(waiter_t *waiter)
{
    pthread_join(waiter->thread, NULL);
    return waiter->result;
}

/* ---- main -------------------------------------------------------------- */

static void report_hanging(int number)
{
    static const char message[] = "the test hangs\n";
    (void)number;
    (void)!write(STDOUT_FILENO, message, sizeof message - 1);
    _exit(3);
}

/* Returns whether it passed. */
static bool run_test(const test_t *test, int mechanism)
{
    static const char *const names[] = {"epoll", "poll", "select"};
    int descriptors = open_descriptors();
    atomic_store(&failed_checks, 0);
    printf("%-6s %s ... ", names[mechanism], test->name);
    fflush(stdout);
    alarm(HANGING_SECONDS);
    test->run(mechanism);
    alarm(0);
    CHECK_EQ(descriptors, open_descriptors());
    bool passed = atomic_load(&failed_checks) == 0;
    printf("%s\n", passed ? "ok" : "\n  FAILED");
    return passed;
}

int main(int argc, char **argv)
{
    const test_t *const tables[] = {core_tests, ready_tests, once_tests,
                                    stream_tests, memory_tests, fault_tests,
                                    thread_tests, fork_tests};
    int passed = 0, failed = 0;

    signal(SIGALRM, report_hanging);
    signal(SIGPIPE, SIG_IGN);
    must(getrlimit(RLIMIT_NOFILE, &usual_limit) == 0, "getrlimit");
    must(usual_limit.rlim_max >= DESCRIPTORS, "hard limit of descriptors");
    usual_limit.rlim_cur = DESCRIPTORS;
    allow_descriptors();

    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        for (const test_t *test = tables[i]; test->name != NULL; test++) {
            if (argc > 1 && strstr(test->name, argv[1]) == NULL)
                continue;
            int mechanisms = test->mechanisms & fmux_mechanisms();
            for (int m = FMUX_EPOLL; m <= FMUX_SELECT; m++) {
                if ((mechanisms >> m & 1) == 0)
                    continue;
                if (run_test(test, m))
                    passed++;
                else
                    failed++;
            }
        }
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
