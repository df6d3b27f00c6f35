/* faults.h - calls of the core that fail when they are told to.
 *
 * The linker sends the calls that the core makes to the functions of faults.c
 * (the compiler is given @faults.flags), which pass them on unless a fault is
 * armed. That needs no change of the core, and works below every sanitizer.
 */
#ifndef FAULTS_H
#define FAULTS_H

/* What can fail: kinds of calls, which may be or-ed together. */
enum {
    FAULT_MEMORY = 1 << 0, /* calloc, malloc, realloc */
    FAULT_MUTEX = 1 << 1,  /* pthread_mutex_init */
    FAULT_EPOLL_CREATE = 1 << 2,
    FAULT_EVENTFD = 1 << 3,
    FAULT_EPOLL_CTL = 1 << 4,
    FAULT_EPOLL_WAIT = 1 << 5, /* by epoll_wait, or by epoll_pwait2 */
    FAULT_POLL = 1 << 6,
    FAULT_PPOLL = 1 << 7,
    FAULT_PSELECT = 1 << 8,
    FAULT_RECV = 1 << 9,
    FAULT_WAITING =
            FAULT_EPOLL_WAIT |
        FAULT_POLL | FAULT_PPOLL | FAULT_PSELECT
};

/* From now on, in this thread, the calls number first to first + times - 1 of these
 * kinds fail with this errno. */
void fault_arm(int kinds, int first, int times, int error);

/* Before the next call of these kinds in this thread, do something: what another
 * thread might do while this one is in the kernel. */
void fault_meanwhile(int kinds, void (*action)(void *), void *argument);

/* End that. Returns how many calls have failed, or have been preceded. */
int fault_disarm(void);

/* For tests: have the first, the second, the third... of these calls fail in a call
 * of the core, until none is left to fail. Each time that must return the error, and
 * leave things as the condition says. result is what it returns in the end,
 * unhindered; failures counts. */
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
