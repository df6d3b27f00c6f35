/* mux.c - the calls on a mux, each compared with the model. */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "faults.h"

mux_t muxes[MUXES];

/* ---- faults ------------------------------------------------------------------ */

int fault_error;
static struct {
    int kinds, first, error;
} fault;

void arm_a_fault(void)
{
    static const struct {
        int kinds, error;
    } faults[] = {
        {FAULT_MEMORY, ENOMEM},
        {FAULT_MEMORY, ENOMEM},
        {FAULT_MUTEX, ENOMEM},
        {FAULT_EPOLL_CREATE, EMFILE},
        {FAULT_PIPE, EMFILE},
        {FAULT_PIPE, ENFILE},
        {FAULT_PIPE, ENOMEM},
        {FAULT_EPOLL_CTL, ENOSPC},
        {FAULT_EPOLL_CTL, ENOMEM},
        {FAULT_WAITING, EINTR},
        {FAULT_WAITING, ENOMEM},
        {FAULT_PPOLL, ENOSYS},
        {FAULT_RECV, ECONNRESET},
        {FAULT_RECV, EINTR},
    };
    unsigned choice = input_pick(sizeof faults / sizeof *faults);
    fault.kinds = faults[choice].kinds;
    fault.error = faults[choice].error;
    fault.first = (int)input_pick(3) + 1;
}

void begin_call(void)
{
    if (fault.kinds != 0)
        fault_arm(fault.kinds, fault.first, 1, fault.error);
}

int end_call(const char *name, int64_t argument, int result)
{
    fault_error = 0;
    if (fault.kinds != 0 && fault_disarm() > 0)
        fault_error = fault.error;
    fault.kinds = 0;
    remember(name, argument, result);
    return result;
}

/* ---- life cycle ---------------------------------------------------------------- */

mux_t *input_mux(void)
{
    mux_t *mux = &muxes[input_pick(MUXES)];
    return mux->mux == NULL || mux->freed ? NULL : mux;
}

static mux_t *free_place(void)
{
    for (int i = 0; i < MUXES; i++)
        if (muxes[i].mux == NULL)
            return &muxes[i];
    return NULL;
}

void open_by(int mechanism)
{
    mux_t *place = free_place();
    fmux_t *made = NULL;
    if (place == NULL)
        return;
    int result = CALL(fmux_open, mechanism, mechanism, &made);
    bool known = mechanism >= FMUX_EPOLL && mechanism <= FMUX_SELECT &&
                 (fmux_mechanisms() >> mechanism & 1) != 0;
    if (!known)
        REQUIRE(result == -EINVAL);
    else
        REQUIRE(result == -fault_error);
    REQUIRE((made != NULL) == (result == 0));
    if (result == 0)
        *place = (mux_t){.mux = made, .mechanism = mechanism};
}

void do_open(void)
{
    unsigned choice = input_pick(8);
    open_by(choice < 4 ? (int)choice : input_int());
}

/* The kernel never refuses a change of the wake-up socket. */
static void disarm(void)
{
    begin_call();
    (void)end_call("disarm", 0, 0);
}

void do_close(mux_t *mux)
{
    disarm();
    REQUIRE(CALL(fmux_close, mux - muxes, mux->mux) == 0);
    mux->closed = true;
}

void mux_forget(mux_t *mux)
{
    if (mux->freed && mux->arrays == 0)
        mux->mux = NULL;
}

void do_free(mux_t *mux)
{
    fmux_free(mux->mux);
    remember("fmux_free", mux - muxes, 0);
    mux->freed = mux->closed = true;
    mux_forget(mux);
}

/* ---- registrations ---------------------------------------------------------------- */

uint32_t input_mask(void)
{
    static const uint32_t masks[] = {
        EPOLLIN,
        EPOLLOUT,
        EPOLLIN | EPOLLOUT,
        0,
        EPOLLPRI,
        EPOLLIN | EPOLLRDHUP,
        0xffff,
        EPOLLIN | (uint32_t)EPOLLET,
        EPOLLIN | EPOLLOUT | (uint32_t)EPOLLET,
        EPOLLIN | EPOLLONESHOT,
        EPOLLOUT | EPOLLONESHOT | (uint32_t)EPOLLET,
        EPOLLIN | EPOLLEXCLUSIVE,
        EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT,
        UINT32_MAX,
    };
    enum { COUNT = sizeof masks / sizeof *masks };
    unsigned choice = input_byte();
    uint32_t mask = masks[choice % COUNT];
    if (choice >= 240)
        mask = (uint32_t)input_int();
    return mask & ~(uint32_t)EPOLLWAKEUP;
}

