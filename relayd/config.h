/*
 * relayd.yaml as a struct, and the schema that fills it. One file serves the relayd of every PTCL.
 */
#ifndef SOCKST_RELAYD_CONFIG_H
#define SOCKST_RELAYD_CONFIG_H

#include "common/config/schema.h"
#include "common/log/log.h"

#define RELAYD_ALLOW_USERS_MAX 64
#define RELAYD_INTERFACES_MAX 256
#define INTERFACE_NAME_MAX 15 /* IFNAMSIZ without its end */

enum plane_choice { PLANE_AUTO, PLANE_SOCKET, PLANE_BPF };
enum fragments_choice { FRAGMENTS_REASSEMBLE, FRAGMENTS_DROP };
enum guard_action { GUARD_EVENT, GUARD_CLOSE };

struct relayd_config {
    struct {
        char *directory;
        struct config_list allow_users; /* char *: names or numbers of uids */
    } n2;
    struct {
        char *directory;
        char *group; /* may ask besides root and our own uid; NULL: nobody */
    } admin;
    int plane; /* enum plane_choice */
    struct config_list
        interfaces; /* char *: where the BPF plane attaches; empty: wherever it can */
    struct {
        struct config_list addresses; /* struct ip_address; empty: the host's own */
        struct config_list advertise; /* struct config_address_pair: private: public */
        struct config_list ports;     /* struct port_range */
    } bind;
    struct {
        struct config_list addresses; /* empty: the kernel chooses by route */
        struct config_list ports;     /* empty: the kernel's ephemeral ports */
    } egress;
    struct {
        uint64_t connect_timeout_ms, accept_timeout_ms, bind_timeout_ms, fin_timeout_ms;
        uint64_t pipe_size; /* octets, of an active stream's pipe */
    } tcp;
    struct {
        uint64_t idle_timeout_ms; /* 0: the control connection alone decides */
        uint64_t
            receive_buffer;    /* octets, SO_RCVBUF of a flow's sockets; 0: the kernel's default */
        uint64_t destinations; /* that an association remembers */
        int fragments;         /* enum fragments_choice */
        bool full_cone;        /* replies from anybody */
    } udp;
    struct {
        uint64_t wrong_source_per_second; /* 0: off */
        int action;                       /* enum guard_action */
    } guard;
    struct {
        struct config_list open; /* struct ip_prefix */
    } deny_floor;
    struct {
        uint64_t relays;
    } limits;
    struct {
        int level;  /* enum log_level */
        int format; /* enum log_format */
    } log;
};

extern const struct config_option relayd_schema[];

/* The words of `plane`, also for the command line. */
extern const struct config_keyword relayd_plane_keywords[];

#endif
