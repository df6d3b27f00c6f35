/* world.h - the files of the fuzzer: open files under a few numbers, and their
 * readiness according to poll(2). See world.c. */
#ifndef WORLD_H
#define WORLD_H

#include <stdbool.h>
#include <stdint.h>

/* Print the last calls and abort, which libFuzzer reports. */
#define REQUIRE(condition)                                  \
    do {                                                    \
        if (!(condition))                                   \
            require_failed(__FILE__, __LINE__, #condition); \
    } while (0)
_Noreturn void require_failed(const char *file, int line, const char *what);

/* Record a call for that report. */
void remember(const char *name, int64_t argument, int64_t result);

/* ---- the input ---------------------------------------------------------- */

void input_begin(const uint8_t *data, unsigned long size);
bool input_left(void);
unsigned input_byte(void);        /* 0 after the end */
unsigned input_pick(unsigned n);  /* 0 to n - 1 */
int input_int(void);              /* any, often a special one */

/* ---- files --------------------------------------------------------------- */

enum { NUMBERS = 10 };

typedef enum {
    CLOSED,
    PIPE,
    STREAM,
    EVENTFD,
    REGULAR,
    SET,    /* an epoll set of no mux */
    MUX_SET /* one that belongs to a mux */
} kind_t;

typedef struct {
    kind_t kind;
    uint32_t serial; /* of the open file, which dups share; 0: closed */
    bool kept;       /* also open under a number outside of files */
} file_t;

extern file_t files[NUMBERS];

/* The descriptor behind a place in files, and back (-1: not one of them). */
int number(unsigned place);
int place_of(int fd);

/* A descriptor for a call: usually one of the files, or an impossible one. */
int input_fd(void);

/* Open a pair of this kind under two numbers. */
void open_pair(unsigned place, unsigned other, kind_t kind);

/* Move fd to a number. */
void put_under(unsigned place, int fd, kind_t kind, uint32_t serial);
uint32_t new_serial(void);

/* Open, close, write to... a file of the input's choice. */
void do_something_with_files(void);

/* Called before a number is closed or replaced. */
extern void (*before_change)(unsigned place);

/* True if the file stays open when this number is closed. keep makes it so. */
bool has_copy(unsigned place);
void keep(unsigned place);

/* poll(2) with a timeout of 0, repeated after signals. */
struct pollfd;
int poll_now(struct pollfd *records, unsigned length);

/* The revents of poll(2) for a number now, with these events requested. */
uint32_t ask(int fd, uint32_t events);

/* The result of select(2): those of EPOLLIN, EPOLLOUT and EPOLLPRI in events. */
uint32_t ask_as_select(int fd, uint32_t events);

void files_close(void);

/* Record which low descriptors are open, and check for leaks. */
void descriptors_begin(void);
void descriptors_end(void);

#endif
