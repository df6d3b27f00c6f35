/* test_ready.c - what is reported as ready, when, and how often; time-outs and
 * wake-ups as one thread sees them. */
#include "harness.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A mux with a private array, for the tests below: all need one. */
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
    return fmux_wait_now(set->array.ready);
}

/* What a wait reports of fd, if that is all that it reports; else, 0. */
static uint32_t events_of(set_t *set, int fd)
{
    if (set_wait_now(set) != 1 || array_fd(&set->array, 0) != fd)
        return 0;
    return array_events(&set->array, 0);
}

/* ---- readiness --------------------------------------------------------- */

static void what_is_ready_is_reported_for_as_long_as_it_is(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(0, set_wait_now(&set));
    put(ends[1]);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    take(ends[0]);
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void only_what_the_mask_asks_for_is_reported(int mechanism)
{
    int ends[2];
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    set_t set = set_open(mechanism, 4);
    put(ends[1]);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], 0));
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLOUT));
    CHECK_EQ(EPOLLOUT, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLIN | EPOLLOUT));
    CHECK_EQ(EPOLLIN | EPOLLOUT, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], 0));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void both_events_together_have_the_code_3(int mechanism)
{
    int ends[2];
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    set_t set = set_open(mechanism, 4);
    put(ends[1]);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN | EPOLLOUT));
    CHECK_EQ(EPOLLIN | EPOLLOUT, events_of(&set, ends[0]));
    CHECK_EQ(ends[0] * 4 + 3, array_index(&set.array, 0));
    set_close(&set);
    pipe_close(ends);
}

static void a_hang_up_is_reported_unasked_and_has_no_index(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    put(ends[1]);
    close(ends[1]);
    CHECK_EQ(EPOLLIN | EPOLLHUP, events_of(&set, ends[0]));
    CHECK_EQ(FMUX_UNKNOWN, array_index(&set.array, 0));
    take(ends[0]);
    CHECK_EQ(EPOLLHUP, events_of(&set, ends[0]));
    CHECK_EQ(FMUX_UNKNOWN, array_index(&set.array, 0));
    set_close(&set);
    close(ends[0]);
}

static void select_reports_a_hang_up_as_readable(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    close(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    set_close(&set);
    close(ends[0]);
}

static void a_half_closed_peer_is_reported_if_asked_for(int mechanism)
{
    int ends[2];
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLRDHUP));
    CHECK_EQ(0, set_wait_now(&set));
    shutdown(ends[1], SHUT_WR);
    CHECK_EQ(EPOLLRDHUP, events_of(&set, ends[0]));
    set_close(&set);
    pipe_close(ends);
}

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
    CHECK_EQ(0, fmux_add(set.mux, server, EPOLLPRI));
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
    CHECK_EQ(0, fmux_add(set.mux, file, EPOLLIN));
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
    CHECK_EQ(0, fmux_add(inner.mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_add(outer.mux, fd, EPOLLIN));
    CHECK_EQ(0, set_wait_now(&outer));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&outer, fd));
    take(ends[0]);
    CHECK_EQ(0, set_wait_now(&outer));

    /* A wake-up is readable too, until a wait has answered it. */
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
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN | EPOLLET));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLIN | EPOLLET));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void a_one_shot_is_silent_until_modify_arms_it(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN | EPOLLONESHOT));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    put(ends[1]);
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_EQ(-EEXIST, fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLIN | EPOLLONESHOT));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void an_exclusive_registration_can_be_modified(int mechanism)
{
    int ends[2];
    CHECK_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
    set_t set = set_open(mechanism, 4);
    put(ends[1]);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN | EPOLLEXCLUSIVE));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLOUT | EPOLLEXCLUSIVE));
    CHECK_EQ(EPOLLOUT, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLOUT | EPOLLEXCLUSIVE));
    CHECK_EQ(EPOLLOUT, events_of(&set, ends[0]));

    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLOUT | EPOLLEXCLUSIVE));
    CHECK_EQ(EPOLLOUT, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_remove(set.mux, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void a_refused_modify_leaves_the_old_mask(int mechanism)
{
    const uint32_t impossible = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT;
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    put(ends[1]);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(-EINVAL, fmux_modify(set.mux, ends[0], impossible));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_modify(set.mux, ends[0], EPOLLIN | EPOLLEXCLUSIVE));
    CHECK_EQ(-EINVAL, fmux_modify(set.mux, ends[0], impossible));
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_remove(set.mux, ends[0]));
    set_close(&set);
    pipe_close(ends);
}

