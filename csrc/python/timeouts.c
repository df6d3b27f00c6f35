/* timeouts.c - converts timeouts of Python to nanoseconds, rounded up; deadlines.
 *
 * Timeouts are rounded in three more places: _timeouts.py, for StdlibPoller and for
 * unusual types; turn.py, for the timers of the event loop; and fmux_milliseconds
 * in the core, where the kernel has no call with nanoseconds.
 */
#include "interpreter.h"

#define FMUX__MS INT64_C(1000000)
#define FMUX__SECOND INT64_C(1000000000)
/* The limit of the standard epoll and poll objects: milliseconds in an int. */
#define FMUX__INT_MS (INT32_MAX * FMUX__MS)
/* The limit of nanoseconds, with room for rounding up. */
#define FMUX__MOST (INT64_MAX - FMUX__SECOND)

const fmux_timeout_rule_t fmux_poller_rule = {FMUX__SECOND, 1, FMUX__MOST, 0};
const fmux_timeout_rule_t fmux_selector_rule = {FMUX__SECOND, 1, FMUX__INT_MS,
                                                0};
const fmux_timeout_rule_t fmux_epoll_rule = {FMUX__SECOND, FMUX__MS,
                                             FMUX__INT_MS, FMUX_UNUSUAL};
const fmux_timeout_rule_t fmux_poll_rule = {FMUX__MS, FMUX__MS, FMUX__INT_MS,
                                            FMUX_FOREVER};
const fmux_timeout_rule_t fmux_long_poll_rule = {FMUX__MS, FMUX__MS, FMUX__MOST,
                                                 FMUX_FOREVER};
const fmux_timeout_rule_t fmux_select_rule = {FMUX__SECOND, 1, FMUX__MOST,
                                              FMUX_UNUSUAL};

int64_t fmux_timeout(PyObject *timeout, const fmux_timeout_rule_t *rule)
{
    double ns;
    if (timeout == Py_None)
        return FMUX_FOREVER;
    if (PyFloat_CheckExact(timeout)) {
        ns = PyFloat_AsDouble(timeout) * (double)rule->unit_ns;
    } else if (PyLong_CheckExact(timeout)) {
        int overflow;
        long units = PyLong_AsLongAndOverflow(timeout, &overflow);
        if (overflow != 0)
            return FMUX_UNUSUAL;
        if (units == 0)
            return 0;
        ns = (double)units * (double)rule->unit_ns;
    } else {
        return FMUX_UNUSUAL;
    }
    if (!(ns <= (double)rule->most_ns && ns >= -(double)rule->most_ns))
        return FMUX_UNUSUAL; /* NaN, too */
    if (ns < 0)
        return rule->negative;
    int64_t whole_ns = (int64_t)ns;
    whole_ns += (double)whole_ns < ns;
    if (rule->step_ns == 1)
        return whole_ns;
    return (whole_ns + rule->step_ns - 1) / rule->step_ns * rule->step_ns;
}

int64_t fmux_time_left(fmux_deadline_t *deadline)
{
    if (deadline->timeout_ns <= 0)
        return deadline->timeout_ns;
    int64_t now_ns = fmux_now_ns();
    if (deadline->end_ns == 0) {
        /* A timeout that overflows the clock, after 292 years, is for ever. */
        if (deadline->timeout_ns > INT64_MAX - now_ns)
            deadline->timeout_ns = -1;
        else
            deadline->end_ns = now_ns + deadline->timeout_ns;
        return deadline->timeout_ns;
    }
    return deadline->end_ns > now_ns ? deadline->end_ns - now_ns : 0;
}
