/* waits.c - ready arrays, and waits on them: in this thread or another, with time and
 * without, while others change the mux; and those that read. */
#include "model.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "faults.h"

array_t arrays[ARRAYS];

/* ---- arrays ------------------------------------------------------------------ */

void open_array(mux_t *mux, int capacity, int bytes_less, unsigned offset,
                bool shared)
{
    array_t *array = NULL;
    for (int i = 0; i < ARRAYS; i++)
        if (arrays[i].ready == NULL)
            array = &arrays[i];
    if (mux == NULL || mux->mux == NULL || array == NULL)
        return;
    int needed = fmux_ready_bytes(capacity);
    /* Not as much as INT_MAX rows would take. */
    int bytes = (needed > 0 && needed < 1 << 20 ? needed : 64) - bytes_less;
    *array = (array_t){.mux = mux, .capacity = capacity, .shared = shared};
    array->block = malloc((size_t)bytes + offset);
    REQUIRE(array->block != NULL);
    array->memory = array->block + offset;
    memset(array->memory, 0xff, (size_t)bytes);
    int result = CALL(fmux_ready_open, capacity, mux->mux, array->memory, bytes,
                      capacity, shared, &array->ready);
    if (needed < 0 || bytes < needed || offset % 4 != 0)
        REQUIRE(result == -EINVAL);
    else if (mux->closed)
        REQUIRE(result == -ESHUTDOWN || (fault_error && result == -fault_error));
    else
        REQUIRE(result == -fault_error);
    REQUIRE((array->ready != NULL) == (result == 0));
    if (result < 0) {
        free(array->block);
        return;
    }
    REQUIRE(array->memory[0] == 0);
    mux->arrays++;
}

void do_array_open(void)
{
    mux_t *mux = input_mux();
    unsigned size = input_byte(), where = input_byte(), cut = input_byte();
    open_array(mux, size < 224 ? 1 + (int)size % MOST_ROWS : input_int(),
               cut < 224 ? 0 : 1 + (int)cut % 32,
               where < 224 ? where % 4 * 4 : where % 16, where & 4);
}

static array_t *input_array(void)
{
    array_t *array = &arrays[input_pick(ARRAYS)];
    return array->ready == NULL ? NULL : array;
}

void array_close(array_t *array)
{
    fmux_ready_free(array->ready);
    array->ready = NULL;
    free(array->block);
    array->mux->arrays--;
    mux_forget(array->mux);
}

void do_array_free(void)
{
    array_t *array = input_array();
    if (array != NULL)
        array_close(array);
}

/* The reader has read; or something else stands there. */
void do_array_flag(void)
{
    array_t *array = input_array();
    unsigned value = input_byte();
    if (array != NULL)
        array->memory[0] = value < 200 ? 0 : (unsigned char)value;
}

static int32_t cell(const array_t *array, int column, int row)
{
    int32_t value;
    memcpy(&value, array->memory + 16 + 4 * (column * array->capacity + row), 4);
    return value;
}

/* ---- what others do meanwhile -------------------------------------------------- */

typedef struct {
    mux_t *mux;
    bool ran;
    int actions;
    bool wakes; /* at the end */
} scene_t;

static void meanwhile(void *argument)
{
    scene_t *scene = argument;
    scene->ran = true;
    for (int i = 0; i < scene->actions; i++) {
        switch (input_pick(6)) {
        case 0:
            do_add(scene->mux);
            break;
        case 1:
            do_modify(scene->mux);
            break;
        case 2:
            do_remove(scene->mux);
            break;
        case 3:
            do_wakeup(scene->mux);
            break;
        case 4:
            do_something_with_files();
            break;
        case 5:
            if (input_pick(4) == 0)
                do_close(scene->mux);
            break;
        default:
            break;
        }
    }
    if (scene->wakes)
        do_wakeup(scene->mux);
}

/* ---- one wait ------------------------------------------------------------------ */

typedef struct {
    array_t *array;
    unsigned form;
    int64_t timeout_ns;
    int max_events;
    bool elsewhere; /* in another thread */
    scene_t scene;
    int result;
    int error; /* what was made to fail */
    bool ends_by_itself; /* there is something to be reported, or a wake-up */
    answer_t woken;      /* a wake-up that it can answer */
    int64_t took_ns;
} wait_t;