/* ---- closed and reused descriptors ------------------------------------- */

/* A dup keeps the file in the epoll set after its number is closed. */
static void a_refused_modify_does_not_arm_a_one_shot(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    put(ends[1]);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN | EPOLLONESHOT));
    CHECK_EQ(1, set_wait_now(&set));
    CHECK_EQ(-EINVAL, fmux_modify(set.mux, ends[0],
                                  EPOLLIN | EPOLLONESHOT | EPOLLEXCLUSIVE));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
    pipe_close(ends);
}

static void reports_of_a_removed_registration_are_dropped(int mechanism)
{
    int ends[2], others[2];
    pipe_open(ends);
    pipe_open(others);
    int copy = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_wait(set.array.ready, 1, 4)); /* it has all its descriptors */
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    put(ends[1]);
    close(ends[0]);
    CHECK_EQ(0, fmux_remove(set.mux, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    CHECK_EQ(-EINTR, fmux_wait(set.array.ready, SECOND, 4));
    CHECK_EQ(-EINTR, fmux_wait_forever(set.array.ready));

    /* Nor do they count for the next file of this number. */
    CHECK_EQ(ends[0], dup2(others[0], ends[0]));
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(0, set_wait_now(&set));
    put(others[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_remove(set.mux, ends[0]));
    set_close(&set);
    pipe_close(ends);
    pipe_close(others);
    close(copy);
}

static void a_file_that_is_back_under_its_number_can_be_added(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    int copy = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    close(ends[0]);
    CHECK_EQ(0, fmux_remove(set.mux, ends[0]));
    CHECK_EQ(ends[0], dup2(copy, ends[0]));
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    put(ends[1]);
    CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
    CHECK_EQ(0, fmux_remove(set.mux, ends[0]));
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
        CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
        CHECK_EQ(0, set_wait_now(&set));
        put(ends[1]);
        CHECK_EQ(EPOLLIN, events_of(&set, ends[0]));
        if (i % 2 == 0)
            CHECK_EQ(0, fmux_remove(set.mux, ends[0]));
        pipe_close(ends);
        if (i % 2 != 0)
            CHECK_EQ(0, fmux_remove(set.mux, ends[0]));
        CHECK_EQ(0, set_wait_now(&set));
    }
    set_close(&set);
}

static void a_watched_descriptor_that_was_closed_shows(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(0, set_wait_now(&set));
    pipe_close(ends);
    if (mechanism == FMUX_EPOLL)
        CHECK_EQ(0, set_wait_now(&set)); /* the kernel has dropped it */
    else if (mechanism == FMUX_POLL)
        CHECK_EQ(0x20 /* POLLNVAL */, events_of(&set, ends[0]));
    else
        CHECK_EQ(-EBADF, set_wait_now(&set));
    CHECK_EQ(0, fmux_remove(set.mux, ends[0]));
    CHECK_EQ(0, set_wait_now(&set));
    set_close(&set);
}

/* ---- many -------------------------------------------------------------- */

static void descriptors_above_1024_are_like_all_others(int mechanism)
{
    const int lowest[] = {1024, 1500, 5000};
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    for (size_t i = 0; i < sizeof lowest / sizeof *lowest; i++) {
        int fd = fcntl(ends[0], F_DUPFD_CLOEXEC, lowest[i]);
        CHECK(fd >= lowest[i]);
        CHECK_EQ(0, fmux_add(set.mux, fd, EPOLLIN));
        CHECK_EQ(0, set_wait_now(&set));
        put(ends[1]);
        CHECK_EQ(EPOLLIN, events_of(&set, fd));
        CHECK_EQ(fd * 4 + 1, array_index(&set.array, 0));
        take(ends[0]);
        CHECK_EQ(0, fmux_remove(set.mux, fd));
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
        CHECK_EQ(0, fmux_add(set.mux, fds[i], EPOLLIN));
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
        CHECK_EQ(0, fmux_remove(set.mux, fds[i]));
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

static void a_short_array_starves_nobody(int mechanism)
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
        CHECK_EQ(0, fmux_add(set.mux, fds[i], EPOLLIN));
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

/* Removing leaves holes in the set of poll and select, which close up. */
static void many_rounds_of_adding_and_removing_keep_the_rest(int mechanism)
{
    enum {
        STAY = 10,
        COME_AND_GO = 150,
        ROUNDS = 30
    };
    int stay[STAY], come_and_go[COME_AND_GO];
    set_t set = set_open(mechanism, STAY + COME_AND_GO);
    for (int i = 0; i < STAY; i++)
        stay[i] = eventfd(1, EFD_CLOEXEC);
    for (int i = 0; i < COME_AND_GO; i++)
        come_and_go[i] = eventfd(1, EFD_CLOEXEC);
    for (int round = 0; round < ROUNDS; round++) {
        int half = 0;
        for (int i = 0; i < COME_AND_GO; i++) {
            CHECK_EQ(0, fmux_add(set.mux, come_and_go[i], EPOLLIN));
            if (round == 0 && i % 15 == 0)
                CHECK_EQ(0, fmux_add(set.mux, stay[half++], EPOLLIN));
        }
        CHECK_EQ(STAY + COME_AND_GO, set_wait_now(&set));
        /* In an order that differs from round to round. */
        for (int i = 0; i < COME_AND_GO; i++) {
            int which = (i * (2 * round + 7)) % (COME_AND_GO + 1);
            if (which < COME_AND_GO)
                (void)fmux_remove(set.mux, come_and_go[which]);
            if (i % 50 == 25)
                CHECK(set_wait_now(&set) >= STAY);
        }
        for (int i = 0; i < COME_AND_GO; i++)
            (void)fmux_remove(set.mux, come_and_go[i]);
        CHECK_EQ(STAY, set_wait_now(&set));
        for (int i = 0; i < STAY; i++)
            CHECK(array_has(&set.array, STAY, stay[i]));
        CHECK_EQ(0, fmux_modify(set.mux, stay[round % STAY], 0));
        CHECK_EQ(STAY - 1, set_wait_now(&set));
        CHECK(!array_has(&set.array, STAY - 1, stay[round % STAY]));
        CHECK_EQ(0, fmux_modify(set.mux, stay[round % STAY], EPOLLIN));
    }
    for (int i = 0; i < STAY; i++)
        close(stay[i]);
    for (int i = 0; i < COME_AND_GO; i++)
        close(come_and_go[i]);
    set_close(&set);
}

/* ---- time-outs and wake-ups -------------------------------------------- */

static void what_has_come_and_gone_does_not_count_as_much_to_look_at(int mechanism)
{
    int ends[2], other[2];
    pipe_open(ends);
    pipe_open(other);
    put(ends[1]);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
    CHECK_EQ(0, fmux_add(set.mux, other[0], EPOLLIN));
    for (int round = 0; round < 200; round++) {
        CHECK_EQ(0, fmux_add(set.mux, ends[1], EPOLLOUT));
        CHECK_EQ(0, fmux_remove(set.mux, ends[1]));
        CHECK_EQ(1, fmux_wait_try(set.array.ready));
    }
    set_close(&set);
    pipe_close(ends);
    pipe_close(other);
}

static void a_time_out_is_never_early(int mechanism)
{
    const int64_t timeouts[] = {1, 100 * MICROSECOND, 2 * MILLISECOND};
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[0], EPOLLIN));
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

/* Have epoll_pwait2 fail with error in this process, as in a sandbox. Returns
 * whether it does. */
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

/* What the child process below exits with: how many waits went wrong. */
static int wait_without_epoll_pwait2(unsigned error)
{
    int wrong = 0;
    if (!refuse_epoll_pwait2(error))
        return 0; /* no such filters here: nothing to find out */
    set_t set = set_open(FMUX_EPOLL, 4);
    set_t other = set_open(FMUX_EPOLL, 4);
    for (int round = 0; round < 20; round++) {
        int64_t timeout_ns = 100 * MICROSECOND + round * MILLISECOND / 4;
        int64_t began_ns = now_ns();
        wrong += fmux_wait(set.array.ready, timeout_ns, 4) != 0;
        wrong += now_ns() - began_ns < timeout_ns;
    }
    wrong += fmux_wakeup(set.mux) != 0;
    wrong += fmux_wait(set.array.ready, INT64_MAX, 4) != 0;
    wrong += fmux_epoll_nanoseconds() != 0;
    use_up_descriptors(); /* none for a wake-up: the wait is one of many */
    wrong += fmux_wait(other.array.ready, SECOND, 4) != -EINTR;
    return wrong;
}

static void without_epoll_pwait2_a_time_out_is_not_early_either(int mechanism)
{
    const unsigned errors[] = {ENOSYS, EPERM};
    (void)mechanism;
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(wait_without_epoll_pwait2(errors[i]));
        int status = -1;
        CHECK_EQ(child, waitpid(child, &status, 0));
        CHECK_EQ(0, status);
    }
}

static void no_time_is_no_wait(int mechanism)
{
    set_t set = set_open(mechanism, 4);
    int64_t began_ns = now_ns();
    CHECK_EQ(0, fmux_wait(set.array.ready, 0, 4));
    CHECK_EQ(0, fmux_wait_now(set.array.ready));
    CHECK(now_ns() - began_ns < SECOND);
    set_close(&set);
}

static void a_wait_with_events_does_not_last(int mechanism)
{
    const int64_t timeouts[] = {-1, INT64_MIN, INT64_MAX, 60 * SECOND};
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[1], EPOLLOUT));
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

