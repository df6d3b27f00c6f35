/* harness.c - runs the tests, and implements harness.h.
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
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The time limit of a test, generous even under a sanitizer. */
enum { HANGING_SECONDS = 40 };

/* The limit of descriptors that the tests need. */
enum { DESCRIPTORS = 16384 };

/* Failures that are printed per test. */
enum { PRINTED_FAILURES = 5 };

static _Atomic int failed_checks;

/* ---- checks ------------------------------------------------------------ */

void check_failed(const char *file, int line, const char *what)
{
    if (atomic_fetch_add(&failed_checks, 1) < PRINTED_FAILURES)
        printf("\n  %s:%d: not true: %s", file, line, what);
}

void check_equal(const char *file, int line, const char *what,
                 int64_t expected, int64_t actual)
{
    if (expected == actual)
        return;
    if (atomic_fetch_add(&failed_checks, 1) < PRINTED_FAILURES)
        printf("\n  %s:%d: %s: expected %lld, got %lld", file, line, what,
               (long long)expected, (long long)actual);
}

void check_succeeded(const char *file, int line, const char *what, int result)
{
    if (result >= 0)
        return;
    if (atomic_fetch_add(&failed_checks, 1) < PRINTED_FAILURES)
        printf("\n  %s:%d: %s failed: %d", file, line, what, result);
}

void in_a_child(void (*task)(void *argument), void *argument)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        atomic_store(&failed_checks, 0);
        alarm(HANGING_SECONDS); /* a child has no alarm of its parent */
        task(argument);
        fflush(stdout);
        /* Without the leak check of the address sanitizer, which is for the parent. */
        _exit(atomic_load(&failed_checks) != 0);
    }
    int status = -1;
    CHECK_EQ(child, waitpid(child, &status, 0));
    CHECK_EQ(0, status);
}

static void ignore_signal(int number)
{
    (void)number;
}

/* SIGALRM belongs to report_hanging otherwise. */
static struct sigaction watchdog;
static struct itimerval watchdog_time;

void signals_begin(void)
{
    const struct itimerval soon = {{0, 50000}, {0, 1000}}; /* repeats */
    struct sigaction action = {.sa_handler = ignore_signal}; /* no SA_RESTART */
    sigaction(SIGALRM, &action, &watchdog);
    setitimer(ITIMER_REAL, &soon, &watchdog_time);
}

void signals_end(void)
{
    setitimer(ITIMER_REAL, &watchdog_time, NULL);
    sigaction(SIGALRM, &watchdog, NULL);
}

/* Check a step of the setup; a failure ends the process. */
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
    int count = -1; /* without the one of opendir */
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
    array_t array = {.mux = mux, .capacity = capacity};
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

int array_wait(const array_t *array, int64_t timeout_ns)
{
    return fmux_wait(array->ready, timeout_ns, array->capacity);
}

int array_try(const array_t *array)
{
    return fmux_try(array->ready, array->capacity);
}

int32_t array_fd(const array_t *array, int row)
{
    int fd = fmux_ready_rows(array->ready).fds[row];
    CHECK_EQ(fmux_tag(array->mux, fd), array_tag(array, row));
    return fd;
}

uint32_t array_events(const array_t *array, int row)
{
    return fmux_ready_rows(array->ready).events[row];
}

int32_t array_tag(const array_t *array, int row)
{
    return fmux_ready_rows(array->ready).tags[row];
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
    array_t own;
    /* A thread that forks blocks all signals meanwhile in musl. If the child ends
     * before that, the kernel gives SIGCHLD to another thread, whose wait it ends. */
    sigset_t child_ended;
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    pthread_sigmask(SIG_BLOCK, &child_ended, NULL);
    const array_t *array = waiter->array;
    if (array == NULL) {
        own = array_open(waiter->mux, 8, PRIVATE);
        array = &own;
    }
    atomic_store(&waiter->id, (int)syscall(SYS_gettid));
    int64_t began_ns = now_ns();
    waiter->result = array_wait(array, waiter->timeout_ns);
    waiter->took_ns = now_ns() - began_ns;
    waiter->fd = waiter->result > 0 ? array_fd(array, 0) : -1;
    atomic_store(&waiter->done, true);
    if (array == &own)
        array_close(&own);
    return NULL;
}

static void waiter_run(waiter_t *waiter, fmux_t *mux, const array_t *array,
                       int64_t timeout_ns)
{
    waiter->mux = mux;
    waiter->array = array;
    waiter->timeout_ns = timeout_ns;
    waiter->result = 0;
    atomic_init(&waiter->id, 0);
    atomic_init(&waiter->done, false);
    errno = pthread_create(&waiter->thread, NULL, waiter_main, waiter);
    must(errno == 0, "pthread_create");
}

void waiter_start(waiter_t *waiter, fmux_t *mux, int64_t timeout_ns)
{
    waiter_run(waiter, mux, NULL, timeout_ns);
}

void waiter_start_on(waiter_t *waiter, const array_t *array,
                     int64_t timeout_ns)
{
    waiter_run(waiter, array->mux, array, timeout_ns);
}

/* The state letter of a thread in proc(5): S is asleep. */
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
    /* Twice: the first sleep may be on a lock. */
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

/* Run a test with one mechanism. Returns true if it passed. */
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
    const test_t *const tables[] = {core_tests, ready_tests, list_tests,
                                    set_tests, memory_tests, fault_tests,
                                    thread_tests, fork_tests, number_tests};
    int passed = 0, failed = 0;

    signal(SIGALRM, report_hanging);
    signal(SIGPIPE, SIG_IGN);
    must(getrlimit(RLIMIT_NOFILE, &usual_limit) == 0, "getrlimit");
    must(usual_limit.rlim_max >= DESCRIPTORS, "hard limit of descriptors");
    usual_limit.rlim_cur = DESCRIPTORS;
    allow_descriptors();
    for (int m = FMUX_EPOLL; m <= FMUX_SELECT; m++)
        if ((fmux_mechanisms() >> m & 1) != 0) {
            fmux_t *mux = mux_open(m);
            (void)fmux_wakeup(mux); /* opens what stays open */
            fmux_free(mux);
        }

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
