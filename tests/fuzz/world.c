/* world.c - files under a few numbers: pipes, sockets, eventfds, regular files, epoll
 * sets. They are written to, read from, shut down, closed while a mux watches them,
 * duplicated, and replaced. */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- failures ------------------------------------------------------------ */

enum { REMEMBERED = 60 };

static struct {
    const char *name;
    int64_t argument, result;
} history[REMEMBERED];
static unsigned calls;

void remember(const char *name, int64_t argument, int64_t result)
{
    history[calls % REMEMBERED].name = name;
    history[calls % REMEMBERED].argument = argument;
    history[calls++ % REMEMBERED].result = result;
}

_Noreturn void require_failed(const char *file, int line, const char *what)
{
    for (unsigned i = calls < REMEMBERED ? 0 : calls - REMEMBERED; i < calls; i++)
        fprintf(stderr, "  %s(%lld) = %lld\n", history[i % REMEMBERED].name,
                (long long)history[i % REMEMBERED].argument,
                (long long)history[i % REMEMBERED].result);
    fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
    abort();
}

/* ---- the input ---------------------------------------------------------- */

static const uint8_t *input;
static unsigned long input_length;

void input_begin(const uint8_t *data, unsigned long size)
{
    input = data;
    input_length = size;
    calls = 0;
}

bool input_left(void)
{
    return input_length > 0;
}

unsigned input_byte(void)
{
    if (input_length == 0)
        return 0;
    input_length--;
    return *input++;
}

unsigned input_pick(unsigned n)
{
    return input_byte() % n;
}

int input_int(void)
{
    static const int special[] = {0, 1, -1, 2, 3,
                                  INT_MAX, INT_MIN, INT_MAX - 1, 1 << 20, 5000};
    unsigned choice = input_byte();
    if (choice < 128)
        return special[choice % (sizeof special / sizeof *special)];
    unsigned value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 8 | input_byte();
    return (int)value;
}

/* ---- files --------------------------------------------------------------- */

file_t files[NUMBERS];
void (*before_change)(unsigned place);

/* Higher than any descriptor that the core and the libraries open; the last ones in
 * other chunks of the table, and beyond FD_SETSIZE. */
static const int numbers[NUMBERS] = {200, 201, 202, 203, 204,
                                     205, 206, 255, 700, 2100};

int number(unsigned place)
{
    return numbers[place];
}

int place_of(int fd)
{
    for (int place = 0; place < NUMBERS; place++)
        if (numbers[place] == fd)
            return place;
    return -1;
}

int input_fd(void)
{
    /* None of these is open: the descriptors of the core are lower. */
    static const int impossible[] = {-1, INT_MIN, INT_MAX, 1 << 20, 5000, 199};
    unsigned choice = input_byte();
    if (choice < 240)
        return numbers[choice % NUMBERS];
    return impossible[choice % (sizeof impossible / sizeof *impossible)];
}

uint32_t new_serial(void)
{
    static uint32_t last;
    if (++last == 0)
        last = 1;
    return last;
}

static void change(unsigned place, kind_t kind, uint32_t serial)
{
    if (files[place].kind != CLOSED)
        before_change(place);
    files[place] = (file_t){.kind = kind, .serial = serial};
}

void put_under(unsigned place, int fd, kind_t kind, uint32_t serial)
{
    REQUIRE(fd >= 0);
    change(place, kind, serial);
    REQUIRE(dup3(fd, numbers[place], O_CLOEXEC) == numbers[place]);
    close(fd);
}

static void close_number(unsigned place)
{
    if (files[place].kind == CLOSED)
        return;
    change(place, CLOSED, 0);
    close(numbers[place]);
}

bool has_copy(unsigned place)
{
    for (unsigned other = 0; other < NUMBERS; other++)
        if (other != place && files[other].serial == files[place].serial)
            return true;
    return files[place].kept;
}

void keep(unsigned place)
{
    for (unsigned other = 0; other < NUMBERS; other++)
        if (files[other].serial == files[place].serial)
            files[other].kept = true;
}

