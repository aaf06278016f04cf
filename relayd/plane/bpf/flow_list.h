/*
 * Lists of flows by their index: eight octets in each flow. A flow is in one list at a time.
 */
#ifndef SOCKST_RELAYD_BPF_FLOW_LIST_H
#define SOCKST_RELAYD_BPF_FLOW_LIST_H

#include <stdint.h>

struct flow;

#define FLOW_NONE UINT32_MAX

struct flow_link {
    uint32_t next, previous; /* FLOW_NONE: none */
};

struct flow_list {
    uint32_t first, last; /* FLOW_NONE: empty */
    uint32_t count;
};

void flow_list_init(struct flow_list *list);
void flow_list_append(struct flow_list *list, struct flow *flows, uint32_t index);
/* It must be in this list. */
void flow_list_remove(struct flow_list *list, struct flow *flows, uint32_t index);

#endif
