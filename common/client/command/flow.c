#include "common/client/command/flow.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/client/command/opener.h"
#include "common/client/command/pump.h"
#include "common/client/net.h"

#define UNSENT_POLL_MS 20

enum state { ST_OPENING, ST_OPEN, ST_LINGERING, ST_ENDED };

struct flow {
    enum state state;
    struct loop *loop;
    const struct flow_ops *ops;
    void *user;
    struct opener opener;
    struct sockst_association *association;
    int in, out; /* local */
    int data;    /* borrowed from the association */
    int control; /* likewise; -1: the data travels in N1 itself */
    struct pump up, down;
    bool up_shut, down_shut; /* the end was passed on */
    bool control_closed;
    struct watch in_watch, out_watch, data_watch, control_watch;
    struct timer timer;
    uint64_t linger_end_ms;
};

static void stop_watching(struct flow *flow)
{
    loop_unwatch(flow->loop, &flow->in_watch);
    loop_unwatch(flow->loop, &flow->out_watch);
    loop_unwatch(flow->loop, &flow->data_watch);
    loop_unwatch(flow->loop, &flow->control_watch);
    loop_disarm(&flow->timer);
}

static void end(struct flow *flow, const struct sockst_failure *failure)
{
    struct flow_result result = {
        .complete = failure == NULL, .up_bytes = flow->up.moved, .down_bytes = flow->down.moved};
    if (failure != NULL)
        result.failure = *failure;
    stop_watching(flow);
    flow->state = ST_ENDED;
    flow->ops->ended(flow, &result, flow->user); /* may free the flow */
}

static void end_broken(struct flow *flow, enum sockst_error error, const char *what, int number)
{
    struct sockst_failure failure;
    if (number != 0)
        sockst_fail(&failure, error, "%s: %s", what, strerror(number));
    else
        sockst_fail(&failure, error, "%s", what);
    end(flow, &failure);
}

/* True if the flow has ended. */
static bool end_if_broken(struct flow *flow)
{
    const char *closed = "the server ended the association";
    if (flow->up.state == PUMP_E_IN)
        end_broken(flow, SOCKST_E_LOCAL, "input", flow->up.error);
    else if (flow->down.state == PUMP_E_OUT)
        end_broken(flow, SOCKST_E_LOCAL, "output", flow->down.error);
    else if (flow->up.state == PUMP_E_OUT)
        end_broken(flow, SOCKST_E_DATA, flow->control_closed ? closed : "connection broken",
                   flow->up.error);
    else if (flow->down.state == PUMP_E_IN)
        end_broken(flow, SOCKST_E_DATA, flow->control_closed ? closed : "connection broken",
                   flow->down.error);
    else
        return false;
    return true;
}

static void pass_end_down(struct flow *flow)
{
    if (flow->in == flow->out) {
        shutdown(flow->out, SHUT_WR);
        return;
    }
    if (shutdown(flow->out, SHUT_WR) < 0) {
        /* A pipe or file: its reader sees the end when the descriptor is closed. */
        loop_unwatch(flow->loop, &flow->out_watch);
        close(flow->out);
        flow->out = -1;
    }
}

static uint32_t wanted(const struct pump *pump, enum pump_state state, uint32_t event)
{
    return pump->state == state ? event : 0;
}

static int watch_wants(struct flow *flow)
{
    uint32_t in = wanted(&flow->up, PUMP_WANT_IN, EPOLLIN);
    uint32_t out = wanted(&flow->down, PUMP_WANT_OUT, EPOLLOUT);
    uint32_t data =
        wanted(&flow->up, PUMP_WANT_OUT, EPOLLOUT) | wanted(&flow->down, PUMP_WANT_IN, EPOLLIN);
    int error;
    if (flow->in == flow->out) {
        error = loop_watch(flow->loop, &flow->in_watch, flow->in, in | out);
    } else {
        error = loop_watch(flow->loop, &flow->in_watch, flow->in, in);
        if (error == 0)
            error = loop_watch(flow->loop, &flow->out_watch, flow->out, out);
    }
    if (error == 0)
        error = loop_watch(flow->loop, &flow->data_watch, flow->data, data);
    if (error == 0 && !flow->control_closed && flow->control >= 0)
        error = loop_watch(flow->loop, &flow->control_watch, flow->control, EPOLLIN);
    return error;
}

static bool has_unsent(const struct flow *flow)
{
    int unsent = 0;
    return ioctl(flow->data, SIOCOUTQ, &unsent) == 0 && unsent != 0;
}

/* Both directions have ended: true if the flow has, too. */
static bool end_or_linger(struct flow *flow)
{
    if (flow->control_closed || (flow->control < 0 && !has_unsent(flow))) {
        end(flow, NULL);
        return true;
    }
    flow->state = ST_LINGERING;
    flow->linger_end_ms = net_now_ms() + SOCKST_LINGER_MS;
    loop_arm(flow->loop, &flow->timer, flow->control < 0 ? UNSENT_POLL_MS : SOCKST_LINGER_MS);
    return false;
}

/* After pumping: passes ends on, looks for the end of it all, and waits for the next. The flow may
 * be gone afterwards. */
static void settle(struct flow *flow)
{
    if (end_if_broken(flow))
        return;
    if (flow->up.state == PUMP_DONE && !flow->up_shut) {
        flow->up_shut = true;
        shutdown(flow->data, SHUT_WR);
    }
    if (flow->down.state == PUMP_DONE && !flow->down_shut) {
        flow->down_shut = true;
        pass_end_down(flow);
    }
    if (flow->up_shut && flow->down_shut && end_or_linger(flow))
        return;
    int error = watch_wants(flow);
    if (error < 0)
        end_broken(flow, SOCKST_E_LOCAL, "epoll", -error);
}

