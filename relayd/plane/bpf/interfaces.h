/*
 * The interfaces that the program is attached to: those of `interfaces`, or, where it is empty,
 * every one that is no loopback and either Ethernet or without link-layer header. Follows the
 * kernel's list of links: what comes (back) is attached, what goes is forgotten.
 */
#ifndef SOCKST_RELAYD_BPF_INTERFACES_H
#define SOCKST_RELAYD_BPF_INTERFACES_H

#include "proto/admin.h"
#include "relayd/config.h"
#include "relayd/plane/bpf/program.h"

struct interfaces;

/*
 * Attaches to what is there and follows the rest on `loop`. `changed` (not NULL) is called from the
 * loop when the set that is attached has changed. Everything is borrowed. Returns 0, or -errno when
 * nothing could be attached that was asked for by name (a name that does not exist yet is no error:
 * it may come).
 */
int interfaces_open(struct interfaces **out, uv_loop_t *loop, const struct relayd_config *config,
                    struct program *program, void (*changed)(void *user), void *user);

/* May packets be taken from it and sent out there? */
bool interfaces_has(const struct interfaces *interfaces, uint32_t interface);

/* Those attached, by name, and warnings about those that should be and are not. */
void interfaces_status(const struct interfaces *interfaces, struct admin_status *out);

/* Memory goes with the last close callback. NULL is allowed. */
void interfaces_close(struct interfaces *interfaces);

#endif
