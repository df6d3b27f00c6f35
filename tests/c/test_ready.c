/* test_ready.c - which events are reported, when and how often; timeouts, and wake-ups
 * in a single thread. */
#include "harness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* A mux with a private array. */
typedef struct {
    fmux_t *mux;
    array_t array;
} set_t;

static set_t set_open(int mechanism, int capacity)
{
    set_t set = {.mux = mux_open(mechanism)};
    set.array = array_open(set.mux, capacity, PRIVATE);
    return set;
}

static void set_close(set_t *set)
{
    array_close(&set->array);
    fmux_free(set->mux);
}

static int set_wait_now(set_t *set)
{
    return array_wait(&set->array, 0);
}

/* The events of fd, if a wait reports only fd; else 0. */
static uint32_t events_of(set_t *set, int fd)
{
    if (set_wait_now(set) != 1 || array_fd(&set->array, 0) != fd)
        return 0;
    return array_events(&set->array, 0);
}

/* ---- readiness --------------------------------------------------------- */

static void an_event_is_reported_while_its_condition_holds(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(0, set_wait_now(&set));
    put(ends[1]);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    take(ends[0]);
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void only_events_in_the_mask_are_reported(int mechanism)
{
    int ends[2];
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    set_t set = set_open(mechanism, 4);
    put(ends[1]);
    CHECK_OK(fmux_add(set.mux, ends[0], 0));
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLOUT));
    CHECK_EQ(EPOLLOUT, events_of(&set, ends[0]));
    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLIN | EPOLLOUT));
    CHECK_EQ(EPOLLIN | EPOLLOUT, events_of(&set, ends[0]));
    CHECK_OK(fmux_modify(set.mux, ends[0], 0));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void readable_and_writable_are_one_row(int mechanism)
{
    int ends[2];
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    set_t set = set_open(mechanism, 4);
    put(ends[1]);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN | EPOLLOUT));
    CHECK_EQ(EPOLLIN | EPOLLOUT, events_of(&set, ends[0]));
    set_close(&set);
    pipe_close(ends);
}

static void a_hang_up_is_reported_without_a_request(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    put(ends[1]);
    close(ends[1]);
    CHECK_EQ(EPOLLIN | EPOLLHUP, events_of(&set, ends[0]));
    take(ends[0]);
    CHECK_EQ(EPOLLHUP, events_of(&set, ends[0]));
    set_close(&set);
    close(ends[0]);
}

static void select_reports_a_hang_up_as_readable(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    close(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    set_close(&set);
    close(ends[0]);
}

#if defined(FMUX_NO_RDHUP)
static void a_half_closed_peer_is_refused_outside_Linux(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(-EINVAL, fmux_add(set.mux, ends[0], EPOLLIN | EPOLLRDHUP));
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(-EINVAL, fmux_modify(set.mux, ends[0], EPOLLRDHUP));
    CHECK_EQ(1, write(ends[1], "x", 1));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    set_close(&set);
    pipe_close(ends);
}
#else
static void a_half_closed_peer_is_reported_on_request(int mechanism)
{
    int ends[2];
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLRDHUP));
    CHECK_EQ(0, set_wait_now(&set));
    shutdown(ends[1], SHUT_WR);
    CHECK_EQ(EPOLLRDHUP, events_of(&set, ends[0]));
    set_close(&set);
    pipe_close(ends);
}
#endif

static void urgent_data_is_reported_as_EPOLLPRI(int mechanism)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(0, bind(listener, (struct sockaddr *)&address, length));
    CHECK_EQ(0, getsockname(listener, (struct sockaddr *)&address, &length));
    CHECK_EQ(0, listen(listener, 1));
    CHECK_EQ(0, connect(client, (struct sockaddr *)&address, length));
    int server = accept(listener, NULL, NULL);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, server, EPOLLPRI));
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_EQ(1, send(client, "!", 1, MSG_OOB));
    CHECK_EQ(1, fmux_wait(set.array.ready, 5 * SECOND, 1));
    CHECK_EQ(EPOLLPRI, array_events(&set.array, 0));
    set_close(&set);
    close(server);
    close(client);
    close(listener);
}