enum { NOW,
       TRY,
       TRY_SOME,
       TIMED,
       FOREVER,
       FORMS };

static bool sure_to_end(const mux_t *mux)
{
    if (mux->woken == YES && !mux->doubtful_wakes)
        return true;
    for (unsigned place = 0; place < NUMBERS; place++) {
        bool sure;
        if (expected_events(mux, place, &sure) != 0 && sure)
            return true;
    }
    return mux->closed;
}

static int call_wait(wait_t *wait)
{
    fmux_ready_t *ready = wait->array->ready;
    switch (wait->form) {
    case NOW:
        return CALL(fmux_wait_now, wait->form, ready);
    case TRY:
        return CALL(fmux_wait_try, wait->form, ready);
    case TRY_SOME:
        return CALL(fmux_wait_try_some, wait->max_events, ready,
                    wait->max_events);
    case TIMED:
        return CALL(fmux_wait, wait->timeout_ns, ready, wait->timeout_ns,
                    wait->max_events);
    default:
        return CALL(fmux_wait_forever, wait->form, ready);
    }
}

static void *run_wait(void *argument)
{
    wait_t *wait = argument;
    if (wait->scene.actions > 0) {
        /* In place of a fault. */
        begin_call();
        (void)end_call("meanwhile", wait->scene.actions, 0);
        fault_meanwhile(FAULT_WAITING, meanwhile, &wait->scene);
    }
    int64_t began_ns = fmux_now_ns();
    wait->result = call_wait(wait);
    wait->took_ns = fmux_now_ns() - began_ns;
    wait->error = fault_error;
    (void)fault_disarm();
    return NULL;
}

/* What may be said instead of a number of rows. */
static bool is_expected_error(const wait_t *wait, unsigned char flag_before)
{
    const array_t *array = wait->array;
    const mux_t *mux = array->mux;
    bool takes_max = wait->form == TRY_SOME || wait->form == TIMED;
    switch (wait->result) {
    case -EINVAL: /* also: what was adopted is no epoll set */
        return is_bare(mux) ||
               (takes_max &&
                (wait->max_events < 1 || wait->max_events > array->capacity));
    case -EBUSY:
        return flag_before != 0 || (wait->elsewhere && !array->shared);
    case -ESHUTDOWN:
        return mux->closed;
    case -EAGAIN:
        return (wait->form == TRY || wait->form == TRY_SOME) &&
               (wait->woken != YES || mux->doubtful_wakes ||
                mux->haunted); /* ghosts may have taken all the room */
    case -EINTR: /* by a fault, libFuzzer's timer, or a ghost's report */
        return true;
    case -EBADF:
        return is_bare(mux) ||
               (mux->mechanism == FMUX_SELECT && has_dead_number(mux));
    default:
        return wait->error != 0 && wait->result == -wait->error;
    }
}

/* Check the rows; returns how many. */
static int check_rows(wait_t *wait)
{
    array_t *array = wait->array;
    mux_t *mux = array->mux;
    bool single = array->shared && wait->result > 0 && wait->result < FMUX_ROWS;
    int rows = wait->result;
    if (single)
        rows = 1;
    else if (array->shared && rows > 0)
        rows -= FMUX_ROWS;
    REQUIRE(rows <= array->capacity);
    REQUIRE(array->memory[0] == (array->shared && !single && rows > 0));
    if (single)
        REQUIRE(wait->result == cell(array, 0, 0));
    bool seen[NUMBERS] = {false};
    for (int row = 0; row < rows; row++) {
        int index = cell(array, 0, row), fd = cell(array, 1, row);
        uint32_t events = (uint32_t)cell(array, 2, row);
        REQUIRE(events != 0);
        uint32_t code = events == EPOLLIN                ? 1
                        : events == EPOLLOUT             ? 2
                        : events == (EPOLLIN | EPOLLOUT) ? 3
                                                         : 0;
        if (code == 0 || (unsigned)fd >= FMUX_UNKNOWN / 4)
            REQUIRE(index == FMUX_UNKNOWN);
        else
            REQUIRE(index == fd * 4 + (int)code);
        if (is_bare(mux))
            continue;
        int place = place_of(fd);
        REQUIRE(place >= 0);
        entry_t *entry = &mux->entries[place];
        REQUIRE(entry->watched);
        REQUIRE(!seen[place] || mux->haunted);
        seen[place] = true;
        if (!mux->haunted && files[place].kind < SET) {
            bool sure;
            uint32_t expected = expected_events(mux, (unsigned)place, &sure);
            REQUIRE((events & ~expected) == 0);
            REQUIRE(events == expected || wait->scene.ran);
        }
    }
    /* Nothing was left out for which there was room. */
    int most = wait->form == TRY_SOME || wait->form == TIMED ? wait->max_events
                                                             : array->capacity;
    REQUIRE(rows <= most);
    bool room = rows + (wait->woken != NO || mux->doubtful_wakes) < most;
    /* (What select was not asked for because of a dead number is not known.) */
    bool all = room && !wait->scene.ran && !wait->error &&
               !(mux->mechanism == FMUX_SELECT && has_dead_number(mux));
    for (unsigned place = 0; place < NUMBERS && !is_bare(mux); place++) {
        bool sure;
        uint32_t expected = expected_events(mux, place, &sure);
        if (all && sure && expected != 0)
            REQUIRE(seen[place]);
        if (seen[place] && by_epoll(mux) &&
            (mux->entries[place].mask & EPOLLONESHOT) != 0)
            mux->entries[place].disarmed = true;
    }
    return rows;
}

