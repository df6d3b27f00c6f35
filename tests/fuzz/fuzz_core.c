/* fuzz_core.c - interprets any input as a program that calls all of csrc/fastmux.h and
 * changes files in between. Each result is compared with a model.
 *
 * It runs under libFuzzer, which searches for inputs that reach new code. replay.c
 * runs it on files, without libFuzzer. See run.sh.
 */
#include "model.h"

#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Limits per input, for speed: longer inputs find no more. */
enum { MOST_CALLS = 150,
       MOST_WAITS = 20 };

static void expect_stale(unsigned place)
{
    for (int i = 0; i < MUXES; i++)
        if (muxes[i].entries[place].watched && has_copy(place))
            muxes[i].may_be_stale = true;
}

static void prepare(void)
{
    static bool done;
    struct rlimit limit;
    if (done)
        return;
    done = true;
    signal(SIGPIPE, SIG_IGN);
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = 4096;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    before_change = expect_stale;
    fmux_t *first = NULL; /* opens a socket that stays open */
    if ((fmux_mechanisms() >> FMUX_EPOLL & 1) != 0)
        REQUIRE(fmux_open(FMUX_EPOLL, &first) == 0);
    if (first != NULL) {
        REQUIRE(fmux_wakeup(first) == 0);
        fmux_free(first);
    }
}

static void do_with_mux(unsigned what)
{
    mux_t *mux = input_mux();
    if (mux == NULL)
        return;
    switch (what) {
    case 0:
        do_close(mux);
        break;
    case 1:
        do_free(mux);
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        do_add(mux);
        break;
    case 6:
    case 7:
        do_modify(mux);
        break;
    case 8:
    case 9:
        do_remove(mux);
        break;
    case 10:
        do_wakeup(mux);
        break;
    case 11:
        do_churn(mux);
        break;
    case 12:
        do_settings(mux);
        break;
    default:
        do_fileno(mux);
        break;
    }
}

/* The setup of most inputs: a few files, some of them watched, a mux, two arrays. */
static void set_up(void)
{
    unsigned choice = input_byte();
    if (choice >= 224)
        return;
    open_pair(0, 1, STREAM);
    open_pair(2, 9, PIPE);
    open_by((int)choice % 4);
    open_array(&muxes[0], 8, 0, 0, true);
    open_array(&muxes[0], MOST_ROWS, 0, 4, choice >= 128);
    for (unsigned i = choice / 4 % 4; i > 0 && muxes[0].mux != NULL; i--)
        do_add(&muxes[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    prepare();
    descriptors_begin();
    input_begin(data, size);
    may_fork = true;
    set_up();
    int waits = 0;
    for (int calls = 0; calls < MOST_CALLS && input_left(); calls++) {
        unsigned what = input_pick(35);
        if (what < 14) {
            do_with_mux(what);
        } else if (what < 19) {
            if (waits++ < MOST_WAITS)
                do_wait();
        } else if (what < 24) {
            do_something_with_files();
        } else if (what < 27) {
            do_array_release();
        } else {
            static void (*const others[])(void) = {
                do_open,
                do_set,
                do_array_open,
                do_array_free,
                do_poll_list,
                do_select_list,
                arm_a_fault,
                do_sizes,
            };
            others[what - 27]();
        }
    }
    begin_call();
    (void)end_call("the end", 0, 0); /* disarms a fault */
    for (int i = 0; i < ARRAYS; i++)
        if (arrays[i].ready != NULL)
            array_close(&arrays[i]);
    for (int i = 0; i < MUXES; i++)
        if (muxes[i].mux != NULL)
            do_free(&muxes[i]);
    set_close();
    files_close();
    descriptors_end();
    return 0;
}
