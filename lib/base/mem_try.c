#include "mem_try.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unwind.h>

struct attempt {
    jmp_buf env;
    struct attempt *outer;
    struct _Unwind_Exception exception;
};

static _Thread_local struct attempt *innermost;

/* Also when an exception of the program's own (C++, from a callback) goes by. */
static void leave(struct attempt *t)
{
    innermost = t->outer;
}

/* Asked before each frame is unwound. */
static _Unwind_Reason_Code on_frame(int version, _Unwind_Action actions, _Unwind_Exception_Class class, struct _Unwind_Exception *x,
                                    struct _Unwind_Context *context, void *arg)
{
    struct attempt *t = arg;
    if (_Unwind_GetRegionStart(context) == (_Unwind_Ptr)(uintptr_t)mem_try)
        longjmp(t->env, 1);
    return _URC_NO_REASON;
}

bool mem_try(void (*fn)(void *arg), void *arg)
{
    __attribute__((cleanup(leave))) struct attempt t = {.outer = innermost};
    innermost = &t;
    if (setjmp(t.env))
        return false;
    fn(arg);
    return true;
}

void mem_unwind(void)
{
    if (innermost)
        _Unwind_ForcedUnwind(&innermost->exception, on_frame, innermost); /* returns only where the stack cannot be read */
}