static bool impossible_mask(const mux_t *mux, uint32_t mask)
{
    const uint32_t beside_exclusive =
        EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | (uint32_t)EPOLLET;
    return by_epoll(mux) && (mask & EPOLLEXCLUSIVE) != 0 &&
           (mask & ~(beside_exclusive | EPOLLEXCLUSIVE)) != 0;
}

static bool is_error_of_epoll_ctl(int result)
{
    return result == -EBADF || result == -EEXIST || result == -EINVAL ||
           result == -ELOOP || result == -ENOENT || result == -EPERM ||
           result == -fault_error;
}

int expected_tag(const mux_t *mux, int place)
{
    return place < 0 || mux->tags[place] == 0 ? -ENOENT : mux->tags[place] - 1;
}

/* Check the tag after a call. Returns the result, or 0 in place of a tag. */
static int check_tag(mux_t *mux, int fd, int result)
{
    int place = place_of(fd);
    int tag = expected_tag(mux, place);
    if (result >= 0)
        REQUIRE(result == tag);
    REQUIRE(fmux_tag(mux->mux, fd) == tag);
    return result < 0 ? result : 0;
}

/* Assign a tag, at the first successful add of a place. */
static void make_tag(mux_t *mux, int place)
{
    if (mux->tags[place] == 0)
        mux->tags[place] = ++mux->tag_count;
}

void do_add(mux_t *mux)
{
    int fd = input_fd();
    uint32_t mask = input_mask();
    int place = place_of(fd);
    int result = CALL(fmux_add, fd, mux->mux, fd, mask);
    if (result >= 0 && place >= 0)
        make_tag(mux, place);
    result = check_tag(mux, fd, result);
    if (fd < 0 || mux->closed) {
        REQUIRE(result == -ESHUTDOWN || (fd < 0 && result == -EBADF));
    } else if (place < 0) {
        REQUIRE(result == -EBADF || (fault_error && result == -fault_error));
    } else if (mux->entries[place].watched) {
        REQUIRE(result == -EEXIST);
    } else if (files[place].kind == CLOSED) {
        REQUIRE(result == -EBADF || (fault_error && result == -fault_error));
    } else if (fault_error != 0) {
        /* -EEXIST: the delete of a stale registration failed. */
        REQUIRE(result == -fault_error || result == 0 ||
                (mux->may_be_stale && result == -EEXIST));
    } else if (by_epoll(mux) && files[place].kind == REGULAR) {
        REQUIRE(result == -EPERM);
    } else if (by_epoll(mux) && files[place].kind >= SET) {
        REQUIRE(result == 0 || result == -EINVAL || result == -ELOOP);
    } else {
        REQUIRE(result == (impossible_mask(mux, mask) ? -EINVAL : 0));
    }
    if (result == 0)
        mux->entries[place] = (entry_t){
            .watched = true, .mask = mask, .serial = files[place].serial};
}

static bool is_expected_of_modify(const mux_t *mux, int place, uint32_t mask,
                                  int result)
{
    const entry_t *entry = &mux->entries[place];
    if (fault_error != 0 && (result == -fault_error || result == -ENOENT))
        return true;
    if (!by_epoll(mux))
        return result == 0;
    if (impossible_mask(mux, mask))
        return result == -EINVAL;
    if (mux->may_be_stale || files[place].kind >= SET)
        return result == 0 || is_error_of_epoll_ctl(result);
    if (files[place].kind == CLOSED)
        return result == -EBADF;
    if (files[place].kind == REGULAR)
        return result == -EPERM;
    if (files[place].serial != entry->serial)
        return result == -ENOENT;
    return result == 0;
}

