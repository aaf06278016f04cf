#include "socksd/access_log.h"

#include <stdio.h>

#include "common/log/log.h"
#include "proto/ptcl.h"
#include "socksd/session_fsm.h"

void access_log_relay(const struct session *session, const struct n2_relay_closed *closed,
                      enum n2_reason reason)
{
    static const struct n2_counters none;
    const struct n2_counters *counters = closed ? &closed->counters : &none;
    char relay[N2_LABEL_MAX + 24], ptcl[9];
    const uint64_t duration_ms =
        closed ? closed->duration_ms : uv_now(session->set->loop) - session->opened_ms;

    snprintf(relay, sizeof(relay), "%s:%llu", session->instance,
             (unsigned long long)session->relay);
    LOG(LOG_LEVEL_INFO, "access", LOG_S("relay", relay), LOG_U("session", session->id),
        LOG_E("client", &session->peer), LOG_S("command", n1_command_name(session->command)),
        LOG_S("ptcl", ptcl_format(session->ptcl, ptcl)), LOG_E("source", &session->source),
        LOG_E("destination", &session->destination), LOG_S("name", session->name),
        LOG_E("bound", &session->bound), LOG_E("egress", &session->egress),
        LOG_S("plane", n2_plane_name((enum n2_plane)session->plane)),
        LOG_S("rule", session->rule ? session->rule->label : NULL),
        LOG_S("counters", closed ? NULL : "unknown"), LOG_U("up_bytes", counters->up_bytes),
        LOG_U("down_bytes", counters->down_bytes), LOG_U("up_packets", counters->up_packets),
        LOG_U("down_packets", counters->down_packets), LOG_U("drops", counters->drops),
        LOG_U("duration_ms", duration_ms), LOG_S("reason", n2_reason_name(reason)));
}

void access_log_refusal(const struct session *session, const char *why)
{
    static struct log_limit limit = LOG_LIMIT_INIT(20, 1000);
    char ptcl[9];

    LOG_LIMITED(&limit, LOG_LEVEL_INFO, "request-refused", LOG_U("session", session->id),
                LOG_E("client", &session->peer),
                LOG_S("command", n1_command_name(session->command)),
                LOG_S("ptcl", session->ptcl ? ptcl_format(session->ptcl, ptcl) : NULL),
                LOG_E("source", &session->source), LOG_E("destination", &session->destination),
                LOG_S("name", session->name), LOG_U("reply", session->reply), LOG_S("why", why));
}