static void run_pump(struct flow *flow, struct pump *pump)
{
    uint64_t before = pump->moved;
    pump_run(pump);
    /* After the end of N1 what is on its way may still come. */
    if (flow->control_closed && pump->moved != before)
        loop_arm(flow->loop, &flow->timer, SOCKST_LINGER_MS);
}

static void on_local(struct watch *watch, uint32_t events)
{
    struct flow *flow = watch->user;
    bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
    bool writes = watch == &flow->out_watch || flow->in == flow->out;
    if (watch == &flow->in_watch && flow->up.state == PUMP_WANT_IN &&
        (broken || (events & EPOLLIN) != 0))
        run_pump(flow, &flow->up);
    if (writes && flow->down.state == PUMP_WANT_OUT && (broken || (events & EPOLLOUT) != 0))
        run_pump(flow, &flow->down);
    settle(flow);
}

static void on_data(struct watch *watch, uint32_t events)
{
    struct flow *flow = watch->user;
    bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (flow->down.state == PUMP_WANT_IN && (broken || (events & EPOLLIN) != 0))
        run_pump(flow, &flow->down);
    if (flow->up.state == PUMP_WANT_OUT && (broken || (events & EPOLLOUT) != 0))
        run_pump(flow, &flow->up);
    settle(flow);
}

static void on_control(struct watch *watch, uint32_t events)
{
    struct flow *flow = watch->user;
    (void)events;
    if (sockst_association_is_alive(flow->association))
        return;
    loop_unwatch(flow->loop, &flow->control_watch);
    flow->control_closed = true;
    if (flow->state == ST_LINGERING)
        end(flow, NULL);
    else
        loop_arm(flow->loop, &flow->timer, SOCKST_LINGER_MS);
}

static void on_timer(struct timer *timer)
{
    struct flow *flow = timer->user;
    if (flow->state == ST_OPEN) {
        end_broken(flow, SOCKST_E_CLOSED, "the server ended the association", 0);
        return;
    }
    /* The server keeps N1, as it may; what the relay has acknowledged is its own to deliver. */
    if (has_unsent(flow) && flow->control < 0 && net_now_ms() < flow->linger_end_ms)
        loop_arm(flow->loop, timer, UNSENT_POLL_MS);
    else if (has_unsent(flow))
        end_broken(flow, SOCKST_E_DATA, "the relay did not take the end of the input", 0);
    else
        end(flow, NULL);
}

static void on_opened(struct opener *opener, struct sockst_association *association,
                      const struct sockst_failure *failure)
{
    struct flow *flow = opener->user;
    if (association == NULL) {
        end(flow, failure);
        return;
    }
    flow->association = association;
    flow->data = sockst_association_data_fd(association);
    flow->control = sockst_association_control_fd(association);
    if (pump_init(&flow->up, flow->in, flow->data) < 0 ||
        pump_init(&flow->down, flow->data, flow->out) < 0) {
        end_broken(flow, SOCKST_E_LOCAL, "buffers", ENOMEM);
        return;
    }
    flow->state = ST_OPEN;
    if (flow->ops->opened != NULL)
        flow->ops->opened(flow, association, flow->user);
    settle(flow);
}

static void on_bound(struct opener *opener, const struct endpoint *bound)
{
    struct flow *flow = opener->user;
    if (flow->ops->bound != NULL)
        flow->ops->bound(flow, bound, flow->user);
}

static struct flow *flow_new(struct loop *loop, int in, int out, const struct flow_ops *ops,
                             void *user)
{
    struct flow *flow = calloc(1, sizeof(*flow));
    if (flow == NULL)
        return NULL;
    *flow = (struct flow){.loop = loop, .ops = ops, .user = user, .in = in, .out = out};
    flow->data = flow->control = -1;
    flow->opener = (struct opener){.done = on_opened, .bound = on_bound, .user = flow};
    flow->in_watch = (struct watch){.ready = on_local, .user = flow};
    flow->out_watch = (struct watch){.ready = on_local, .user = flow};
    flow->data_watch = (struct watch){.ready = on_data, .user = flow};
    flow->control_watch = (struct watch){.ready = on_control, .user = flow};
    flow->timer = (struct timer){.fire = on_timer, .user = flow};
    return flow;
}

int flow_open(struct flow **out_flow, struct loop *loop, const struct sockst_options *options,
              uint32_t timeout_ms, int in, int out, const struct flow_ops *ops, void *user)
{
    struct flow *flow = flow_new(loop, in, out, ops, user);
    if (flow == NULL) {
        close(in);
        if (out != in)
            close(out);
        return -ENOMEM;
    }
    int error = opener_start(&flow->opener, loop, options, timeout_ms);
    if (error < 0) {
        flow_free(flow);
        return error;
    }
    *out_flow = flow;
    return 0;
}

/* What ended half-way must not look like a whole transfer, neither to the local program nor to the
 * target. */
static void reset_unfinished(const struct flow *flow)
{
    struct linger abort = {.l_onoff = 1, .l_linger = 0};
    if (flow->up_shut && flow->down_shut)
        return;
    setsockopt(flow->in, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
    if (flow->data >= 0)
        setsockopt(flow->data, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
}

void flow_free(struct flow *flow)
{
    if (flow == NULL)
        return;
    opener_cancel(&flow->opener);
    stop_watching(flow);
    reset_unfinished(flow);
    if (flow->out >= 0 && flow->out != flow->in)
        close(flow->out);
    close(flow->in);
    pump_free(&flow->up);
    pump_free(&flow->down);
    sockst_association_close(flow->association);
    free(flow);
}
