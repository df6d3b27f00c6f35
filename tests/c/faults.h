/* faults.h - fault injection for the system calls and allocations of the core.
 *
 * The linker redirects these calls to the wrappers in faults.c (options:
 * @faults.flags), which pass them on unless a fault is armed. The core needs no
 * change, and every sanitizer works.
 */
#ifndef FAULTS_H
#define FAULTS_H

/* Kinds of calls; a set of them. */
enum {
    FAULT_MEMORY = 1 << 0, /* calloc, malloc, realloc */
    FAULT_MUTEX = 1 << 1,  /* pthread_mutex_init */
    FAULT_EPOLL_CREATE = 1 << 2,
    FAULT_PIPE = 1 << 3,
    FAULT_EPOLL_CTL = 1 << 4,
    FAULT_EPOLL_WAIT = 1 << 5, /* epoll_wait and epoll_pwait2 */
    FAULT_POLL = 1 << 6,
    FAULT_PPOLL = 1 << 7,
    FAULT_PSELECT = 1 << 8,
    FAULT_RECV = 1 << 9,
    FAULT_FOPEN = 1 << 10,
    FAULT_SOCKET = 1 << 11,
    FAULT_FCNTL = 1 << 12,
    FAULT_WAITING = FAULT_EPOLL_WAIT | FAULT_POLL | FAULT_PPOLL | FAULT_PSELECT
};

/* Arm a fault in this thread: of the calls of these kinds, numbers first to
 * first + times - 1 fail with this errno. */
void fault_arm(int kinds, int first, int times, int error);

/* Run an action just before the next call of these kinds in this thread, as another
 * thread might while this one is in the kernel. */
void fault_meanwhile(int kinds, void (*action)(void *), void *argument);

/* Disarm. Returns the number of calls that failed, or had the action before them. */
int fault_disarm(void);

/* Repeat a call of the core. In round n, system call n of this kind fails; the call
 * must return the error and leave the condition true. The last round has no fault:
 * its result is in result, the number of rounds before it in failures. */
#define FAIL_EACH(kind, error, call, condition)      \
    for (failures = 0;; failures++) {                \
        fault_arm((kind), failures + 1, 1, (error)); \
        result = (call);                             \
        if (fault_disarm() == 0)                     \
            break;                                   \
        CHECK_EQ(-(error), result);                  \
        CHECK(condition);                            \
    }

#endif
