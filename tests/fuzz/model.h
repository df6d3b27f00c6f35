/* model.h - the muxes and ready arrays of the fuzzer, and the expected state of each. */
#ifndef MODEL_H
#define MODEL_H

#include "fastmux.h"
#include "world.h"

enum { MUXES = 3,
       ARRAYS = 4,
       MOST_ROWS = 32 };

typedef enum { NO,
               PERHAPS,
               YES } answer_t;

typedef struct {
    bool watched;
    uint32_t mask;
    uint32_t serial; /* of the file at registration */
    bool disarmed;   /* a one-shot that was reported */
} entry_t;

typedef struct {
    fmux_t *mux; /* NULL: no such mux */
    int mechanism;
    bool freed; /* fmux_free was called; arrays keep the memory */
    bool closed;
    int arrays;
    entry_t entries[NUMBERS];
    int tags[NUMBERS];  /* tag + 1; 0: none */
    int tag_count;      /* tags assigned */
    answer_t woken;     /* a wake-up is pending */
    bool wakes_unknown; /* woken is not reliable any more */
    bool may_be_stale;  /* the epoll set may hold closed files behind dups */
} mux_t;

typedef struct {
    fmux_ready_t *ready; /* NULL: no such array */
    mux_t *mux;
    unsigned char *block; /* of the exact size */
    int capacity;
    bool shared;
    bool held; /* rows of a shared array are not released yet */
} array_t;

extern mux_t muxes[MUXES];
extern array_t arrays[ARRAYS];

static inline bool by_epoll(const mux_t *mux)
{
    return mux->mechanism == FMUX_EPOLL;
}

/* A mask of the input, without EPOLLWAKEUP, which affects the whole machine. */
uint32_t input_mask(void);

/* ---- faults ------------------------------------------------------------------ */

/* Choose a fault for the next call. */
void arm_a_fault(void);

/* Surround a call of the core. fault_error is the injected errno, or 0 if no fault
 * struck in the last call. */
extern int fault_error;
void begin_call(void);
int end_call(const char *name, int64_t argument, int result);
#define CALL(function, argument, ...) \
    (begin_call(),                    \
     end_call(#function, (argument), function(__VA_ARGS__)))

/* ---- operations on a mux, see mux.c -------------------------------------------- */

mux_t *input_mux(void); /* with a handle, or NULL */
void open_by(int mechanism);
void do_open(void);
void do_close(mux_t *mux);
void do_free(mux_t *mux);
void do_add(mux_t *mux);
void do_modify(mux_t *mux);
void do_remove(mux_t *mux);
void do_churn(mux_t *mux); /* many additions and removals */
void do_wakeup(mux_t *mux);
void do_fileno(mux_t *mux);
int expected_tag(const mux_t *mux, int place); /* of fmux_tag */
void do_settings(mux_t *mux);
void mux_forget(mux_t *mux); /* if neither handle nor array is left */

/* The events that a wait may report for a place now. *sure_out: it must report them,
 * if there is room. */
uint32_t expected_events(const mux_t *mux, unsigned place, bool *sure_out);

/* select: true if a watched descriptor was closed. */
bool has_dead_number(const mux_t *mux);

/* ---- operations on arrays and lists, see waits.c and lists.c ------------------- */

void open_array(mux_t *mux, int capacity, int bytes_less, unsigned offset,
                bool shared);
void do_array_open(void);
void do_array_free(void);
void do_array_release(void);
void do_wait(void);
void array_close(array_t *array);
void do_poll_list(void);
void do_select_list(void);
void do_sizes(void);

/* Wait once, with the capacity of the array as max_events. */
void wait_with(array_t *array, int64_t timeout_ns);

/* ---- forks and lost sets, see forks.c --------------------------------------------- */

extern bool may_fork; /* once per input: a fork is slow */
void do_more(mux_t *mux, unsigned what);

/* ---- a set without a mux, see sets.c --------------------------------------------- */

void do_set(void);
void set_close(void);

#endif
