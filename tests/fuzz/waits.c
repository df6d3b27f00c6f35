/* waits.c - ready arrays and waits: in this thread or another, with and without a
 * timeout, with changes of the mux meanwhile. */
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
    /* Not gigabytes for a capacity near INT_MAX. */
    int bytes = (needed > 0 && needed < 1 << 20 ? needed : 64) - bytes_less;
    *array = (array_t){.mux = mux, .capacity = capacity, .shared = shared};
    array->block = malloc((size_t)bytes + offset);
    REQUIRE(array->block != NULL);
    memset(array->block, 0xff, (size_t)bytes + offset);
    int result = CALL(fmux_ready_open, capacity, mux->mux,
                      array->block + offset, bytes, capacity, shared,
                      &array->ready);
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
    REQUIRE(fmux_ready_rows(array->ready).capacity == capacity);
    REQUIRE(fmux_ready_rows(array->ready).context == NULL);
    fmux_ready_set_context(array->ready, array);
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

void do_array_release(void)
{
    array_t *array = input_array();
    if (array == NULL)
        return;
    fmux_ready_release(array->ready); /* a no-op if it is not held */
    array->held = false;
}

/* ---- changes during a wait ----------------------------------------------------- */

typedef struct {
    mux_t *mux;
    bool ran;
    int actions;
    bool wakes; /* as the last action */
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
    int error;           /* injected */
    bool ends_by_itself; /* an event or a wake-up is certain */
    answer_t woken;      /* a wake-up was pending */
    int64_t took_ns;
} wait_t;

enum { LOOK,
       TRY,
       TRY_SOME,
       TIMED,
       FOREVER,
       FORMS };

static bool tries(const wait_t *wait)
{
    return wait->form == TRY || wait->form == TRY_SOME;
}

static bool sure_to_end(const mux_t *mux)
{
    if (mux->woken == YES && !mux->wakes_unknown)
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
    if (tries(wait))
        return CALL(fmux_try, wait->max_events, ready, wait->max_events);
    return CALL(fmux_wait, wait->timeout_ns, ready, wait->timeout_ns,
                wait->max_events);
}

