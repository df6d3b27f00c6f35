/* contexts.c - the objects that a Poller or a selector shares with C. */
#include "interpreter.h"

/* The object, or NULL for None. */
static PyObject *fmux__present(fmux_object_t object)
{
    return fmux_borrow(object) == Py_None ? NULL : fmux_borrow(object);
}

fmux_object_t fmux_context(fmux_t *mux, fmux_object_t table, fmux_object_t keys,
                           fmux_object_t masks, fmux_object_t pairs,
                           fmux_object_t key_type)
{
    fmux_context_t content = {
        .mux = mux,
        .table = fmux__present(table),
        .keys = fmux__present(keys),
        .masks = fmux__present(masks),
        .pairs = fmux__present(pairs),
        .key_type = fmux__present(key_type),
    };
    return fmux_give(PyByteArray_FromStringAndSize((const char *)&content,
                                                   sizeof content));
}

void fmux_use_context(fmux_ready_t *ready, fmux_object_t context)
{
    fmux_ready_set_context(ready, fmux_borrow_context(context));
}

void fmux_hide(fmux_object_t object)
{
    if (PyObject_GC_IsTracked(fmux_borrow(object)))
        PyObject_GC_UnTrack(fmux_borrow(object));
}
