/* system.c - clocks. */
#include "internal.h"

#include <time.h>

int64_t fmux_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int fmux_milliseconds(int64_t timeout_ns, bool *cut_out)
{
    int64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    if (ms <= INT32_MAX)
        return (int)ms;
    *cut_out = true;
    return INT32_MAX;
}