static void a_regular_file_is_always_ready(int mechanism)
{
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, file, EPOLLIN));
    CHECK_EQ(EPOLLIN, events_of(&set, file));
    set_close(&set);
    close(file);
}

static void an_epoll_set_is_readable_to_another_set(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t inner = set_open(FMUX_EPOLL, 4);
    set_t outer = set_open(mechanism, 4);
    int fd = fmux_fileno(inner.mux);
    CHECK_OK(fmux_add(inner.mux, ends[0], EPOLLIN));
    CHECK_OK(fmux_add(outer.mux, fd, EPOLLIN));
    CHECK_EQ(0, set_wait_now(&outer));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&outer, fd));
    take(ends[0]);
    CHECK_EQ(0, set_wait_now(&outer));

    /* A wake-up makes it readable, too, until a wait consumes it. */
    CHECK_EQ(0, fmux_wakeup(inner.mux));
    CHECK_EQ(EPOLLIN, events_of(&outer, fd));
    CHECK_EQ(0, set_wait_now(&inner));
    CHECK_EQ(0, set_wait_now(&outer));
    set_close(&outer);
    set_close(&inner);
    pipe_close(ends);
}

/* ---- epoll's modes ----------------------------------------------------- */

static void an_edge_is_reported_once_and_again_after_modify(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN | EPOLLET));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLIN | EPOLLET));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void a_one_shot_is_disarmed_until_modify(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN | EPOLLONESHOT));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    put(ends[1]);
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_EQ(-EEXIST, fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLIN | EPOLLONESHOT));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void what_is_given_back_is_reported_again(int mechanism)
{
    static const uint32_t masks[] = {EPOLLIN, EPOLLIN | (uint32_t)EPOLLET,
                                     EPOLLIN | EPOLLONESHOT,
                                     EPOLLIN | EPOLLET | EPOLLEXCLUSIVE};
    int ends[2];
    size_t count = mechanism == FMUX_EPOLL ? 4 : 1;
    for (size_t i = 0; i < count; i++) {
        pipe_open(ends);
        set_t set = set_open(mechanism, 4);
        CHECK_OK(fmux_add(set.mux, ends[0], masks[i]));
        put(ends[1]);
        for (int again = 0; again < 3; again++) {
            CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
            fmux_give_back(set.array.ready, 1, 0);
        }
        CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
        take(ends[0]);
        fmux_give_back(set.array.ready, 1, 0);
        CHECK_EQ(0, set_wait_now(&set));
        put(ends[1]);
        CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
        CHECK_OK(fmux_remove(set.mux, ends[0]));
        fmux_give_back(set.array.ready, 1, 0);
        CHECK_EQ(0, set_wait_now(&set));
        fmux_close(set.mux);
        fmux_give_back(set.array.ready, 1, 1);
        set_close(&set);
        pipe_close(ends);
    }
}

static void a_wake_up_that_is_given_back_ends_the_next_wait(int mechanism)
{
    set_t set = set_open(mechanism, 4);
    for (int again = 0; again < 3; again++) {
        CHECK_EQ(0, fmux_wakeup(set.mux));
        CHECK_EQ(0, array_wait(&set.array, -1));
        fmux_give_back(set.array.ready, 0, 1);
        CHECK_EQ(0, array_wait(&set.array, -1));
        CHECK_EQ(-EAGAIN, array_try(&set.array));
    }
    set_close(&set);
}

