/* world.h - what the fuzzer plays with: files under a few numbers, and what ought to
 * be ready among them. See world.c. */
#ifndef WORLD_H
#define WORLD_H

#include <stdbool.h>
#include <stdint.h>

/* Complain and end the process, which is how libFuzzer learns of it. */
#define REQUIRE(condition)                                  \
    do {                                                    \
        if (!(condition))                                   \
            require_failed(__FILE__, __LINE__, #condition); \
    } while (0)
_Noreturn void require_failed(const char *file, int line, const char *what);

/* Details for that: what was called last, and what came of it. */
void remember(const char *name, int64_t argument, int64_t result);

/* ---- the input ---------------------------------------------------------- */

void input_begin(const uint8_t *data, unsigned long size);
bool input_left(void);
unsigned input_byte(void);        /* 0 behind the end */
unsigned input_pick(unsigned n);  /* 0 to n - 1 */
int input_int(void);              /* any, the odd ones often */

/* ---- files --------------------------------------------------------------- */

enum { NUMBERS = 10 };

typedef enum {
    CLOSED,
    PIPE,
    STREAM,
    EVENTFD,
    REGULAR,
    SET,    /* an epoll set of the world's */
    MUX_SET /* one that belongs to a mux */
} kind_t;

typedef struct {
    kind_t kind;
    uint32_t serial; /* which open file: copies share it; 0: closed */
    bool kept;       /* it stays open elsewhere, too */
} file_t;

extern file_t files[NUMBERS];

/* The descriptor behind a place in files, and back (-1: not one of them). */
int number(unsigned place);
int place_of(int fd);

/* A descriptor for a call: mostly one of the files, or something impossible. */
int input_fd(void);

/* Have the two ends of something new under two numbers. */
void open_pair(unsigned place, unsigned other, kind_t kind);

/* Put fd, which is closed here, under a number. */
void put_under(unsigned place, int fd, kind_t kind, uint32_t serial);
uint32_t new_serial(void);

/* Do something with the files, as the input says. */
void do_something_with_files(void);

/* Called when a number is about to be closed or to become another file. */
extern void (*before_change)(unsigned place);

/* Whether it stays open when this number is closed; and have it so. */
bool has_copy(unsigned place);
void keep(unsigned place);

/* poll(2) without waiting, whatever signals there are. */
struct pollfd;
int poll_now(struct pollfd *records, unsigned length);

/* What poll(2) says of a number now, asked for these events. */
uint32_t ask(int fd, uint32_t events);

/* What select(2) would say: of EPOLLIN, EPOLLOUT and EPOLLPRI those asked for. */
uint32_t ask_as_select(int fd, uint32_t events);

void files_close(void);

/* Remember which low descriptors are open, and require it to be so again. */
void descriptors_begin(void);
void descriptors_end(void);

#endif
