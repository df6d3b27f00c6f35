/* lists.c - fmux_poll_list and fmux_select_list, on lists with any descriptors. */
#include "model.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum { MOST_ASKED = 96 };

/* Memory of the exact size, with junk in it. */
static void *junk(int count, size_t size)
{
    void *memory = malloc((size_t)count * size);
    REQUIRE(memory != NULL || count == 0);
    if (count > 0)
        memset(memory, (int)input_byte(), (size_t)count * size);
    return memory;
}

static struct pollfd *input_records(int length)
{
    struct pollfd *records = junk(length, sizeof *records);
    int different = 1 + (int)input_pick(12); /* then they repeat */
    for (int i = 0; i < length; i++) {
        if (i >= different) {
            records[i] = records[i - different];
            continue;
        }
        records[i].fd = input_fd();
        records[i].events = (short)(uint16_t)input_mask();
    }
    return records;
}

/* A long timeout, of several kinds, if the call ends by itself; else a short one. */
static int64_t input_timeout(bool ends)
{
    unsigned time = input_byte();
    if (!ends || time % 2 == 0)
        return time * 10;
    return time < 128 ? INT64_MIN + time : INT64_MAX - time;
}

void do_poll_list(void)
{
    int length = (int)input_pick(20);
    struct pollfd *records = input_records(length);
    struct pollfd expected[20];
    if (length > 0)
        memcpy(expected, records, (size_t)length * sizeof *expected);
    int found = poll_now(expected, (unsigned)length);
    int result = CALL(fmux_poll_list, length, records, length,
                      input_timeout(found > 0));
    if (result < 0) {
        REQUIRE(result == -fault_error || result == -EINTR);
    } else {
        REQUIRE(result == found);
        for (int i = 0; i < length; i++) {
            REQUIRE(records[i].fd == expected[i].fd);
            REQUIRE(records[i].events == expected[i].events);
            REQUIRE(records[i].revents == expected[i].revents);
        }
    }
    free(records);
}

void do_select_list(void)
{
    static const uint32_t asked[3] = {EPOLLIN, EPOLLOUT, EPOLLPRI};
    fmux_select_list_t list;
    int length = 0;
    for (int kind = 0; kind < 3; kind++)
        length += list.asked[kind] = (int)input_pick(MOST_ASKED / 3);
    list.records = input_records(length);
    list.places = junk(length, sizeof *list.places);

    const struct pollfd *record = list.records;
    int places[MOST_ASKED], found[3] = {0, 0, 0}, total = 0;
    bool bad = false;
    for (int kind = 0; kind < 3; kind++)
        for (int i = 0; i < list.asked[kind]; i++, record++) {
            int place = place_of(record->fd);
            bad = bad || place < 0 || files[place].kind == CLOSED;
            if (!bad && ask_as_select(record->fd, asked[kind]) != 0) {
                places[total++] = i;
                found[kind]++;
            }
        }
    int result = CALL(fmux_select_list, length, &list,
                      input_timeout(bad || total > 0));
    if (result < 0 && result != -EBADF) {
        REQUIRE(result == -fault_error || result == -EINTR);
    } else if (bad) {
        REQUIRE(result == -EBADF);
    } else {
        REQUIRE(result == total);
        REQUIRE(memcmp(found, list.found, sizeof found) == 0);
        REQUIRE(total == 0 || memcmp(places, list.places,
                                     (size_t)total * sizeof *places) == 0);
    }
    free(list.records);
    free(list.places);
}

void do_sizes(void)
{
    int capacity = input_int();
    int bytes = fmux_ready_bytes(capacity);
    REQUIRE(bytes == -EINVAL || bytes / 20 >= capacity);
    REQUIRE(capacity > 0 || bytes == -EINVAL);
    REQUIRE(fmux_epoll_nanoseconds() >> 1 == 0);
}