static void *run_wait(void *argument)
{
    wait_t *wait = argument;
    if (wait->scene.actions > 0) {
        /* Disarm a fault: the action takes its place. */
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

static bool is_expected_error(const wait_t *wait)
{
    const array_t *array = wait->array;
    const mux_t *mux = array->mux;
    switch (wait->result) {
    case -EINVAL:
        return wait->max_events < 1 || wait->max_events > array->capacity;
    case -EBUSY:
        return array->held || (wait->elsewhere && !array->shared);
    case -ESHUTDOWN:
        return mux->closed;
    case -EAGAIN:
        return tries(wait) &&
               (wait->woken != YES || mux->wakes_unknown ||
                mux->may_be_stale); /* stale events may have taken all the room */
    case -EINTR: /* a fault, libFuzzer's timer, or a stale event */
        return true;
    case -EBADF:
        return mux->mechanism == FMUX_SELECT && has_dead_number(mux);
    default:
        return wait->error != 0 && wait->result == -wait->error;
    }
}

/* Check one row. seen: the places of the rows before. */
static void check_row(const wait_t *wait, int row, bool seen[NUMBERS])
{
    const mux_t *mux = wait->array->mux;
    fmux_rows_t rows = fmux_ready_rows(wait->array->ready);
    uint32_t events = rows.events[row];
    REQUIRE(events != 0);
    int place = place_of(rows.fds[row]);
    REQUIRE(place >= 0);
    REQUIRE(rows.tags[row] >= 0);
    REQUIRE(rows.tags[row] == expected_tag(mux, place));
    REQUIRE(mux->entries[place].watched);
    REQUIRE(!seen[place] || mux->may_be_stale);
    seen[place] = true;
    if (!mux->may_be_stale && files[place].kind < SET) {
        bool sure;
        uint32_t expected = expected_events(mux, (unsigned)place, &sure);
        REQUIRE((events & ~expected) == 0);
        REQUIRE(events == expected || wait->scene.ran);
    }
}

static void check_rows(wait_t *wait, int rows)
{
    mux_t *mux = wait->array->mux;
    bool seen[NUMBERS] = {false};
    REQUIRE(rows <= wait->max_events);
    REQUIRE(fmux_ready_rows(wait->array->ready).context == wait->array);
    for (int row = 0; row < rows; row++)
        check_row(wait, row, seen);
    /* No event is missing if there was room for it. A dead number is an exception:
     * select fails, whatever else is ready. */
    bool room = rows + (wait->woken != NO || mux->wakes_unknown) <
                wait->max_events;
    bool all = room && !wait->scene.ran && !wait->error &&
               !(mux->mechanism == FMUX_SELECT && has_dead_number(mux));
    for (unsigned place = 0; place < NUMBERS; place++) {
        bool sure;
        uint32_t expected = expected_events(mux, place, &sure);
        if (all && sure && expected != 0)
            REQUIRE(seen[place]);
        if (seen[place] && by_epoll(mux) &&
            (mux->entries[place].mask & EPOLLONESHOT) != 0)
            mux->entries[place].disarmed = true;
    }
}

static void check_wait(wait_t *wait)
{
    array_t *array = wait->array;
    mux_t *mux = array->mux;
    int rows = wait->result;
    if (wait->scene.ran || wait->error != 0)
        mux->wakes_unknown = true;
    if (rows < 0) {
        REQUIRE(is_expected_error(wait));
        REQUIRE(!array->held || rows == -EBUSY || rows == -EINVAL ||
                rows == -ESHUTDOWN);
        if (rows == -EAGAIN)
            check_rows(wait, 0);
        return;
    }
    REQUIRE(!array->held);
    REQUIRE(!mux->closed);
    check_rows(wait, rows);
    array->held = array->shared && rows > 0;
    bool no_wake = wait->woken == NO && !mux->wakes_unknown;
    if (rows == 0 && no_wake) {
        REQUIRE(!tries(wait));
        REQUIRE(wait->timeout_ns >= 0 && wait->took_ns >= wait->timeout_ns);
        REQUIRE(!wait->ends_by_itself || wait->scene.ran || wait->error);
    }
    mux->woken = rows == 0 || mux->woken == NO ? NO : PERHAPS;
}

static void make_wait(wait_t *wait)
{
    mux_t *mux = wait->array->mux;
    fmux_stats_t before, after;
    wait->ends_by_itself = sure_to_end(mux);
    wait->woken = mux->woken;
    /* A freed mux has no handle for fmux_stats. */
    bool counted = !mux->freed && fmux_stats(mux->mux, &before) == 0;
    if (wait->elsewhere) {
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, run_wait, wait) == 0);
        REQUIRE(pthread_join(thread, NULL) == 0);
    } else {
        (void)run_wait(wait);
    }
    check_wait(wait);
    if (counted && wait->result >= 0) {
        REQUIRE(fmux_stats(mux->mux, &after) == 0);
        REQUIRE(after.waits == before.waits + 1);
        REQUIRE(after.events == before.events + (unsigned)wait->result);
        REQUIRE(after.wakeups <= before.wakeups + 1);
    }
}

void wait_with(array_t *array, int64_t timeout_ns)
{
    make_wait(&(wait_t){.array = array,
                        .form = timeout_ns == 0 ? LOOK : FOREVER,
                        .timeout_ns = timeout_ns,
                        .max_events = array->capacity,
                        .scene = {.mux = array->mux}});
}

void do_wait(void)
{
    static const int64_t times_ns[] = {0, 1, 1000, 20000, 300000};
    static const int64_t endless_ns[] = {-1, INT64_MIN, INT64_MAX, 1000000000};
    wait_t wait = {.array = input_array()};
    unsigned form = input_byte(), more = input_byte();
    if (wait.array == NULL)
        return;
    mux_t *mux = wait.array->mux;
    wait.form = form % FORMS;
    wait.max_events = more < 128 ? wait.array->capacity
                      : more < 224
                          ? 1 + (int)more % wait.array->capacity
                          : input_int();
    if (wait.form != TRY_SOME && wait.form != TIMED)
        wait.max_events = wait.array->capacity;
    wait.elsewhere = form >= 240;
    wait.scene.mux = mux;
    if (form >= 80 && form < 160 && !mux->freed)
        wait.scene.actions = 1 + (int)more % 3;
    wait.scene.wakes = wait.scene.actions > 0 && more % 2;
    bool endless =
        wait.scene.actions > 0 ? wait.scene.wakes : sure_to_end(mux);
    if (wait.form == FOREVER && endless)
        wait.timeout_ns = -1;
    if (wait.form == TIMED && endless && more % 4 == 1)
        wait.timeout_ns = endless_ns[more / 4 % 4];
    else if (wait.form == TIMED)
        wait.timeout_ns = times_ns[more % (sizeof times_ns / sizeof *times_ns)];
    make_wait(&wait);
}
