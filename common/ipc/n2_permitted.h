/*
 * Who may send what on N2, and when: the table that both sides judge by (N2.md). Like a
 * privilege-separation monitor, a side takes only what its peer has reason to send in this state.
 */
#ifndef SOCKST_COMMON_IPC_N2_PERMITTED_H
#define SOCKST_COMMON_IPC_N2_PERMITTED_H

#include <stdbool.h>

#include "common/ipc/n2_link.h"

/* May this side, before (`up` false) or after Hello and HelloAck, receive a message of the type? */
bool n2_receives(enum n2_role role, bool up, enum n2_type type);

/* May it send one? What the peer receives. */
bool n2_sends(enum n2_role role, bool up, enum n2_type type);

/* Is it a request that one of the other types answers? */
bool n2_is_request(enum n2_type type);

/* Is it the answer to some request? */
bool n2_is_answer(enum n2_type type);

/* Does `answer` answer `request`? */
bool n2_answers(enum n2_type answer, enum n2_type request);

#endif