void open_pair(unsigned place, unsigned other, kind_t kind)
{
    int ends[2];
    if (place == other)
        return;
    if (kind == PIPE)
        REQUIRE(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    else
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                           0, ends) == 0);
    put_under(place, ends[0], kind, new_serial());
    put_under(other, ends[1], kind, new_serial());
}

static void fill(int fd)
{
    static const char bytes[4096];
    for (int i = 0; i < 100 && write(fd, bytes, sizeof bytes) > 0; i++)
        ;
}

void do_something_with_files(void)
{
    static char bytes[4096];
    unsigned what = input_pick(14);
    unsigned place = input_pick(NUMBERS), other = input_pick(NUMBERS);
    int fd = numbers[place];
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
    remember("file", (int64_t)what * 100 + place * 10 + other, 0);
    switch (what) {
    case 0:
        open_pair(place, other, PIPE);
        break;
    case 1:
        open_pair(place, other, STREAM);
        break;
    case 2:
        put_under(place, eventfd(other % 2, EFD_CLOEXEC | EFD_NONBLOCK),
                  EVENTFD, new_serial());
        break;
    case 3:
        put_under(place, memfd_create("file", MFD_CLOEXEC), REGULAR,
                  new_serial());
        break;
    case 4:
        put_under(place, epoll_create1(EPOLL_CLOEXEC), SET, new_serial());
        (void)epoll_ctl(fd, EPOLL_CTL_ADD, numbers[other], &event);
        break;
    case 5:
    case 6:
        close_number(place);
        break;
    case 7: /* a dup, which replaces the file under the other number */
        if (files[place].kind != CLOSED && place != other) {
            put_under(other, fcntl(fd, F_DUPFD_CLOEXEC, 0), files[place].kind,
                      files[place].serial);
            files[other].kept = files[place].kept;
        }
        break;
    case 8:
    case 9:
        (void)!write(fd, "12345678", 8);
        break;
    case 10:
        (void)!read(fd, bytes, sizeof bytes);
        break;
    case 11:
        if (files[place].kind == PIPE || files[place].kind == STREAM)
            fill(fd);
        break;
    case 12:
        (void)shutdown(fd, (int)other % 3);
        break;
    case 13:
        (void)send(fd, "!", 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    default:
        break;
    }
}

int poll_now(struct pollfd *records, unsigned length)
{
    int n;
    do
        n = poll(records, length, 0);
    while (n < 0 && errno == EINTR); /* libFuzzer's timer */
    REQUIRE(n >= 0);
    return n;
}

uint32_t ask(int fd, uint32_t events)
{
    struct pollfd record = {.fd = fd, .events = (short)(uint16_t)events};
    (void)poll_now(&record, 1);
    return (uint16_t)record.revents;
}

uint32_t ask_as_select(int fd, uint32_t events)
{
    const uint32_t in = POLLIN | POLLRDNORM | POLLRDBAND;
    const uint32_t out = POLLOUT | POLLWRNORM | POLLWRBAND;
    uint32_t said = ask(fd, in | out | POLLPRI);
    uint32_t found = 0;
    if (said & (in | POLLHUP | POLLERR))
        found |= EPOLLIN;
    if (said & (out | POLLERR))
        found |= EPOLLOUT;
    if (said & POLLPRI)
        found |= EPOLLPRI;
    return found & events;
}

void files_close(void)
{
    for (unsigned place = 0; place < NUMBERS; place++)
        close_number(place);
}

/* ---- descriptors ------------------------------------------------------------ */

enum { LOW = 128 };

static struct pollfd low_before[LOW];

static void look_at_low(struct pollfd records[LOW])
{
    for (int fd = 0; fd < LOW; fd++)
        records[fd] = (struct pollfd){.fd = fd};
    (void)poll_now(records, LOW);
}

void descriptors_begin(void)
{
    /* Grow the descriptor table of the kernel: select(2) ignores numbers beyond it. */
    static bool done;
    if (!done)
        close(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, numbers[NUMBERS - 1]));
    done = true;
    look_at_low(low_before);
}

void descriptors_end(void)
{
    struct pollfd now[LOW];
    look_at_low(now);
    for (int fd = 0; fd < LOW; fd++)
        REQUIRE((now[fd].revents & POLLNVAL) ==
                (low_before[fd].revents & POLLNVAL));
}