static void several_unanswered_wake_ups_count_as_one(int mechanism)
{
    set_t set = set_open(mechanism, 4);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(0, fmux_wakeup(set.mux));
    CHECK_EQ(0, fmux_wait_forever(set.array.ready));
    int64_t began_ns = now_ns();
    CHECK_EQ(0, fmux_wait(set.array.ready, 2 * MILLISECOND, 4));
    CHECK(now_ns() - began_ns >= 2 * MILLISECOND);
    set_close(&set);
}

static void a_wake_up_is_no_row_and_hides_none(int mechanism)
{
    int ends[2];
    pipe_open(ends);
    set_t set = set_open(mechanism, 4);
    CHECK_EQ(0, fmux_add(set.mux, ends[1], EPOLLOUT));
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

const test_t ready_tests[] = {
    TEST(what_is_ready_is_reported_for_as_long_as_it_is, ON_ALL),
    TEST(only_what_the_mask_asks_for_is_reported, ON_ALL),
    TEST(both_events_together_have_the_code_3, ON_ALL),
    TEST(a_hang_up_is_reported_unasked_and_has_no_index, ON_EPOLL | ON_POLL),
    TEST(select_reports_a_hang_up_as_readable, ON_SELECT),
    TEST(a_half_closed_peer_is_reported_if_asked_for, ON_EPOLL | ON_POLL),
    TEST(urgent_data_is_reported_as_EPOLLPRI, ON_ALL),
    TEST(a_regular_file_is_always_ready, ON_COPIES),
    TEST(an_epoll_set_is_readable_to_another_set, ON_EPOLL),
    TEST(an_edge_is_reported_once_and_again_after_modify, ON_EPOLL),
    TEST(a_one_shot_is_silent_until_modify_arms_it, ON_EPOLL),
    TEST(an_exclusive_registration_can_be_modified, ON_EPOLL),
    TEST(a_refused_modify_leaves_the_old_mask, ON_EPOLL),
    TEST(a_refused_modify_does_not_arm_a_one_shot, ON_EPOLL),
    TEST(reports_of_a_removed_registration_are_dropped, ON_EPOLL),
    TEST(a_file_that_is_back_under_its_number_can_be_added, ON_ALL),
    TEST(a_reused_number_is_a_new_registration, ON_ALL),
    TEST(a_watched_descriptor_that_was_closed_shows, ON_ALL),
    TEST(descriptors_above_1024_are_like_all_others, ON_ALL),
    TEST(three_thousand_descriptors_can_be_ready_at_once, ON_ALL),
    TEST(a_short_array_starves_nobody, ON_ALL),
    TEST(many_rounds_of_adding_and_removing_keep_the_rest, ON_ALL),
    TEST(what_has_come_and_gone_does_not_count_as_much_to_look_at, ON_ALL),
    TEST(a_time_out_is_never_early, ON_ALL),
    TEST(without_epoll_pwait2_a_time_out_is_not_early_either, ON_EPOLL),
    TEST(no_time_is_no_wait, ON_ALL),
    TEST(a_wait_with_events_does_not_last, ON_ALL),
    TEST(a_wake_up_ends_the_next_wait_if_none_is_in_progress, ON_ALL),
    TEST(several_unanswered_wake_ups_count_as_one, ON_ALL),
    TEST(a_wake_up_is_no_row_and_hides_none, ON_ALL),
    {NULL, NULL, 0},
};
