/* forks.c - forked children, and epoll sets that the program closes behind the back of
 * their mux. */
#include "model.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

bool may_fork;

/* Close the set. Sometimes put another file or another set under its number. It must
 * stay as it is, and the mux is closed. */
static void do_lose(mux_t *mux)
{
    struct stat before, after;
    int fd = fmux_fileno(mux->mux);
    unsigned what = input_pick(3);
    int other = what == 0 ? -1 : what == 1 ? memfd_create("file", 0)
                                           : epoll_create1(0);
    REQUIRE(fd >= 0 && (what == 0 || other >= 0));
    if (what == 0) {
        REQUIRE(close(fd) == 0);
    } else {
        REQUIRE(dup2(other, fd) == fd && close(other) == 0);
        REQUIRE(fstat(fd, &before) == 0);
    }
    if (input_pick(2) == 0) {
        /* After a fork, waits of a shared mux sleep in a set that is still there. */
        int result = fmux_wakeup(mux->mux);
        REQUIRE(result == -ESHUTDOWN || (result == 0 && !may_fork));
    }
    REQUIRE(fmux_close(mux->mux) == 0);
    remember("lose", what, 0);
    mux->closed = true;
    if (what == 0)
        return;
    REQUIRE(fstat(fd, &after) == 0 && after.st_ino == before.st_ino &&
            after.st_size == before.st_size && close(fd) == 0);
}

/* Use every mux in a child, with the registrations of the parent. */
static void be_a_child(void)
{
    for (int i = 0; i < ARRAYS; i++) {
        array_t *array = &arrays[i];
        if (array->ready == NULL || array->mux->freed || array->mux->closed)
            continue;
        mux_t *mux = array->mux;
        array->held = false; /* the fork has released it */
        mux->woken = NO;
        wait_with(array, 0);
        fmux_ready_release(array->ready);
        array->held = false;
        do_wakeup(mux);
        wait_with(array, -1);
    }
    for (int i = 0; i < MUXES; i++) {
        if (muxes[i].mux == NULL || muxes[i].freed)
            continue;
        if (by_epoll(&muxes[i]) && !muxes[i].closed && input_pick(2) == 0)
            do_lose(&muxes[i]);
        fmux_free(muxes[i].mux);
    }
}

static void do_fork(void)
{
    if (!may_fork)
        return;
    may_fork = false;
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        be_a_child();
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        REQUIRE(errno == EINTR);
    remember("fork", child, status);
    REQUIRE(status == 0);
}

void do_more(mux_t *mux, unsigned what)
{
    begin_call();
    (void)end_call("more", what, 0); /* disarms a fault */
    if (what >= 4)
        do_fork();
    else if (what >= 2 && by_epoll(mux) && !mux->closed)
        do_lose(mux);
}