void do_modify(mux_t *mux)
{
    int fd = input_fd();
    uint32_t mask = input_mask();
    int place = place_of(fd);
    int result = CALL(fmux_modify, fd, mux->mux, fd, mask);
    result = check_tag(mux, fd, result);
    if (mux->closed) {
        REQUIRE(result == -ESHUTDOWN);
    } else if (place < 0 || !mux->entries[place].watched) {
        REQUIRE(result == -ENOENT);
    } else {
        entry_t *entry = &mux->entries[place];
        REQUIRE(is_expected_of_modify(mux, place, mask, result));
        if (result == -ENOENT || result == -EBADF || result == -EPERM) {
            entry->watched = false;
        } else if (fault_error != 0) {
            /* Deleted and added again, which re-arms it. */
            if (((mask | entry->mask) & EPOLLEXCLUSIVE) != 0)
                entry->disarmed = false;
        } else if (result == 0) {
            entry->mask = mask;
            entry->disarmed = false;
            if (mux->may_be_stale)
                entry->serial = files[place].serial;
        }
    }
}

void do_remove(mux_t *mux)
{
    int fd = input_fd();
    int place = place_of(fd);
    int result = CALL(fmux_remove, fd, mux->mux, fd);
    result = check_tag(mux, fd, result);
    if (mux->closed) {
        REQUIRE(result == -ESHUTDOWN);
    } else if (place < 0 || !mux->entries[place].watched) {
        REQUIRE(result == -ENOENT);
    } else {
        REQUIRE(result == 0);
        mux->entries[place].watched = false;
        if (fault_error != 0)
            mux->may_be_stale = true; /* the set still has it */
    }
}

void do_churn(mux_t *mux)
{
    unsigned place = input_pick(NUMBERS);
    if (mux->closed || mux->entries[place].watched ||
        files[place].kind == CLOSED || files[place].kind >= REGULAR)
        return;
    disarm();
    make_tag(mux, (int)place);
    int tag = expected_tag(mux, (int)place);
    for (int i = 0; i < 70; i++) {
        REQUIRE(fmux_add(mux->mux, number(place), EPOLLOUT) == tag);
        REQUIRE(fmux_remove(mux->mux, number(place)) == tag);
    }
}

/* ---- the rest ------------------------------------------------------------------------ */

void do_wakeup(mux_t *mux)
{
    disarm();
    int result = CALL(fmux_wakeup, mux - muxes, mux->mux);
    if (mux->closed) {
        REQUIRE(result == -ESHUTDOWN);
        return;
    }
    REQUIRE(result == 0);
    mux->woken = YES;
}

/* Duplicate the set to a number of the world, so that other sets can watch it. */
void do_fileno(mux_t *mux)
{
    unsigned place = input_pick(2 * NUMBERS);
    if (place >= 2 * NUMBERS - 6) {
        do_more(mux, place - (2 * NUMBERS - 6));
        return;
    }
    int result = CALL(fmux_fileno, mux - muxes, mux->mux);
    if (mux->closed)
        REQUIRE(result == -ESHUTDOWN);
    else if (!by_epoll(mux))
        REQUIRE(result == -EOPNOTSUPP);
    else
        REQUIRE(result >= 0);
    if (result >= 0 && by_epoll(mux) && place < NUMBERS) {
        put_under(place, fcntl(result, F_DUPFD_CLOEXEC, 0), MUX_SET,
                  new_serial());
        keep(place);
    }
}

void do_settings(mux_t *mux)
{
    fmux_stats_t stats;
    int result = CALL(fmux_set_shared, 0, mux->mux, input_int());
    REQUIRE(result == (mux->closed ? -ESHUTDOWN : 0));
    REQUIRE(fmux_stats(mux->mux, &stats) == 0);
    REQUIRE(stats.renewals == 0);
}

uint32_t expected_events(const mux_t *mux, unsigned place, bool *sure_out)
{
    const entry_t *entry = &mux->entries[place];
    const file_t *file = &files[place];
    *sure_out = entry->watched && file->kind < SET;
    if (!entry->watched)
        return 0;
    if (mux->mechanism == FMUX_SELECT)
        return ask_as_select(number(place), entry->mask);
    if (mux->mechanism == FMUX_POLL)
        return ask(number(place), entry->mask);
    if (mux->may_be_stale || (entry->mask & (uint32_t)(EPOLLET | EPOLLONESHOT)) != 0)
        *sure_out = false;
    if (entry->disarmed || (!mux->may_be_stale && file->serial != entry->serial))
        return 0;
    return ask(number(place), entry->mask);
}

bool has_dead_number(const mux_t *mux)
{
    for (unsigned place = 0; place < NUMBERS; place++)
        if (mux->entries[place].watched && files[place].kind == CLOSED &&
            (mux->entries[place].mask & (EPOLLIN | EPOLLOUT | EPOLLPRI)) != 0)
            return true;
    return false;
}
