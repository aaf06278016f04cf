#include "relayd/plane/bpf/flow_list.h"

#include "relayd/plane/bpf/flow.h"

void flow_list_init(struct flow_list *list)
{
    *list = (struct flow_list){.first = FLOW_NONE, .last = FLOW_NONE};
}

void flow_list_append(struct flow_list *list, struct flow *flows, uint32_t index)
{
    flows[index].link = (struct flow_link){.next = FLOW_NONE, .previous = list->last};
    if (list->last == FLOW_NONE)
        list->first = index;
    else
        flows[list->last].link.next = index;
    list->last = index;
    list->count++;
}

void flow_list_remove(struct flow_list *list, struct flow *flows, uint32_t index)
{
    const struct flow_link link = flows[index].link;

    if (link.previous == FLOW_NONE)
        list->first = link.next;
    else
        flows[link.previous].link.next = link.next;
    if (link.next == FLOW_NONE)
        list->last = link.previous;
    else
        flows[link.next].link.previous = link.previous;
    list->count--;
}
