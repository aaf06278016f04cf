#include "relayd/relay/deadline.h"

#include <stdlib.h>

struct relay_deadline {
    uv_timer_t timer;
    struct relay *relay; /* borrowed: it stops the deadline before it goes */
    void (*passed)(struct relay *relay);
};

static void deadline_fired(uv_timer_t *timer)
{
    struct relay_deadline *deadline = timer->data;
    deadline->passed(deadline->relay);
}

static void deadline_closed(uv_handle_t *handle)
{
    free(handle->data);
}

struct relay_deadline *relay_deadline_start(uv_loop_t *loop, struct relay *relay, uint32_t ms,
                                            void (*passed)(struct relay *relay))
{
    struct relay_deadline *deadline = malloc(sizeof(*deadline));
    if (deadline == NULL) {
        return NULL;
    }
    deadline->relay = relay;
    deadline->passed = passed;
    uv_timer_init(loop, &deadline->timer);
    deadline->timer.data = deadline;
    uv_timer_start(&deadline->timer, deadline_fired, ms, 0);
    return deadline;
}

void relay_deadline_stop(struct relay_deadline *deadline)
{
    if (deadline != NULL) {
        uv_close((uv_handle_t *)&deadline->timer, deadline_closed);
    }
}