/* Returns how many rows it was, or something negative. */
static int check_wait(wait_t *wait, unsigned char flag_before)
{
    mux_t *mux = wait->array->mux;
    if (wait->scene.ran || wait->error != 0)
        mux->doubtful_wakes = true;
    if (wait->result < 0) {
        REQUIRE(is_expected_error(wait, flag_before));
        if (wait->result == -EAGAIN) {
            wait->result = 0;
            (void)check_rows(wait);
        }
        return -1;
    }
    REQUIRE(flag_before == 0);
    REQUIRE(is_bare(mux) || !mux->closed);
    int rows = check_rows(wait);
    bool may_sleep = wait->form == TIMED && wait->timeout_ns > 0;
    bool unasked = wait->woken == NO && !mux->doubtful_wakes;
    if (rows == 0 && unasked) {
        REQUIRE(wait->form != TRY && wait->form != TRY_SOME);
        REQUIRE(!may_sleep || wait->took_ns >= wait->timeout_ns);
        REQUIRE(!wait->ends_by_itself || wait->scene.ran || wait->error ||
                is_bare(mux));
    }
    mux->woken = rows == 0 || mux->woken == NO ? NO : PERHAPS;
    return rows;
}

static void make_wait(wait_t *wait)
{
    mux_t *mux = wait->array->mux;
    fmux_stats_t before, after;
    unsigned char flag_before = wait->array->memory[0];
    wait->ends_by_itself = sure_to_end(mux);
    wait->woken = mux->woken;
    /* Of a mux that is freed there is no handle any more. */
    bool counted = !mux->freed && fmux_stats(mux->mux, &before) == 0;
    if (wait->elsewhere) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, run_wait, wait) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
    } else {
        (void)run_wait(wait);
    }
    int rows = check_wait(wait, flag_before);
    if (counted && rows >= 0) {
        REQUIRE(fmux_stats(mux->mux, &after) == 0);
        REQUIRE(after.waits == before.waits + 1);
        REQUIRE(after.events == before.events + (unsigned)rows);
    }
}

