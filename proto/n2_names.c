#include "proto/n2.h"

#define NAME(table, value)                                                                         \
    ((size_t)(value) < sizeof(table) / sizeof((table)[0]) && (table)[value] ? (table)[value] : "?")

const char *n2_type_name(enum n2_type type)
{
    static const char *const names[] = {
        [N2_HELLO] = "hello",
        [N2_HELLO_ACK] = "hello-ack",
        [N2_OPEN_RELAY] = "open-relay",
        [N2_RELAY_OPENED] = "relay-opened",
        [N2_RELAY_FAILED] = "relay-failed",
        [N2_ATTACH_CLIENT] = "attach-client",
        [N2_RELAY_CONNECTED] = "relay-connected",
        [N2_AUTHORIZE] = "authorize",
        [N2_AUTHORIZED] = "authorized",
        [N2_POLICY_CHANGED] = "policy-changed",
        [N2_RELAY_STATS] = "relay-stats",
        [N2_CLOSE_RELAY] = "close-relay",
        [N2_RELAY_CLOSED] = "relay-closed",
        [N2_RELAY_EVENT] = "relay-event",
        [N2_PING] = "ping",
        [N2_PONG] = "pong",
        [N2_DRAIN] = "drain",
        [N2_CANCEL_ORDER] = "cancel-order",
    };
    return NAME(names, type);
}

const char *n2_kind_name(enum n2_kind kind)
{
    static const char *const names[] = {
        [N2_KIND_TRANSPARENT] = "transparent",
        [N2_KIND_CONNECT] = "connect",
        [N2_KIND_BIND] = "bind",
        [N2_KIND_UDP_ASSOCIATE] = "udp-associate",
    };
    return NAME(names, kind);
}

const char *n2_plane_name(enum n2_plane plane)
{
    static const char *const names[] = {
        [N2_PLANE_SOCKET] = "socket",
        [N2_PLANE_BPF] = "bpf",
    };
    return NAME(names, plane);
}

const char *n2_error_name(enum n2_error error)
{
    static const char *const names[] = {
        [N2_ERROR_GENERAL] = "general",
        [N2_ERROR_NOT_ALLOWED] = "not-allowed",
        [N2_ERROR_NETWORK_UNREACHABLE] = "network-unreachable",
        [N2_ERROR_HOST_UNREACHABLE] = "host-unreachable",
        [N2_ERROR_REFUSED] = "refused",
        [N2_ERROR_TIMED_OUT] = "timed-out",
        [N2_ERROR_UNSUPPORTED] = "unsupported",
        [N2_ERROR_DRAINING] = "draining",
    };
    return NAME(names, error);
}

const char *n2_reason_name(enum n2_reason reason)
{
    static const char *const names[] = {
        [N2_REASON_FINISHED] = "finished",
        [N2_REASON_CONTROL_CLOSED] = "control-closed",
        [N2_REASON_CLIENT_RESET] = "client-reset",
        [N2_REASON_TARGET_RESET] = "target-reset",
        [N2_REASON_ACCEPT_TIMEOUT] = "accept-timeout",
        [N2_REASON_FIN_TIMEOUT] = "fin-timeout",
        [N2_REASON_IDLE_TIMEOUT] = "idle-timeout",
        [N2_REASON_LIMIT] = "limit",
        [N2_REASON_ADMIN] = "admin",
        [N2_REASON_GUARD] = "guard",
        [N2_REASON_PEER_LOST] = "peer-lost",
        [N2_REASON_SHUTDOWN] = "shutdown",
        [N2_REASON_PLANE_LOST] = "plane-lost",
        [N2_REASON_POLICY] = "policy",
        [N2_REASON_ERROR] = "error",
    };
    return NAME(names, reason);
}

const char *n2_event_name(enum n2_event event)
{
    static const char *const names[] = {
        [N2_EVENT_TARGET_FIN] = "target-fin",
        [N2_EVENT_TARGET_RST] = "target-rst",
        [N2_EVENT_TARGET_UNREACHABLE] = "target-unreachable",
        [N2_EVENT_WRONG_SOURCE_FLOOD] = "wrong-source-flood",
        [N2_EVENT_FIRST_PACKET] = "first-packet",
    };
    return NAME(names, event);
}