static void an_exclusive_registration_can_be_modified(int mechanism)
{
    int ends[2];
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    set_t set = set_open(mechanism, 4);
    put(ends[1]);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN | EPOLLEXCLUSIVE));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLOUT | EPOLLEXCLUSIVE));
    CHECK_EQ(EPOLLOUT, events_of(&set, ends[0]));
    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLOUT | EPOLLEXCLUSIVE));
    CHECK_EQ(EPOLLOUT, events_of(&set, ends[0]));

    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLOUT | EPOLLEXCLUSIVE));
    CHECK_EQ(EPOLLOUT, events_of(&set, ends[0]));
    CHECK_OK(fmux_remove(set.mux, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void a_refused_modify_keeps_the_old_mask(int mechanism)
{
    const uint32_t impossible = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    put(ends[1]);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(-EINVAL, fmux_modify(set.mux, ends[0], impossible));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_OK(fmux_modify(set.mux, ends[0], EPOLLIN | EPOLLEXCLUSIVE));
    CHECK_EQ(-EINVAL, fmux_modify(set.mux, ends[0], impossible));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_OK(fmux_remove(set.mux, ends[0]));
    set_close(&set);
    pipe_close(ends);
}

/* ---- closed and reused descriptors ------------------------------------- */

/* A dup keeps the file in the epoll set after its descriptor is closed. */
static void a_refused_modify_does_not_rearm_a_one_shot(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN | EPOLLONESHOT));
    CHECK_EQ(1, set_wait_now(&set));
    CHECK_EQ(-EINVAL, fmux_modify(set.mux, ends[0],
                                  EPOLLIN | EPOLLONESHOT | EPOLLEXCLUSIVE));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void stale_events_are_dropped(int mechanism)
{
    int ends[2], others[2];
    pipe_open(ends);
    pipe_open(others);
    int copy = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    put(ends[1]);
    close(ends[0]);
    CHECK_OK(fmux_remove(set.mux, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_EQ(-EINTR, fmux_wait(set.array.ready, SECOND, 4));
    CHECK_EQ(-EINTR, array_wait(&set.array, -1));

    /* Nor are they events of the next file under this number. */
    CHECK_EQ(ends[0], dup2(others[0], ends[0]));
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(0, set_wait_now(&set));
    put(others[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_OK(fmux_remove(set.mux, ends[0]));
    set_close(&set);
    pipe_close(ends);
    pipe_close(others);
    close(copy);
}

static void stale_events_hide_neither_events_nor_wake_ups(int mechanism)
{
    int ends[2], other[2];
    fmux_stats_t stats;
    pipe_open(ends);
    pipe_open(other);
    int copy = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_OK(fmux_add(set.mux, other[0], EPOLLIN));
    put(ends[1]);
    close(ends[0]);
    CHECK_OK(fmux_remove(set.mux, ends[0]));
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(-EINTR, fmux_wait(set.array.ready, -1, 4));
        CHECK_EQ(-EAGAIN, array_try(&set.array));
    }
    CHECK_EQ(0, fmux_wakeup(set.mux));
    CHECK_EQ(0, fmux_wait(set.array.ready, -1, 4));
    CHECK_EQ(0, fmux_wakeup(set.mux));
    CHECK_EQ(0, array_try(&set.array));
    put(other[1]);
    CHECK_EQ(1, fmux_wait(set.array.ready, -1, 4));
    CHECK_EQ(other[0], array_fd(&set.array, 0));

    /* One record at a time: the stale one may come first. */
    take(other[0]);
    CHECK_EQ(0, fmux_wakeup(set.mux));
    int result = -EINTR;
    for (int i = 0; i < 2 && result == -EINTR; i++)
        result = fmux_wait(set.array.ready, -1, 1);
    CHECK_EQ(0, result);
    CHECK_EQ(0, fmux_stats(set.mux, &stats));
    CHECK(stats.stale_events >= 203 && stats.stale_events <= 204);
    CHECK_EQ(0, stats.renewals);
    CHECK_EQ(3, stats.wakeups);
    set_close(&set);
    close(ends[1]);
    close(copy);
    pipe_close(other);
}

static void a_file_that_has_its_old_number_again_can_be_added(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    int copy = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    close(ends[0]);
    CHECK_OK(fmux_remove(set.mux, ends[0]));
    CHECK_EQ(ends[0], dup2(copy, ends[0]));
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_OK(fmux_remove(set.mux, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
    close(copy);
}

static void a_reused_number_is_a_new_registration(int mechanism)
{
    set_t set = set_open(mechanism, 4);
    for (int i = 0; i < 20; i++) {
        int ends[2];
        pipe_open(ends);
        CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
        CHECK_EQ(0, set_wait_now(&set));
        put(ends[1]);
        CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
        if (i % 2 == 0)
            CHECK_OK(fmux_remove(set.mux, ends[0]));
        pipe_close(ends);
        if (i % 2 != 0)
            CHECK_OK(fmux_remove(set.mux, ends[0]));
        CHECK_EQ(0, set_wait_now(&set));
    }
    set_close(&set);
}

static void a_closed_descriptor_is_dropped_or_reported(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(0, set_wait_now(&set));
    pipe_close(ends);
    if (mechanism == FMUX_EPOLL)
        CHECK_EQ(0, set_wait_now(&set)); /* dropped by the kernel */
    else if (mechanism == FMUX_POLL)
        CHECK_EQ(POLLNVAL, events_of(&set, ends[0]));
    else
        CHECK_EQ(-EBADF, set_wait_now(&set));
    CHECK_OK(fmux_remove(set.mux, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
}

/* ---- many -------------------------------------------------------------- */

static void descriptors_above_1024_can_be_watched(int mechanism)
{
    const int lowest[] = {1024, 1500, 5000};
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    for (size_t i = 0; i < sizeof lowest / sizeof *lowest; i++) {
        int fd = fcntl(ends[0], F_DUPFD_CLOEXEC, lowest[i]);
        CHECK(fd >= lowest[i]);
        CHECK_OK(fmux_add(set.mux, fd, EPOLLIN));
        CHECK_EQ(0, set_wait_now(&set));
        put(ends[1]);
        CHECK_EQ(EPOLLIN, events_of(&set, fd));
        take(ends[0]);
        CHECK_OK(fmux_remove(set.mux, fd));
        close(fd);
    }
    set_close(&set);
    pipe_close(ends);
}

static void three_thousand_descriptors_can_be_ready_at_once(int mechanism)
{
    enum { MANY = 3000 };
    static int fds[MANY];
    set_t set = set_open(mechanism, MANY);
    for (int i = 0; i < MANY; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        CHECK_OK(fmux_add(set.mux, fds[i], EPOLLIN));
    }
    CHECK_EQ(MANY, set_wait_now(&set));
    int64_t expected = 0, actual = 0;
    for (int i = 0; i < MANY; i++) {
        expected += fds[i];
        actual += array_fd(&set.array, i);
        CHECK_EQ(EPOLLIN, array_events(&set.array, i));
    }
    CHECK_EQ(expected, actual);

    for (int i = 0; i < MANY; i += 2)
        CHECK_OK(fmux_remove(set.mux, fds[i]));
    CHECK_EQ(MANY / 2, set_wait_now(&set));
    for (int i = 0; i < MANY; i += 2)
        expected -= fds[i];
    actual = 0;
    for (int row = 0; row < MANY / 2; row++)
        actual += array_fd(&set.array, row);
    CHECK_EQ(expected, actual);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    set_close(&set);
}

static void a_short_array_starves_no_descriptor(int mechanism)
{
    enum {
        READY = 10,
        AT_ONCE = 3
    };
    int fds[READY];
    bool seen[READY] = {false};
    set_t set = set_open(mechanism, READY);
    for (int i = 0; i < READY; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC);
        CHECK_OK(fmux_add(set.mux, fds[i], EPOLLIN));
    }
    for (int round = 0; round < (READY + AT_ONCE - 1) / AT_ONCE; round++) {
        CHECK_EQ(AT_ONCE, fmux_wait(set.array.ready, -1, AT_ONCE));
        for (int i = 0; i < READY; i++)
            seen[i] |= array_has(&set.array, AT_ONCE, fds[i]);
    }
    for (int i = 0; i < READY; i++) {
        CHECK(seen[i]);
        close(fds[i]);
    }
    set_close(&set);
}

/* Removing leaves holes in the set of poll and select, which is compacted. */
static void many_rounds_of_adding_and_removing_keep_the_rest(int mechanism)
{
    enum {
        STAY = 10,
        PASSING = 150,
        ROUNDS = 30
    };
    int stay[STAY], passing[PASSING];
    set_t set = set_open(mechanism, STAY + PASSING);
    for (int i = 0; i < STAY; i++)
        stay[i] = eventfd(1, EFD_CLOEXEC);
    for (int i = 0; i < PASSING; i++)
        passing[i] = eventfd(1, EFD_CLOEXEC);
    for (int round = 0; round < ROUNDS; round++) {
        int half = 0;
        for (int i = 0; i < PASSING; i++) {
            CHECK_OK(fmux_add(set.mux, passing[i], EPOLLIN));
            if (round == 0 && i % 15 == 0)
                CHECK_OK(fmux_add(set.mux, stay[half++], EPOLLIN));
        }
        CHECK_EQ(STAY + PASSING, set_wait_now(&set));
        /* In another order each round. */
        for (int i = 0; i < PASSING; i++) {
            int which = (i * (2 * round + 7)) % (PASSING + 1);
            if (which < PASSING)
                (void)fmux_remove(set.mux, passing[which]);
            if (i % 50 == 25)
                CHECK(set_wait_now(&set) >= STAY);
        }
        for (int i = 0; i < PASSING; i++)
            (void)fmux_remove(set.mux, passing[i]);
        CHECK_EQ(STAY, set_wait_now(&set));
        for (int i = 0; i < STAY; i++)
            CHECK(array_has(&set.array, STAY, stay[i]));
        CHECK_OK(fmux_modify(set.mux, stay[round % STAY], 0));
        CHECK_EQ(STAY - 1, set_wait_now(&set));
        CHECK(!array_has(&set.array, STAY - 1, stay[round % STAY]));
        CHECK_OK(fmux_modify(set.mux, stay[round % STAY], EPOLLIN));
    }
    for (int i = 0; i < STAY; i++)
        close(stay[i]);
    for (int i = 0; i < PASSING; i++)
        close(passing[i]);
    set_close(&set);
}

/* ---- timeouts and wake-ups --------------------------------------------- */

static void a_timeout_is_never_early(int mechanism)
{
    const int64_t timeouts[] = {1, 100 * MICROSECOND, 2 * MILLISECOND};
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        for (int round = 0; round < 20; round++) {
            int64_t began_ns = now_ns();
            CHECK_EQ(0, fmux_wait(set.array.ready, timeouts[i], 4));
            int64_t took_ns = now_ns() - began_ns;
            CHECK(took_ns >= timeouts[i]);
            CHECK(took_ns < 2 * SECOND);
        }
    }
    set_close(&set);
    pipe_close(ends);
}

/* Install a seccomp filter that refuses epoll_pwait2 with an error, as a sandbox
 * does. Returns false where filters are not available. */
static bool refuse_epoll_pwait2(unsigned error)
{
    const unsigned number = 441;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static void wait_without_epoll_pwait2(void *argument)
{
    const unsigned *error = argument;
    if (!refuse_epoll_pwait2(*error))
        return;
    set_t set = set_open(FMUX_EPOLL, 4);
    for (int round = 0; round < 20; round++) {
        int64_t timeout_ns = 100 * MICROSECOND + round * MILLISECOND / 4;
        int64_t began_ns = now_ns();
        CHECK_EQ(0, fmux_wait(set.array.ready, timeout_ns, 4));
        CHECK(now_ns() - began_ns >= timeout_ns);
    }
    CHECK_EQ(0, fmux_wakeup(set.mux));
    CHECK_EQ(0, fmux_wait(set.array.ready, INT64_MAX, 4));
    CHECK_EQ(0, fmux_epoll_nanoseconds());
}

static void without_epoll_pwait2_a_timeout_is_never_early(int mechanism)
{
    unsigned errors[] = {ENOSYS, EPERM};
    (void)mechanism;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        in_a_child(wait_without_epoll_pwait2, &errors[i]);
}

static void a_timeout_of_zero_does_not_sleep(int mechanism)
{
    set_t set = set_open(mechanism, 4);
    int64_t began_ns = now_ns();
    for (int i = 0; i < 10; i++)
        CHECK_EQ(0, set_wait_now(&set));
    CHECK(now_ns() - began_ns < SECOND);
    set_close(&set);
}

static void a_wait_with_events_does_not_sleep(int mechanism)
{
    const int64_t timeouts[] = {-1, INT64_MIN, INT64_MAX, 60 * SECOND};
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[1], EPOLLOUT));
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++)
        CHECK_EQ(1, fmux_wait(set.array.ready, timeouts[i], 1));
    set_close(&set);
    pipe_close(ends);
}

static void a_wake_up_ends_the_next_wait_if_none_is_in_progress(int mechanism)
{
    const int64_t timeouts[] = {-1, INT64_MIN, INT64_MAX, 60 * SECOND, 0};
    set_t set = set_open(mechanism, 4);
    for (size_t i = 0; i < sizeof timeouts / sizeof *timeouts; i++) {
        CHECK_EQ(0, fmux_wakeup(set.mux));
        CHECK_EQ(0, fmux_wait(set.array.ready, timeouts[i], 4));
    }
    set_close(&set);
}

static void several_pending_wake_ups_count_as_one(int mechanism)
{
    set_t set = set_open(mechanism, 4);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(0, fmux_wakeup(set.mux));
    CHECK_EQ(0, array_wait(&set.array, -1));
    int64_t began_ns = now_ns();
    CHECK_EQ(0, fmux_wait(set.array.ready, 2 * MILLISECOND, 4));
    CHECK(now_ns() - began_ns >= 2 * MILLISECOND);
    set_close(&set);
}

static void a_wake_up_is_not_a_row_and_hides_none(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_OK(fmux_add(set.mux, ends[1], EPOLLOUT));
    for (int max_events = 1; max_events <= 4; max_events++) {
        CHECK_EQ(0, fmux_wakeup(set.mux));
        int rows = fmux_wait(set.array.ready, -1, max_events);
        CHECK(rows == 0 || rows == 1);
        if (rows == 0)
            rows = fmux_wait(set.array.ready, -1, max_events);
        CHECK_EQ(1, rows);
        CHECK_EQ(ends[1], array_fd(&set.array, 0));
    }
    set_close(&set);
    pipe_close(ends);
}

static void the_counters_count(int mechanism)
{
    int ends[2];
    fmux_stats_t stats;
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    array_t second = array_open(set.mux, 4, SHARED);
    CHECK_OK(fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_OK(fmux_add(set.mux, ends[1], EPOLLOUT));
    CHECK_OK(fmux_modify(set.mux, ends[1], EPOLLOUT)); /* the same mask */
    put(ends[1]);
    CHECK_EQ(2, set_wait_now(&set));
    CHECK_EQ(2, array_wait(&second, -1));
    fmux_ready_release(second.ready);
    CHECK_EQ(1, fmux_wait(second.ready, SECOND, 1));
    CHECK_OK(fmux_remove(set.mux, ends[0]));
    CHECK_OK(fmux_remove(set.mux, ends[1]));
    CHECK_EQ(-EBUSY, array_wait(&second, 0)); /* not counted */
    CHECK_EQ(0, fmux_wakeup(set.mux));
    CHECK_EQ(0, fmux_wakeup(set.mux));
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_EQ(0, set_wait_now(&set));
    array_close(&second); /* its counters stay */
    for (int closed = 0; closed < 2; closed++) {
        CHECK_EQ(0, fmux_stats(set.mux, &stats));
        CHECK_EQ(5, stats.waits);
        CHECK_EQ(5, stats.events);
        CHECK_EQ(0, stats.stale_events);
        CHECK_EQ(mechanism == FMUX_EPOLL ? 5 : 0, stats.control_calls);
        CHECK_EQ(1, stats.wakeups);
        CHECK_EQ(0, stats.interruptions);
        CHECK_EQ(0, stats.renewals);
        CHECK_EQ(0, fmux_close(set.mux));
    }
    set_close(&set);
    pipe_close(ends);
}

const test_t ready_tests[] = {
    TEST(an_event_is_reported_while_its_condition_holds, ON_ALL),
    TEST(only_events_in_the_mask_are_reported, ON_ALL),
    TEST(readable_and_writable_are_one_row, ON_ALL),
    TEST(a_hang_up_is_reported_without_a_request, ON_EPOLL | ON_POLL),
    TEST(select_reports_a_hang_up_as_readable, ON_SELECT),
#if defined(FMUX_NO_RDHUP)
    TEST(a_half_closed_peer_is_refused_outside_Linux, ON_POLL | ON_SELECT),
#else
    TEST(a_half_closed_peer_is_reported_on_request, ON_EPOLL | ON_POLL),
#endif
    TEST(urgent_data_is_reported_as_EPOLLPRI, ON_ALL),
    TEST(a_regular_file_is_always_ready, ON_COPIES),
    TEST(an_epoll_set_is_readable_to_another_set, ON_EPOLL),
    TEST(an_edge_is_reported_once_and_again_after_modify, ON_EPOLL),
    TEST(a_one_shot_is_disarmed_until_modify, ON_EPOLL),
    TEST(what_is_given_back_is_reported_again, ON_ALL),
    TEST(a_wake_up_that_is_given_back_ends_the_next_wait, ON_ALL),
    TEST(an_exclusive_registration_can_be_modified, ON_EPOLL),
    TEST(a_refused_modify_keeps_the_old_mask, ON_EPOLL),
    TEST(a_refused_modify_does_not_rearm_a_one_shot, ON_EPOLL),
    TEST(stale_events_are_dropped, ON_EPOLL),
    TEST(stale_events_hide_neither_events_nor_wake_ups, ON_EPOLL),
    TEST(a_file_that_has_its_old_number_again_can_be_added, ON_ALL),
    TEST(a_reused_number_is_a_new_registration, ON_ALL),
    TEST(a_closed_descriptor_is_dropped_or_reported, ON_ALL),
    TEST(descriptors_above_1024_can_be_watched, ON_ALL),
    TEST(three_thousand_descriptors_can_be_ready_at_once, ON_ALL),
    TEST(a_short_array_starves_no_descriptor, ON_ALL),
    TEST(many_rounds_of_adding_and_removing_keep_the_rest, ON_ALL),
    TEST(a_timeout_is_never_early, ON_ALL),
    TEST(without_epoll_pwait2_a_timeout_is_never_early, ON_EPOLL),
    TEST(a_timeout_of_zero_does_not_sleep, ON_ALL),
    TEST(a_wait_with_events_does_not_sleep, ON_ALL),
    TEST(a_wake_up_ends_the_next_wait_if_none_is_in_progress, ON_ALL),
    TEST(several_pending_wake_ups_count_as_one, ON_ALL),
    TEST(a_wake_up_is_not_a_row_and_hides_none, ON_ALL),
    TEST(the_counters_count, ON_ALL),
    {NULL, NULL, 0},
};