void do_wait(void)
{
    static const int64_t times_ns[] = {0, 1, 1000, 20000, 300000};
    static const int64_t endless_ns[] = {-1, INT64_MIN, INT64_MAX, 1000000000};
    wait_t wait = {.array = input_array()};
    unsigned form = input_byte(), more = input_byte();
    if (wait.array == NULL) {
        REQUIRE(fmux_wait_now(NULL) == -EBUSY);
        REQUIRE(fmux_wait_try(NULL) == -EBUSY);
        REQUIRE(fmux_wait_try_some(NULL, input_int()) == -EBUSY);
        REQUIRE(fmux_wait(NULL, -1, input_int()) == -EBUSY);
        REQUIRE(fmux_wait_forever(NULL) == -EBUSY);
        return;
    }
    mux_t *mux = wait.array->mux;
    wait.form = form % FORMS;
    wait.max_events = more < 128 ? wait.array->capacity
                      : more < 224
                          ? 1 + (int)more % wait.array->capacity
                          : input_int();
    wait.elsewhere = form >= 240;
    wait.scene.mux = mux;
    if (form >= 80 && form < 160 && !mux->freed)
        wait.scene.actions = 1 + (int)more % 3;
    wait.scene.wakes = wait.scene.actions > 0 && !is_bare(mux) && more % 2;
    bool endless = !is_bare(mux) && (wait.scene.actions > 0 ? wait.scene.wakes
                                                            : sure_to_end(mux));
    if (wait.form == FOREVER && !endless)
        wait.form = NOW;
    if (wait.form == TIMED && endless && more % 4 == 1)
        wait.timeout_ns = endless_ns[more / 4 % 4];
    else if (wait.form == TIMED)
        wait.timeout_ns = times_ns[more % (sizeof times_ns / sizeof *times_ns)];
    make_wait(&wait);
    /* What is out of reach, but goes on being reported, leads to a new set. */
    for (int i = 0; i < 20 && form >= 220 && form < 240 && wait.form < TIMED &&
                    !wait.array->memory[0];
         i++)
        make_wait(&wait);
}

/* ---- waits that read --------------------------------------------------------------- */

void do_stream(void)
{
    array_t *array = input_array();
    unsigned enough = input_byte(), chunk = input_byte(), length = input_byte();
    if (array == NULL || !array->shared)
        return;
    const mux_t *mux = array->mux;
    size_t columns = (size_t)array->capacity * sizeof(int32_t);
    fmux_stream_t stream = {
        .ready = array->ready,
        .flags_length = length < 128 ? number(NUMBERS - 1) + 1 : (int)length,
        .enough = (int)enough,
        .chunk = (int)chunk + 1,
        .fds = malloc(columns),
        .lengths = malloc(columns),
        .waiting = malloc(columns),
    };
    size_t arena = (size_t)(stream.enough + stream.chunk);
    stream.arena = malloc(arena);
    stream.flags = malloc((size_t)stream.flags_length);
    memset(stream.flags, 0, (size_t)stream.flags_length);
    unsigned flagged = input_byte();
    for (int place = 0; place < NUMBERS; place++)
        if ((flagged >> place % 8 & 1) != 0 &&
            number((unsigned)place) < stream.flags_length)
            stream.flags[number((unsigned)place)] = (uint8_t)flagged;
    for (unsigned round = input_pick(4) + 1; round > 0; round--) {
        unsigned char flag_before = array->memory[0];
        int result = CALL(fmux_stream_wait, round, &stream, 0);
        if (result < 0) {
            REQUIRE(result == -fault_error || result == -EINTR || is_bare(mux) ||
                    (result == -EBUSY && flag_before != 0) ||
                    (result == -ESHUTDOWN && mux->closed) ||
                    (result == -EBADF && mux->mechanism == FMUX_SELECT &&
                     has_dead_number(mux)));
            break;
        }
        REQUIRE(array->memory[0] == flag_before);
        int rows = result % FMUX_OTHERS, others = result / FMUX_OTHERS;
        REQUIRE(rows <= array->capacity && others <= array->capacity);
        size_t used = 0;
        for (int row = 0; row < rows; row++) {
            int fd = stream.fds[row];
            REQUIRE(fd >= 0 && fd < stream.flags_length && stream.flags[fd]);
            REQUIRE(stream.lengths[row] <= stream.chunk);
            if (stream.lengths[row] > 0)
                used += (size_t)stream.lengths[row];
        }
        REQUIRE(used <= arena);
        for (int row = 0; row < others && !is_bare(mux); row++) {
            int place = place_of(cell(array, 1, row));
            REQUIRE(place >= 0 && mux->entries[place].watched);
        }
        for (int place = 0; place < NUMBERS; place++)
            if ((mux->entries[place].mask & EPOLLONESHOT) != 0)
                array->mux->haunted = true; /* reported or not: no telling */
    }
    array->mux->woken = array->mux->woken == NO ? NO : PERHAPS;
    if (fault_error != 0)
        array->mux->doubtful_wakes = true;
    free(stream.fds);
    free(stream.lengths);
    free(stream.waiting);
    free(stream.arena);
    free(stream.flags);
}
